"""Which addresses of a gateway may be handed to a browser."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Ours
_LONGEST_CHARACTERS = 8192
_PLAIN = re.compile(r"[!#-;=?-\[\]_a-z~%]+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def browser_origin(address: str) -> str:
    """Scheme, host and port of an address that a browser may open; empty for any other.

    Encrypted ones, and plain ones of this very host; nothing that a browser or a script that
    opens it could read as something else than an address.
    """
    if len(address) > _LONGEST_CHARACTERS or _PLAIN.fullmatch(address) is None:
        return ""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    is_allowed = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not is_allowed or not host or parts.username is not None:
        return ""
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"
