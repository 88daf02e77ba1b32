"""One connection to a directory's server, at work: operations, and what they came to.

Everything here blocks, so it runs in the backend's own threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ldap3
from ldap3.extend.standard.modifyPassword import ModifyPassword

from anyvpn.errors import BackendFailed
from anyvpn.model.printable import printable

# From the protocol: RFC 4511, appendix A: what another server may do better
_TRY_ANOTHER = frozenset(
    (
        1,  # operationsError
        3,  # timeLimitExceeded
        51,  # busy
        52,  # unavailable
        80,  # other
    )
)
_REFERRAL = 10
_SCHEMES = {"ldaps": 636, "ldap": 389}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One server; a connection without `tls` from the start gets StartTLS, unless `plaintext`."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to reach the servers, and as whom; times in seconds."""

    servers: tuple[ServerAddress, ...]
    ca_file: Path | None = None
    plaintext: bool = False
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    connect_time_s: float = 5.0
    time_s: float = 10.0
    retry_after_s: float = 15.0
    referrals: bool = False


class ServerFailed(Exception):
    """This server cannot do it, another one may; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one operation, with the entries that it found."""

    code: int
    description: str
    message: str
    entries: tuple[Mapping[str, Any], ...]
    controls: Mapping[str, bytes]


def read_server(url: str) -> ServerAddress:
    """A server's URL, such as ldaps://ldap.example.com. Raises: ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(
            f'"{url}" is not a server such as "ldaps://ldap.example.com" or '
            '"ldap://ldap.example.com:389"'
        )
    return ServerAddress(
        parts.hostname, parts.port or _SCHEMES[parts.scheme], parts.scheme == "ldaps"
    )


class Connection:
    """One connection at work."""

    def __init__(self, raw: Any, settings: ConnectionSettings) -> None:
        self._raw = raw
        self._settings = settings

    def bind_as_service(self) -> None:
        """Become whoever may search. Raises: BackendFailed: the directory does not let us."""
        own = self._settings
        reply = self.bind(own.bind_dn, own.bind_password)
        if reply.code:
            who = own.bind_dn or "nobody"
            raise BackendFailed(
                f"the directory does not let {who} in: {reply.description} {reply.message}".rstrip()
            )

    def bind(self, dn: str, password: str, controls: Any = None) -> Reply:
        """Become somebody; an empty name is nobody."""
        if not dn:
            done = self._raw.rebind(
                authentication=ldap3.ANONYMOUS, read_server_info=False, controls=controls
            )
        else:
            done = self._raw.rebind(
                user=dn,
                password=password.encode("utf-8"),
                authentication=ldap3.SIMPLE,
                read_server_info=False,
                controls=controls,
            )
        return self._reply(done)

    def search(
        self, base: str, search_filter: str, attributes: list[str], *, only_base: bool = False
    ) -> Reply:
        """Entries below `base`, or this one alone; never more than a few hundred."""
        own = self._settings
        self._raw.auto_referrals = own.referrals
        done = self._raw.search(
            base,
            search_filter,
            search_scope=ldap3.BASE if only_base else ldap3.SUBTREE,
            attributes=attributes,
            size_limit=500,
            time_limit=max(1, int(own.time_s)),
        )
        self._raw.auto_referrals = False
        return self._reply(done)

    def change_password(self, dn: str, old: str, new: str, controls: Any = None) -> Reply:
        """Change a password by RFC 3062."""
        operation = ModifyPassword(
            self._raw, dn, old.encode("utf-8"), new.encode("utf-8"), controls=controls
        )
        operation.send()
        return self._reply((None, operation.result, None, None))

    def _reply(self, done: Any) -> Reply:
        _, result, response, _ = done
        code = int(result["result"])
        if code in _TRY_ANOTHER:
            said = f"{result['description']} {result['message'] or ''}"
            raise ServerFailed(printable(said)[:200])
        entries = tuple(each for each in response or () if each.get("type") == "searchResEntry")
        controls = {
            oid: each["value"]
            for oid, each in (result.get("controls") or {}).items()
            if isinstance(each.get("value"), bytes)
        }
        if code == _REFERRAL:
            entries = ()
        message = printable(str(result["message"] or ""))[:200]
        return Reply(code, str(result["description"]), message, entries, controls)
