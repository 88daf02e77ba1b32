"""The backends that ship in the box; each uses the public interfaces only."""
