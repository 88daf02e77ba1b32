"""Behaviour proved against Debian's openconnect, in network namespaces."""
