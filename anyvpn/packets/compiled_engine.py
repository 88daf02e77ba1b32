"""The packet engine whose data path is compiled: threads of its own, without the interpreter lock.

    tun ◀──▶ core (C, its own threads) ◀──▶ UDP           DTLS under AES-GCM
                 │  ▲
          events ▼  │ calls
    the reactor's thread (this module) ◀──▶ CSTP streams, other suites, compression

The core does what `PythonPacketEngine` does, for all that it has keys for, and judges all packets.
What is not its own it tells in events, which the very code of the Python engine handles.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import cast

from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.logger import Logger

from anyvpn.interfaces import ICSTPStream, IDescriptorDevice, IPacketObserver, ITunDevice
from anyvpn.model.channels import ChannelName, DTLSChannel, PeerPath
from anyvpn.model.events import Counters, EngineTotals
from anyvpn.model.group_policy import Network
from anyvpn.model.liveness import ChannelActivity
from anyvpn.model.packet_filter import FilterRule
from anyvpn.model.tunnel_settings import Lease
from anyvpn.packets import _compiled as core
from anyvpn.packets.channels import Datagrams, LiveCSTPChannel, LiveDTLSChannel
from anyvpn.packets.core_drains import CoreDrains
from anyvpn.packets.core_rules import core_rules
from anyvpn.packets.core_values import CorePath, core_keys, core_path, is_native, peer_path
from anyvpn.packets.datagrams import HandedOver
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.packets.kept_streams import KeptStreams
from anyvpn.packets.tunnels import Tunnel
from anyvpn.packets.waker import Waker

log = Logger()

_NUMBER = {ChannelName.CSTP: 0, ChannelName.DTLS: 1}


class EngineReactor(IReactorFDSet, IReactorTime):
    """What this engine needs of a reactor."""


class CompiledPacketEngine(PythonPacketEngine):
    """A `PythonPacketEngine` that leaves the data path to a core in C.

    With a device and datagrams that have descriptors, the core's threads do all reading and
    writing; with others, such as those in memory, the reactor drives it.
    """

    name, reads_all_queues = "compiled", True
    cipher_library = core.GCM_LIBRARY

    def __init__(
        self,
        reactor: EngineReactor,
        device: ITunDevice,
        datagrams: Datagrams,
        *,
        follows_client: bool = True,
    ) -> None:
        super().__init__(reactor, device, datagrams, follows_client=follows_client)
        self._fd_reactor = reactor
        self._core = core.Core(
            follows_client, device.vnet_header_bytes, takes_datagrams=device.takes_datagrams
        )
        self._waker: Waker | None = None
        self._is_settling = False
        self._serials = count(1)
        self._serial_of: dict[int, int] = {}
        self._by_serial: dict[int, Tunnel] = {}
        self._indices: dict[int, int] = {}
        self._kept = KeptStreams(self._core)
        self._drains = CoreDrains(reactor, self._core, self._serial, self._guard)

    def start(self) -> None:
        """Begin to read, by threads of its own where there are descriptors."""
        device, datagrams = self._device, self._datagrams
        if not IDescriptorDevice.providedBy(device) or not isinstance(datagrams, HandedOver):
            self._running = True
            self._reader.start()
            datagrams.start(self._datagrams_came)
            return
        self._waker = Waker(self._hear)
        self._core.start(list(device.descriptors()), self._waker.fileno())
        self._fd_reactor.addReader(self._waker)
        self._running = True
        datagrams.hand_over(self)

    def stop(self) -> None:
        """Forget all tunnels and move nothing any more; stopping twice does no harm."""
        super().stop()
        waker, self._waker = self._waker, None
        if waker is not None:
            self._core.stop()
            self._fd_reactor.removeReader(waker)
            waker.close()

    # --- SocketTaker ----------------------------------------------------------------------------

    def add_socket(self, index: int, opened: socket.socket, queue: int) -> None:
        """Let the thread of that queue read this one from now on."""
        slot = index % core.MOST_SOCKETS
        if self._waker is not None:
            self._core.add_socket(queue, slot, opened.fileno())
        self._indices[slot] = index

    def remove_socket(self, index: int) -> None:
        """Read it no more."""
        if self._waker is not None and self._indices.get(index % core.MOST_SOCKETS) == index:
            self._core.remove_socket(index % core.MOST_SOCKETS)

    # --- IPacketEngine --------------------------------------------------------------------------

    def attach(
        self,
        tunnel_id: int,
        lease: Lease,
        networks: Sequence[Network],
        mtu_bytes: int,
        observer: IPacketObserver,
        *,
        filters: Sequence[FilterRule] = (),
    ) -> None:
        """Begin to route packets to and from these addresses, as far as the filters allow."""
        self.detach(tunnel_id)
        tunnel = Tunnel(tunnel_id, lease, networks, mtu_bytes, observer)
        serial = next(self._serials)
        addresses = [(each.packed, each.max_prefixlen) for each in lease.addresses]
        behind = [(each.network_address.packed, each.prefixlen) for each in tunnel.networks]
        rules = core_rules(tuple(filters))
        self._core.attach(serial, addresses + behind, len(addresses), mtu_bytes, rules)
        self._tunnels[tunnel_id] = self._by_serial[serial] = tunnel
        self._serial_of[tunnel_id] = serial

    def replace_channel(
        self, tunnel_id: int, name: ChannelName, channel: ICSTPStream | DTLSChannel | None
    ) -> None:
        """Give a tunnel its CSTP or its DTLS channel, another one, or none any more."""
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is None:
            return
        serial = self._serial_of[tunnel_id]
        self._tell_time()
        if isinstance(channel, DTLSChannel) and is_native(channel):
            self._drop_dtls(tunnel)
            path = core_path(channel.path)
            self._core.set_dtls(serial, path, core_keys(channel.keys))
            self._core.send_waiting(serial)
            if channel.early_records:
                self._core.take_datagrams(path, list(channel.early_records))
        elif isinstance(channel, DTLSChannel):
            super().replace_channel(tunnel_id, name, channel)
            if tunnel.dtls is not None:
                self._core.set_dtls(serial, core_path(tunnel.dtls.path), None)
                self._drains.drain(tunnel)
        else:
            if name is ChannelName.CSTP:
                self._kept.let_go(serial)
                self._core.set_cstp(serial, channel is not None, False)
            super().replace_channel(tunnel_id, name, channel)
            self._core.send_waiting(serial)
            if channel is not None:
                self._hand_over(tunnel, serial, channel)
        self._settle()

    def send_control(self, tunnel_id: int, name: ChannelName, kind: int, payload: bytes) -> None:
        """Send a packet that is not data on that channel, if it is there."""
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is not None and self._is_native(tunnel, name):
            self._tell_time()
            self._core.send_control(self._serial_of[tunnel_id], _NUMBER[name], kind, payload)
            self._settle()
        else:
            super().send_control(tunnel_id, name, kind, payload)

    def counters(self, tunnel_id: int) -> Counters:
        """What the tunnel has moved so far; nothing when it is not attached."""
        self._tell_time()
        told = self._core.counters(self._serial_of.get(tunnel_id, 0))
        if told is None:
            return Counters()
        data_at_s = told[9] and told[9] + self._reactor.seconds() - self._core.now()
        return super().counters(tunnel_id).plus(Counters(*told[:9], data_at_s=data_at_s))

    def totals(self) -> EngineTotals:
        """What it has counted beside its tunnels."""
        return EngineTotals(*self._core.totals())

    def activity(self, tunnel_id: int, name: ChannelName) -> ChannelActivity | None:
        """When that channel last received and last sent; None when it is not there."""
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is None or not self._is_native(tunnel, name):
            return super().activity(tunnel_id, name)
        self._tell_time()
        times = self._core.times(self._serial_of[tunnel_id], _NUMBER[name])
        if times is None:
            return None
        received_at_s, sent_at_s, probed_at_s, round_trip_s = times
        later_s = self._reactor.seconds() - self._core.now()
        return ChannelActivity(
            received_at_s + later_s,
            sent_at_s + later_s,
            probed_at_s + later_s if probed_at_s else 0.0,
            round_trip_s,
        )

    def detach(self, tunnel_id: int) -> None:
        """Forget the tunnel and its channels."""
        serial = self._serial_of.pop(tunnel_id, 0)
        self._kept.let_go(serial)
        super().detach(tunnel_id)
        if serial:
            del self._by_serial[serial]
            self._core.detach(serial)

    # --- whose a channel is ---------------------------------------------------------------------

    def _is_native(self, tunnel: Tunnel, name: ChannelName) -> bool:
        """Whether the core has the channel, or it is not there at all."""
        if name is ChannelName.DTLS:
            return tunnel.dtls is None
        return self._kept.has(self._serial_of[tunnel.identifier])

    def _hand_over(self, tunnel: Tunnel, serial: int, stream: ICSTPStream) -> None:
        """Let the core have the stream's records, as soon as it can be."""
        channel = tunnel.cstp

        def is_wanted() -> bool:
            return tunnel.cstp is channel and not tunnel.detached

        if self._waker is not None and channel is not None:
            self._kept.take(serial, stream, channel, is_wanted)

    # --- the Python engine's ways, by the core --------------------------------------------------

    def _frames_read(self, frames: list[bytes]) -> None:
        self._tell_time()
        self._core.take_frames(frames)
        self._settle()

    def _datagrams_came(self, path: PeerPath, datagrams: list[bytes]) -> None:
        if self._running:
            self._tell_time()
            self._core.take_datagrams(core_path(path), datagrams)
            self._settle()

    def _data_received(self, tunnel: Tunnel, packets: list[bytes], now_s: float) -> None:  # noqa: ARG002 - as above
        self._tell_time()
        self._core.take_packets(self._serial_of[tunnel.identifier], packets)
        self._settle()

    def _payloads_received(
        self, channel: LiveDTLSChannel, payloads: list[bytes], now_s: float
    ) -> None:
        if self._follows_client:
            channel.quiet = True  # for all we know: the core turns it quiet without a word
        super()._payloads_received(channel, payloads, now_s)

    def _turn_quiet(self, tunnel: Tunnel) -> None:
        super()._turn_quiet(tunnel)
        self._core.set_quiet(self._serial_of[tunnel.identifier], True)

    def _speaks_again(self, tunnel: Tunnel, channel: LiveDTLSChannel, now_s: float) -> None:  # noqa: ARG002 - as above
        channel.quiet = False
        self._core.set_quiet(self._serial_of[tunnel.identifier], False)
        self._drains.drain(tunnel)

    def _moved(self, tunnel: Tunnel, channel: LiveDTLSChannel, path: PeerPath) -> None:
        self._core.set_dtls(self._serial_of[tunnel.identifier], core_path(path), None)
        super()._moved(tunnel, channel, path)

    def _cstp_writable(self, tunnel: Tunnel, channel: LiveCSTPChannel) -> None:
        super()._cstp_writable(tunnel, channel)
        if tunnel.cstp is channel and not self._is_native(tunnel, ChannelName.CSTP):
            self._core.set_cstp(self._serial_of[tunnel.identifier], True, False)
            self._drains.drain(tunnel)

    def _drop_dtls(self, tunnel: Tunnel) -> None:
        super()._drop_dtls(tunnel)
        serial = self._serial_of.get(tunnel.identifier, 0)
        if serial:
            self._core.set_dtls(serial, None, None)

    def _serial(self, tunnel: Tunnel) -> int:
        return 0 if tunnel.detached else self._serial_of[tunnel.identifier]

    # --- what the core tells --------------------------------------------------------------------

    def _tell_time(self) -> None:
        if self._waker is None:
            self._core.set_time(self._reactor.seconds())

    def _settle(self) -> None:
        """Without threads: send and write what the core has made, and hear what it tells."""
        if self._waker is not None or self._is_settling:
            return
        self._is_settling = True
        try:
            while self._pass_on():
                self._tell_time()
        finally:
            self._is_settling = False

    def _pass_on(self) -> bool:
        """Whether there was anything."""
        sent, frames = self._core.sent(), self._core.written()
        for serial, path, datagrams in sent:
            dropped = self._datagrams.send(self._peer_path(path), datagrams)
            self._core.count(serial, 0, 0, dropped, 0, 0)
        if frames:
            self._device.write_packets(frames)
        return self._hear() or bool(sent or frames)

    def _hear(self) -> bool:
        """Handle what the core has told; whether there was anything."""
        events = self._core.events()
        for event in events:
            try:
                self._heard(event)
            except Exception:
                # Those behind it are of others, and are told once
                log.failure("What the packet engine's core has told is lost")
        return bool(events)

    def _heard(self, event: tuple[int, int, int, int, CorePath, bytes]) -> None:
        kind, serial, by_dtls, packet_kind, path, text = event
        tunnel = self._by_serial.get(serial)
        if kind == core.DATAGRAM and self._core.take_late(path, text):
            return  # its channel has come while it was on its way to us
        if kind in (core.DATAGRAM, core.FOREIGN):
            self.datagrams_received(self._peer_path(path), (text,))
        elif kind == core.LOST_DEVICE:
            cast(IDescriptorDevice, self._device).lost(text.decode("ascii", "replace"))
        elif kind == core.LOST_SOCKET:
            log.error("UDP socket {index} is lost: {why}", index=packet_kind, why=text.decode())
        elif tunnel is None:
            return
        elif kind in (core.LOST_STREAM, core.HANDSHAKE, core.OLD_KEYS):
            told = (packet_kind, kind, text)
            self._guard(tunnel, partial(self._stream_told, tunnel, serial, told))
        elif kind == core.WAITING:
            self._drains.drain(tunnel)
        elif kind == core.CONTROL and (by_dtls or packet_kind >> 8 == self._kept.number_of(serial)):
            name = ChannelName.DTLS if by_dtls else ChannelName.CSTP
            tell = partial(tunnel.observer.control_received, name, packet_kind & 0xFF, text)
            self._guard(tunnel, tell)
        elif kind == core.MOVED:
            self._guard(tunnel, partial(tunnel.observer.peer_moved, self._peer_path(path)))
        elif kind == core.TOO_LONG:
            self._guard(tunnel, partial(self._fit, tunnel, text))
        elif kind == core.SPENT:
            self._drop_dtls(tunnel)
            log.info("Tunnel {id} gives DTLS up: no number is left", id=tunnel.identifier)

    def _stream_told(self, tunnel: Tunnel, serial: int, told: tuple[int, int, bytes]) -> None:
        if self._kept.told(serial, *told):
            tunnel.cstp = None

    def _fit(self, tunnel: Tunnel, packet: bytes) -> None:
        """What is too long for a tunnel goes in fragments, or its sender is told."""
        answers: list[bytes] = []
        fragments = tunnel.fit([packet], answers, self._reactor.seconds())
        if fragments:
            self._core.send_packets(self._serial_of[tunnel.identifier], fragments)
        if answers:
            self._core.answer(answers)

    def _peer_path(self, path: CorePath) -> PeerPath:
        slot = path[0]
        return peer_path(path, self._indices.get(slot, slot))
