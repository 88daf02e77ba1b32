"""An adapter that needs no privileges: the tun device lives in a network namespace of its own.

A socket keeps the namespace it was made in, so this process, outside, reaches hosts behind the
gateway with sockets that the process inside hands out, and the kernel does TCP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any, cast

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import IReactorFDSet
from zope.interface import implementer

from anyvpn.backends.adapter_namespace_inside import Inside, NamespaceReactor
from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IAdapter, IAdapterBackend, IInnerNetwork
from anyvpn.model.adapter import AdapterSettings
from anyvpn.tun.descriptor import OpenedTun, adopt_descriptor
from anyvpn.tun.device import LinuxTunDevice

# Ours
CONNECT_TIME_S = 30.0
MOST_CONNECTING = 128
"""So many are on their way at a time; the others wait for their turn."""
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
_FAILURES: Mapping[str, type[ConnectError]] = {
    "timed out": TCPTimedOutError,
    "refused": ConnectionRefusedError,
    "unreachable": NoRouteError,
}


@attrs.frozen
class Settings:
    """Nothing but the offloads."""

    offloads: bool = attrs.field(
        default=True,
        metadata={"help": "Let the kernel hand over and take up to 64 KB of a flow at once."},
    )


def build(settings: Settings, reactor: IReactorFDSet) -> NamespaceAdapterBackend:
    """The backend that makes adapters without privileges."""
    return NamespaceAdapterBackend(settings, cast(NamespaceReactor, reactor))


@implementer(IAdapterBackend)
class NamespaceAdapterBackend:
    """Starts a process for each adapter, which has the namespaces."""

    def __init__(self, settings: Settings, reactor: NamespaceReactor) -> None:
        self._settings = settings
        self._reactor = reactor

    async def open(self, settings: AdapterSettings) -> NamespaceAdapter:
        """An adapter that is up. Raises: TunUnavailable: what the system forbids."""
        wanted = describe(settings, self._settings.offloads)
        inside = Inside(self._reactor, wanted)
        try:
            descriptor = await inside.ready
        except Exception:
            inside.close()
            await inside.ended()
            raise
        opened = adopt_descriptor(descriptor)
        return NamespaceAdapter(self._reactor, opened, inside, wanted, settings.mtu_bytes)


@implementer(IAdapter, IInnerNetwork)
class NamespaceAdapter(LinuxTunDevice):
    """The device inside, and the way to what is behind it."""

    def __init__(
        self,
        reactor: NamespaceReactor,
        opened: OpenedTun,
        inside: Inside,
        applied: Mapping[str, Any],
        mtu_bytes: int,
    ) -> None:
        super().__init__(reactor, opened, mtu_bytes, inside.close)
        inside.on_lost = self._lost
        self._clock = reactor
        self._inside = inside
        self._applied = applied
        self._turns = DeferredSemaphore(MOST_CONNECTING)

    def _lost(self, reason: str) -> None:
        self.on_lost(reason)

    async def apply(self, settings: AdapterSettings) -> None:
        """Change what is different. Raises: TunUnavailable."""
        wanted = describe(settings, bool(self._applied["offloads"]))
        if wanted != self._applied:
            answer, _ = await self._inside.ask({"do": "apply", "settings": wanted})
            if "failure" in answer:
                raise TunUnavailable(str(answer["why"]))
            self._applied = wanted
            self.mtu_bytes = settings.mtu_bytes

    async def prepare_reconnect(self) -> None:
        """The host's own network is not touched, so there is nothing to prepare."""

    async def close(self) -> None:
        """Remove the device; what runs inside is asked to end, then made to."""
        await super().close()
        await self._inside.ended()

    async def connect(self, host: str, port: int, timeout_s: float = CONNECT_TIME_S) -> int:
        """The descriptor of a connected, non-blocking TCP socket to a host behind the gateway.

        Raises: twisted.internet.error.ConnectError: refused, unreachable, timed out.
        Raises: twisted.internet.error.DNSLookupError: there is no such host.
        Raises: TunUnavailable: the network is gone.
        """
        if not 0 < port <= 0xFFFF:
            raise _failure("failed", f"there is no port {port}")
        if not host.isprintable():  # resolvers look up what comes before a zero byte
            raise DNSLookupError(f"{host!r} is no name")
        request = {"do": "connect", "host": host, "port": port, "timeout_s": timeout_s}
        asked = Deferred.fromCoroutine(self._ask_in_turn(request))
        try:
            answer, descriptor = await asked.addTimeout(timeout_s, self._clock)
        except defer.TimeoutError:
            raise _failure("timed out", f"{host} did not answer in time") from None
        if descriptor >= 0:
            return descriptor
        kind, why = str(answer["failure"]), f"{host}: {answer['why']}"
        if kind == "no such host":
            raise DNSLookupError(why)
        raise _failure(kind, why)

    async def run(self, command: Sequence[str]) -> int:
        """Run a command inside, at this process's terminal; gives its exit status.

        Raises: TunUnavailable: it cannot be started, or the namespace is gone.
        """
        answer, _ = await self._inside.ask({"do": "run", "command": list(command)})
        if "failure" in answer:
            raise TunUnavailable(f"{command[0]} cannot be run: {answer['why']}")
        return int(answer["status"])

    async def _ask_in_turn(self, request: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
        await self._turns.acquire()
        try:
            return await self._inside.ask(request)
        finally:
            self._turns.release()


def _failure(kind: str, why: str) -> ConnectError:
    failure: ConnectError = _FAILURES.get(kind, ConnectError)(string=why)
    return failure


def describe(settings: AdapterSettings, offloads: bool) -> dict[str, Any]:
    """What the process inside is told.

    What is not to go through the tunnel is unreachable from inside: there is no other way.
    """
    granted = settings.granted
    leases = [each for each in (granted.lease.ipv4, granted.lease.ipv6) if each is not None]
    families = {each.version for each in leases}
    routes = [str(each) for each in granted.split_include if each.version in families]
    if granted.split_include:
        routes += [str(each.network) for each in leases]
        routes += [str(ip_network(each)) for each in granted.dns if each.version in families]
    else:
        routes += [_EVERYTHING[each] for each in sorted(families)]
    excluded = (each for each in granted.split_exclude if each.version in families)
    return {
        "offloads": offloads,
        "addresses": [str(each) for each in leases],
        "mtu_bytes": settings.mtu_bytes,
        "routes": list(dict.fromkeys(routes)),
        "unreachable": list(dict.fromkeys(str(each) for each in excluded)),
        "dns": [str(each) for each in granted.dns],
        "search": [each for each in granted.default_domain.split() if each.isprintable()],
    }
