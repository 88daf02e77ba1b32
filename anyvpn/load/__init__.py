"""Load: many sessions of one process at a gateway, to find out what its machine can bear."""
