"""Every backend, with the contract of its kind."""
