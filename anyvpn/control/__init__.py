"""The operator's side: what runs, told on a socket of the gateway's host."""
