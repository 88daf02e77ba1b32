"""A tun device of the Linux kernel, with its offloads, addresses and routes, and optional NAT.

Everything that needs privileges happens in `open`, before the reactor runs: nothing there waits
for the reactor. What was made goes when its descriptors are closed, so it is gone even after
the gateway was killed, and `close` works without privileges. The exception are routes to
networks behind clients that come and go with them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from threading import Lock

import attrs
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.backends.tun_linux_forwarding import look_after_forwarding
from anyvpn.backends.tun_linux_nat import AddressTranslation
from anyvpn.backends.tun_linux_network import (
    ClientRoutes,
    configure_device,
    restore_addresses,
)
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IRoutedTunDevice, ITunBackend
from anyvpn.model.group_policy import Network
from anyvpn.tun.descriptor import OpenedTun, open_descriptor
from anyvpn.tun.device import LinuxTunDevice
from anyvpn.tun.link_watch import LinkWatch

log = Logger()

# From Linux: IFNAMSIZ, with room for the number that stands for %d
_DEVICE_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,15}|[A-Za-z0-9_.-]{1,12}%d")
MOST_QUEUES = 16
_INTERFACE_PATTERN = re.compile(r"[A-Za-z0-9_.@:+-]{1,15}|")
FORWARDING_CHOICES = ("check", "enable", "ignore")


def _matches(pattern: re.Pattern[str], meaning: str) -> Callable[..., None]:
    def validate(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        if not pattern.fullmatch(value):
            raise ValueError(f"{attribute.name} must be {meaning}, not {value!r}")

    return validate


def _is_count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 1 <= value <= MOST_QUEUES:
        raise ValueError(f"{attribute.name} must lie between 1 and {MOST_QUEUES}")


def _is_forwarding_choice(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value not in FORWARDING_CHOICES:
        choices = ", ".join(f'"{each}"' for each in FORWARDING_CHOICES)
        raise ValueError(f"{attribute.name} must be one of {choices}, not {value!r}")


@attrs.frozen
class Settings:
    """The `[tun]` table of the configuration."""

    device: str = attrs.field(
        default="anyvpn%d",
        validator=_matches(_DEVICE_PATTERN, "at most 15 letters, digits and . _ -, or end in %d"),
        metadata={"help": "Name of the tun device; %d stands for the first free number."},
    )
    offloads: bool = attrs.field(
        default=True,
        metadata={"help": "Let the kernel hand over and take up to 64 KB of a flow at once."},
    )
    queues: int = attrs.field(
        default=1,
        validator=_is_count,
        metadata={
            "help": "Queues of the device, and threads of the compiled packet engine: its cores."
        },
    )
    routes: tuple[IPv4Network | IPv6Network, ...] = attrs.field(
        default=(),
        metadata={"help": "Further networks behind clients, routed to the device."},
    )
    forwarding: str = attrs.field(
        default="check",
        validator=_is_forwarding_choice,
        metadata={
            "help": "IP forwarding of the host: check (say so when it is off), enable or ignore."
        },
    )
    nat: bool = attrs.field(
        default=False,
        metadata={
            "help": "Masquerade inner IPv4 and unique-local IPv6 addresses on their way out (nft)."
        },
    )
    nat_interface: str = attrs.field(
        default="",
        validator=_matches(_INTERFACE_PATTERN, "the name of an interface"),
        metadata={"help": "Masquerade only what leaves by this interface; empty: by any other."},
    )


def build(settings: Settings, reactor: IReactorFDSet) -> LinuxTunBackend:
    """The backend that makes devices by these settings.

    Raises: ConfigurationError: settings that contradict each other.
    """
    if settings.nat_interface and not settings.nat:
        raise ConfigurationError("nat_interface is set, but nat is off: set nat = true")
    return LinuxTunBackend(settings, reactor)


@implementer(ITunBackend)
class LinuxTunBackend:
    """Makes tun devices in the network namespace of its caller."""

    def __init__(self, settings: Settings, reactor: IReactorFDSet) -> None:
        self._settings = settings
        self._reactor = reactor

    async def open(
        self, addresses: Sequence[IPv4Interface | IPv6Interface], mtu_bytes: int
    ) -> LinuxGatewayDevice:
        """A device that is up; never waits for the reactor.

        Raises: TunUnavailable: the text says what would help.
        """
        settings = self._settings
        opened = open_descriptor(settings.device, settings.offloads, settings.queues)
        translation: AddressTranslation | None = None
        try:
            configure_device(opened.name, addresses, mtu_bytes, settings.routes)
            look_after_forwarding(settings.forwarding, {each.version for each in addresses})
            if settings.nat:
                networks = (*(each.network for each in addresses), *settings.routes)
                translation = AddressTranslation(opened.name, networks, settings.nat_interface)
        except BaseException:
            for each in (opened.descriptor, *opened.further):
                os.close(each)
            raise
        log.info(
            "Tun device {name} is up: {addresses}, MTU {mtu}, offloads {offloads}, NAT {nat}",
            name=opened.name,
            addresses=", ".join(map(str, addresses)) or "no addresses",
            mtu=mtu_bytes,
            offloads=", ".join(opened.offloads) or "off",
            nat="on" if translation else "off",
        )
        closed = None if translation is None else translation.close
        return LinuxGatewayDevice(
            self._reactor,
            opened,
            mtu_bytes,
            closed,
            addresses=addresses,
            routes=settings.routes,
        )


@implementer(IRoutedTunDevice)
class LinuxGatewayDevice(LinuxTunDevice):
    """A tun device to which networks behind clients are led, beside those that always are."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        opened: OpenedTun,
        mtu_bytes: int,
        closed: Callable[[], None] | None,
        *,
        addresses: Sequence[IPv4Interface | IPv6Interface],
        routes: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        super().__init__(reactor, opened, mtu_bytes, closed)
        self._addresses = tuple(addresses)
        self._routes = ClientRoutes(opened.name, routes)
        self._turn = Lock()
        self._watch = LinkWatch(reactor, opened.name, self._restore, meanwhile="no packet passes")

    async def set_routes(self, networks: Collection[Network]) -> None:
        """Lead these networks to the device, and no others. Raises: TunUnavailable."""

        def set_alone() -> None:
            with self._turn:
                self._routes.set(networks)

        await deferToThread(set_alone)

    async def close(self) -> None:
        """Remove the device, and with it its addresses and routes."""
        self._watch.close()
        await super().close()

    async def _restore(self) -> None:
        """Have the routes again that the kernel has forgotten, and the addresses of IPv6."""

        def restore_alone() -> None:
            with self._turn:
                restore_addresses(self.name, self._addresses)
                self._routes.restore()

        await deferToThread(restore_alone)
