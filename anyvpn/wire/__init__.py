"""Bytes to model values and back, without I/O."""
