"""What a gateway tells its operator, as values and as JSON; no secret is in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cattrs import BaseValidationError
from cattrs.preconf.json import make_converter

from anyvpn.errors import ControlFailed

Value = TypeVar("Value")

# Ours
STATUS_PATH = "/status"
SESSIONS_PATH = "/sessions"
CONNECTION_TIME_S = 30.0
"""How long a question and its answer may take together."""

_CONVERTER = make_converter()


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The packet engine, and what belongs to no session.

    `cipher_library` is what seals and opens with AES-GCM, `threads` are those that it has besides
    the reactor's. `unroutable_packets` came from the tun device for nobody; `dropped_events` is
    what the engine had no room to tell.
    """

    name: str
    cipher_library: str
    threads: int
    unroutable_packets: int
    dropped_events: int


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """The tun device."""

    name: str
    mtu_bytes: int
    has_offloads: bool


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway as a whole; moments are Unix seconds, a DTLS port of 0 is none.

    `sessions` counts them by their state.
    """

    name: str
    version: str
    process_id: int
    started_at_s: float
    uptime_s: float
    engine: EngineStatus
    listen: tuple[str, ...]
    dtls_port: int
    device: DeviceStatus
    sessions: dict[str, int]
    logins_in_progress: int


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session; "received" is from its client, `drops` are packets by reason.

    `connected_at_s`, `channel` and `cipher` are of its tunnel: 0 and empty when there is none.
    The counters are of all its tunnels.
    """

    session_id: int
    user: str
    profile: str
    policy: str
    state: str
    addresses: tuple[str, ...]
    peer: str
    hostname: str
    channel: str
    cipher: str
    connected_at_s: float
    received_bytes: int
    sent_bytes: int
    drops: dict[str, int]


def write_json(value: GatewayStatus | Iterable[SessionStatus]) -> str:
    """As programs read it, on one line."""
    return str(_CONVERTER.dumps(value))


def read_json(content: bytes, kind: type[Value]) -> Value:
    """What `write_json` has written; keys of later versions are left out.

    Raises: ControlFailed: it is something else.
    """
    try:
        found: Any = _CONVERTER.loads(content.decode("utf-8"), kind)
    except (BaseValidationError, ValueError, TypeError, RecursionError) as error:
        raise ControlFailed(
            "the answer cannot be understood: another program, or another version of anyvpn"
        ) from error
    return found  # type: ignore[no-any-return]  # the library promises nothing
