"""Aggregate authentication on the wire: the four functions that both sides use.

What clients post is in `authentication_client`, what gateways answer in
`authentication_gateway`; the forms of version 1 clients, which are no XML, are in `forms`.
"""

from __future__ import annotations

from anyvpn.wire.authentication_client import read_client_message, write_client_message
from anyvpn.wire.authentication_gateway import read_gateway_message, write_gateway_message

__all__ = [
    "read_client_message",
    "read_gateway_message",
    "write_client_message",
    "write_gateway_message",
]
