"""The client's tun device on Linux, with its addresses, routes and resolvers set by netlink."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.backends.adapter_linux_journal import DEFAULT_DIRECTORY, Journal, clean_up
from anyvpn.backends.adapter_linux_network import HostNetwork
from anyvpn.backends.adapter_linux_plan import SMALLEST_IPV6_MTU_BYTES, make_plan
from anyvpn.backends.adapter_linux_resolvers import Resolvers
from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.tun.descriptor import OpenedTun, open_descriptor
from anyvpn.tun.device import LinuxTunDevice
from anyvpn.tun.link_watch import LinkWatch

log = Logger()
_Result = TypeVar("_Result")

_DEVICE_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,15}|[A-Za-z0-9_.-]{1,12}%d")


def _is_device(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _DEVICE_PATTERN.fullmatch(value):
        raise ValueError(
            f"{attribute.name} must be at most 15 letters, digits and . _ -, or end in %d, "
            f"not {value!r}"
        )


@attrs.frozen
class Settings:
    """The device and where its traces are kept."""

    device: str = attrs.field(
        default="anyvpn%d",
        validator=_is_device,
        metadata={"help": "Name of the tun device; %d stands for the first free number."},
    )
    offloads: bool = attrs.field(
        default=True,
        metadata={"help": "Let the kernel hand over and take up to 64 KB of a flow at once."},
    )
    dns: bool = attrs.field(
        default=True, metadata={"help": "Ask the resolvers that the gateway names."}
    )
    resolv_conf: Path = attrs.field(
        default=Path("/etc/resolv.conf"),
        metadata={"help": "The file to write resolvers to where systemd-resolved does not run."},
    )
    state_directory: Path = attrs.field(
        default=DEFAULT_DIRECTORY,
        metadata={"help": "Where it is noted what has to be undone after a crash."},
    )


def build(settings: Settings, reactor: IReactorFDSet) -> LinuxAdapterBackend:
    """The backend that makes adapters by these settings."""
    return LinuxAdapterBackend(settings, reactor)


@implementer(IAdapterBackend)
class LinuxAdapterBackend:
    """Makes adapters in the network namespace of its caller; needs CAP_NET_ADMIN."""

    def __init__(self, settings: Settings, reactor: IReactorFDSet) -> None:
        self._settings = settings
        self._reactor = reactor

    async def open(self, settings: AdapterSettings) -> LinuxAdapter:
        """An adapter that is up; what crashed clients have left is undone first.

        Raises: TunUnavailable: the text says what would help.
        """
        own = self._settings
        for line in await _in_thread(lambda: clean_up(own.state_directory)):
            log.info("Left by a client that is gone: {what}", what=line)
        opened = open_descriptor(own.device, own.offloads)
        adapter = LinuxAdapter(self._reactor, opened, settings.mtu_bytes, own)
        try:
            await adapter.apply(settings)
            adapter.watch()
        except BaseException:
            await adapter.close()
            raise
        return adapter


@implementer(IAdapter)
class LinuxAdapter(LinuxTunDevice):
    """A tun device and what belongs to it on its host."""

    def __init__(
        self, reactor: IReactorFDSet, opened: OpenedTun, mtu_bytes: int, settings: Settings
    ) -> None:
        super().__init__(reactor, opened, mtu_bytes)
        self._journal = Journal(settings.state_directory, opened.name, settings.resolv_conf)
        self._network = HostNetwork(opened.name, self._journal.write)
        self._resolvers = Resolvers(opened.name, settings.resolv_conf) if settings.dns else None
        self._turn = Lock()
        """A change whose waiter was cancelled is still finished before the next one begins."""
        self._watch: LinkWatch | None = None

    def watch(self) -> None:
        """From now on, have everything again whenever somebody has set the device down and up."""
        self._watch = LinkWatch(
            *(self._reactor, self.name, self._restore),
            meanwhile="packets take this host's other ways, past the tunnel,",
        )

    async def apply(self, settings: AdapterSettings) -> None:
        """Change what is different from before. Raises: TunUnavailable."""

        plan = make_plan(settings)
        if settings.granted.lease.ipv6 not in (None, *plan.addresses):
            log.warn(
                "IPv6 is left out: it needs an MTU of {needed} bytes, the tunnel has {mtu}",
                needed=SMALLEST_IPV6_MTU_BYTES,
                mtu=settings.mtu_bytes,
            )

        def apply() -> None:
            self._network.apply(plan)
            if self._resolvers is not None:
                self._journal.write(())
                self._resolvers.apply(settings.granted)

        await self._in_turn(apply)
        self.mtu_bytes = settings.mtu_bytes

    async def prepare_reconnect(self) -> None:
        """Let routes past the tunnel take the host's present ways. Raises: TunUnavailable."""
        await self._in_turn(self._network.refresh_outside)

    async def close(self) -> None:
        """Undo everything; closing twice does no harm."""
        if self._watch is not None:
            self._watch.close()

        def undo() -> None:
            if self._resolvers is not None:
                self._resolvers.undo()
            self._network.undo()
            self._journal.remove()

        try:
            await self._in_turn(undo)
        finally:
            await super().close()

    async def _restore(self) -> None:
        await self._in_turn(self._network.restore)

    async def _in_turn(self, work: Callable[[], None]) -> None:
        def work_alone() -> None:
            with self._turn:
                work()

        await _in_thread(work_alone)


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    """Netlink and files may wait, and pyroute2's event loop must not meet one of the reactor's."""
    return await deferToThread(work)
