"""The AnyConnect SSL VPN, both sides, as a Twisted plugin framework."""

__version__ = "0.1.0"
