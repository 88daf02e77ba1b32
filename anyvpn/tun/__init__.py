"""Tun devices of the Linux kernel: opening one, and moving packets through it."""
