"""What `make run` shows."""
