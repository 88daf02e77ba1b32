"""CONNECT and its answer on the wire: the four functions that both sides use.

What clients send is in `tunnel_offer`, what gateways answer in `tunnel_grant_write` and
`tunnel_grant_read`.
"""

from __future__ import annotations

from anyvpn.wire.tunnel_grant_read import read_settings
from anyvpn.wire.tunnel_grant_write import write_settings
from anyvpn.wire.tunnel_offer import read_offer, write_offer

__all__ = ["read_offer", "read_settings", "write_offer", "write_settings"]
