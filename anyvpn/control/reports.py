"""Looks at a running gateway, and says what it sees as values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from anyvpn import __version__
from anyvpn.control.status import DeviceStatus, EngineStatus, GatewayStatus, SessionStatus
from anyvpn.gateway.gateway import Gateway
from anyvpn.gateway.session import Session
from anyvpn.interfaces import ITunDevice
from anyvpn.model.events import Counters
from anyvpn.model.session import Connected, Dormant, Ended, Granted, SessionState
from anyvpn.packets.engine import PythonPacketEngine

_STATES: dict[type[SessionState], str] = {
    Granted: "granted",
    Connected: "connected",
    Dormant: "dormant",
    Ended: "ended",
}
_DROPPED = "dropped_"
_DROPS = [each.name for each in fields(Counters) if each.name.startswith(_DROPPED)]


@dataclass(frozen=True, slots=True)
class Reports:
    """What can be asked of a gateway, at any moment and without stopping anything."""

    gateway: Gateway
    engine: PythonPacketEngine
    device: ITunDevice
    name: str
    listen: tuple[str, ...]
    dtls_port: int
    started_at_s: float
    seconds: Callable[[], float]

    def gateway_status(self) -> GatewayStatus:
        """The gateway as a whole."""
        counted = Counter(_state(each) for each in self.gateway.sessions())
        totals = self.engine.totals()
        device = self.device
        return GatewayStatus(
            name=self.name,
            version=__version__,
            process_id=os.getpid(),
            started_at_s=self.started_at_s,
            uptime_s=self.seconds() - self.started_at_s,
            engine=EngineStatus(
                self.engine.name,
                self.engine.cipher_library,
                totals.threads,
                totals.unroutable_packets,
                totals.dropped_events,
            ),
            listen=self.listen,
            dtls_port=self.dtls_port,
            device=DeviceStatus(device.name, device.mtu_bytes, device.vnet_header_bytes > 0),
            sessions={name: counted[name] for name in ("granted", "connected", "dormant")},
            logins_in_progress=self.gateway.logins_in_progress,
        )

    def sessions(self, at_a_time: int) -> Iterator[list[SessionStatus]]:
        """Every session in the order of their logins, as many at a time.

        Those that end while others are looked at are left out.
        """
        found = self.gateway.sessions()
        for start in range(0, len(found), at_a_time):
            some = found[start : start + at_a_time]
            yield [
                _session_status(each) for each in some if not isinstance(each.record.state, Ended)
            ]


def _state(session: Session) -> str:
    return _STATES[type(session.record.state)]


def _session_status(session: Session) -> SessionStatus:
    record, tunnel = session.record, session.tunnel
    counters = session.counters
    channel = cipher = ""
    if tunnel is not None:
        counters = counters.plus(tunnel.counters())
        name, cipher = tunnel.data_channel()
        channel = name.value
    lease, state = record.lease, record.state
    return SessionStatus(
        session_id=record.session_id,
        user=record.identity.user,
        profile=record.profile,
        policy=record.policy.name,
        state=_state(session),
        addresses=() if lease is None else tuple(str(each) for each in lease.addresses),
        peer=record.peer_address,
        hostname=record.hostname,
        channel=channel,
        cipher=cipher,
        connected_at_s=state.since_s if isinstance(state, Connected) else 0.0,
        received_bytes=counters.received_bytes,
        sent_bytes=counters.sent_bytes,
        drops={name.removeprefix(_DROPPED): getattr(counters, name) for name in _DROPS},
    )
