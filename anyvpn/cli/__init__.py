"""The `anyvpn` command."""
