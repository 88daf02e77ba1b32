"""Why a TLS connection failed, in the words of a log line."""

from __future__ import annotations

from OpenSSL import SSL

# From OpenSSL's texts of its reasons
_PLAIN_HTTP = ("http request", "https proxy request")
_NOT_TLS = ("wrong version number", "packet length too long", "bad record type")


def reason_in(error: SSL.Error) -> str:
    """The reason of the first entry of OpenSSL's error queue; without one, the peer went away."""
    entries = error.args[0] if error.args else ()
    if isinstance(entries, list | tuple) and entries:
        return str(entries[0][-1])
    return "the peer closed the connection"


def handshake_failure(error: SSL.Error) -> str:
    """Why there is no TLS connection."""
    reason = reason_in(error)
    if reason in _PLAIN_HTTP:
        return "no TLS: the peer spoke plain HTTP"
    if reason in _NOT_TLS:
        return f"no TLS: what the peer sent is something else ({reason})"
    return f"TLS handshake failed: {reason}"
