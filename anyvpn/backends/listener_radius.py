"""Tells RADIUS servers when sessions start, how they go on, and when they end (RFC 2866)."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.backends import radius_packets as packets
from anyvpn.backends.accounting import END_TIME_S, Lanes, SessionFacts, session_facts
from anyvpn.backends.radius_client import Patience, RadiusClient
from anyvpn.backends.radius_settings import ClientSettings, read_servers
from anyvpn.errors import BackendFailed
from anyvpn.interfaces import IEventListener
from anyvpn.model.authentication import Identity
from anyvpn.model.events import Event, EventKind
from anyvpn.model.session import EndReason

log = Logger()

# From the protocol: RFC 2866, sections 5.1 and 5.10
_STATUS = {
    EventKind.SESSION_STARTED: 1,
    EventKind.SESSION_ENDED: 2,
    EventKind.SESSION_PROGRESS: 3,
}
_CAUSES = {
    EndReason.GOODBYE: 1,  # User Request
    EndReason.LOGOUT: 1,
    EndReason.NOT_RESUMED: 2,  # Lost Carrier
    EndReason.IDLE: 4,  # Idle Timeout
    EndReason.SESSION_TIMEOUT: 5,
    EndReason.KICKED: 6,  # Admin Reset
    EndReason.GATEWAY_STOPPED: 7,  # Admin Reboot
    EndReason.ADDRESSES_TAKEN: 10,  # NAS Request
}
_ACCOUNTING_PORT = 1813

# Ours
LANES = 16


@attrs.frozen
class Settings(ClientSettings):
    """The servers, and who we are to them."""

    retry_after_s: float = attrs.field(
        default=30.0, metadata={"help": "When all servers are silent: seconds until the next try."}
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.retry_after_s <= 0:
            raise ValueError("retry_after_s must be more than 0")


def build(settings: Settings, reactor: Any) -> RadiusAccounting:
    """What the configuration `backend = "radius"` makes. Raises: ConfigurationError."""
    patience = Patience(
        settings.tries, settings.time_s, settings.retry_after_s, needs_authenticator=False
    )
    servers = read_servers(settings.servers, _ACCOUNTING_PORT)
    return RadiusAccounting(settings, RadiusClient(reactor, servers, patience), reactor)


@implementer(IEventListener)
class RadiusAccounting:
    """What one session has to tell goes out in order, and again until it is acknowledged."""

    def __init__(self, settings: Settings, client: RadiusClient, reactor: Any) -> None:
        self._settings = settings
        self._client = client
        self._reactor = reactor
        self._is_waiting = False
        self._lanes = Lanes("RADIUS accounting", self._tell, count=LANES)
        reactor.addSystemEventTrigger("during", "shutdown", self.close)

    def event_happened(self, event: Event) -> None:
        """Tell the servers soon."""
        facts = session_facts(event)
        if facts is not None:
            cause = _CAUSES.get(event.reason) if event.reason is not None else None
            self._lanes.put(facts.record.accounting_id, (facts, cause))

    def close(self) -> Deferred[None]:
        """Let what waits go out, for some time."""
        done = self._lanes.finished()
        done.addTimeout(END_TIME_S, self._reactor)
        done.addErrback(
            lambda _: log.warn(
                "RADIUS accounting: {count} requests were not acknowledged before the end",
                count=len(self._lanes),
            )
        )
        return done

    async def _tell(self, item: tuple[SessionFacts, int | None]) -> None:
        facts, cause = item
        while True:
            try:
                await self._client.ask(
                    lambda server: packets.accounting_request(
                        server.secret, self._attributes(facts, cause)
                    )
                )
            except BackendFailed as error:
                if facts.kind is EventKind.SESSION_PROGRESS:
                    return  # the next report says all that this one does
                if not self._is_waiting:
                    log.warn("RADIUS accounting waits: {problem}", problem=str(error))
                self._is_waiting = True
            else:
                if self._is_waiting:
                    log.info("RADIUS accounting goes on")
                self._is_waiting = False
                return
            await deferLater(self._reactor, self._settings.retry_after_s)

    def _attributes(self, facts: SessionFacts, cause: int | None) -> dict[str, object]:
        record = facts.record
        attributes: dict[str, object] = {
            "Acct-Status-Type": _STATUS[facts.kind],
            "Acct-Session-Id": record.accounting_id,
            "User-Name": packets.clipped(_user_name(record.identity)),
            **self._settings.about(record.peer_address),
            "Event-Timestamp": int(facts.at_s),
            "Acct-Delay-Time": max(0, int(self._reactor.seconds() - facts.at_s)),
        }
        for text in facts.addresses:
            is_ipv4 = ip_address(text).version == 4
            attributes["Framed-IP-Address" if is_ipv4 else "Framed-IPv6-Address"] = text
        classes = tuple(map(_octets, record.identity.attributes.get("Class", ())))
        classes = tuple(each for each in classes if len(each) <= packets.LONGEST_TEXT_BYTES)
        if classes:
            attributes["Class"] = classes
        if facts.kind is not EventKind.SESSION_STARTED:
            counters = record.counters
            attributes |= {
                "Acct-Session-Time": int(facts.duration_s),
                "Acct-Input-Octets": counters.received_bytes & 0xFFFFFFFF,
                "Acct-Input-Gigawords": counters.received_bytes >> 32,
                "Acct-Output-Octets": counters.sent_bytes & 0xFFFFFFFF,
                "Acct-Output-Gigawords": counters.sent_bytes >> 32,
                "Acct-Input-Packets": counters.received_packets & 0xFFFFFFFF,
                "Acct-Output-Packets": counters.sent_packets & 0xFFFFFFFF,
            }
        if cause is not None:
            attributes["Acct-Terminate-Cause"] = cause
        return attributes


def _user_name(identity: Identity) -> str:
    """As the server has called the user at the login (RFC 2865, section 5.1)."""
    return next(iter(identity.attributes.get("User-Name", ())), identity.user)


def _octets(value: str) -> bytes:
    """A Class as it came: the authenticator writes octets as 0x and hex."""
    if value.startswith("0x"):
        with suppress(ValueError):
            return bytes.fromhex(value[2:])
    return value.encode("utf-8")
