"""The client: phases 1 to 6 against a gateway, and what keeps the tunnel up after them."""
