"""Moves packets in batches between the tun device and the channels of all tunnels, in Python.

tun ─▶ split ─▶ by destination ─▶ seal or frame ─▶ UDP or TLS
tun ◀─ merge ◀─ by destination ◀─ source check ◀─ open or read frames
                      └─▶ another tunnel's channel
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.dtls.records import APPLICATION_DATA, split_datagram
from anyvpn.errors import DTLSError, MalformedPacket
from anyvpn.interfaces import ICSTPStream, IPacketEngine, IPacketObserver, ITunDevice
from anyvpn.model.channels import ChannelName, DTLSChannel, PeerPath
from anyvpn.model.events import Counters, EngineTotals
from anyvpn.model.group_policy import Network
from anyvpn.model.liveness import ChannelActivity
from anyvpn.model.packet_filter import FilterRule
from anyvpn.model.tunnel_settings import Lease
from anyvpn.packets.channels import Datagrams, LiveCSTPChannel, LiveDTLSChannel
from anyvpn.packets.device_reader import DeviceReader
from anyvpn.packets.offload import merge_segments, split_super_packets
from anyvpn.packets.peers import Peers
from anyvpn.packets.routing import Routes
from anyvpn.packets.tunnels import Tunnel
from anyvpn.wire.cstp import LONGEST_SENT_BYTES, PacketKind, data_and_others
from anyvpn.wire.dtls_payload import split_payloads

log = Logger()

_DPD_REQUEST = int(PacketKind.DPD_REQUEST)
_DPD_RESPONSE = int(PacketKind.DPD_RESPONSE)
_KEEPALIVE = int(PacketKind.KEEPALIVE)


@implementer(IPacketEngine)
class PythonPacketEngine:
    """The packet engine that needs no compiler.

    It answers DPD requests itself and swallows keepalives and DPD responses, which are seen in
    `activity`; all other packets that are not data go up. What goes wrong with one tunnel costs
    that tunnel the channel concerned.

    It is the client that chooses the channel (protocol reference, section 13.3): with
    `follows_client` data goes over CSTP when the client's does, although DTLS is there.
    """

    name, reads_all_queues = "python", False
    cipher_library = "cryptography"

    def __init__(
        self,
        reactor: IReactorTime,
        device: ITunDevice,
        datagrams: Datagrams,
        *,
        follows_client: bool = True,
    ) -> None:
        self._unroutable_packets = 0
        self._reactor = reactor
        self._device = device
        self._datagrams = datagrams
        self._follows_client = follows_client
        self._tunnels: dict[int, Tunnel] = {}
        self._routes: Routes[Tunnel] = Routes()
        self._peers = Peers()
        self._reader = DeviceReader(reactor, device, self._routes, self._frames_read)
        self._running = False

    def start(self) -> None:
        """Begin to read from the device and from the datagram sockets."""
        self._running = True
        self._reader.start()
        self._datagrams.start(self.datagrams_received)

    def stop(self) -> None:
        """Forget all tunnels and move nothing any more; stopping twice does no harm."""
        self._running = False
        self._reader.stop()
        for tunnel_id in tuple(self._tunnels):
            self.detach(tunnel_id)

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
        """Begin to route packets to and from these addresses."""
        self.detach(tunnel_id)
        tunnel = Tunnel(tunnel_id, lease, networks, mtu_bytes, observer, filters=filters)
        self._tunnels[tunnel_id] = tunnel
        self._routes.add(tunnel, lease.addresses, tunnel.networks)

    def replace_channel(
        self, tunnel_id: int, name: ChannelName, channel: ICSTPStream | DTLSChannel | None
    ) -> None:
        """Give a tunnel its CSTP or its DTLS channel, another one, or none any more."""
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is None:
            return
        now_s = self._reactor.seconds()
        if name is ChannelName.DTLS:
            self._drop_dtls(tunnel)
            if isinstance(channel, DTLSChannel):
                dtls = LiveDTLSChannel(tunnel_id, channel, self._datagrams, now_s)
                tunnel.dtls = dtls
                self._peers.add(dtls)
                if channel.early_records:
                    self._open_records(dtls, channel.early_records, now_s)
        else:
            tunnel.cstp = None
            if channel is not None and not isinstance(channel, DTLSChannel):
                cstp = LiveCSTPChannel(channel, now_s)
                tunnel.cstp = cstp
                channel.take_over(
                    partial(self._cstp_received, tunnel, cstp),
                    partial(self._cstp_writable, tunnel, cstp),
                )
        self._guard(tunnel, partial(tunnel.send_waiting, now_s))

    def send_control(self, tunnel_id: int, name: ChannelName, kind: int, payload: bytes) -> None:
        """Send a packet that is not data on that channel, if it is there."""
        tunnel = self._tunnels.get(tunnel_id)
        channel = None if tunnel is None else _channel(tunnel, name)
        if tunnel is not None and channel is not None:
            now_s = self._reactor.seconds()
            self._guard(tunnel, partial(channel.send_control, kind, payload, now_s))

    def counters(self, tunnel_id: int) -> Counters:
        """What the tunnel has moved so far; nothing when it is not attached."""
        tunnel = self._tunnels.get(tunnel_id)
        return Counters() if tunnel is None else tunnel.counters()

    def totals(self) -> EngineTotals:
        """What it has counted beside its tunnels."""
        return EngineTotals(self._unroutable_packets, 0, 0)

    def activity(self, tunnel_id: int, name: ChannelName) -> ChannelActivity | None:
        """When that channel last received and last sent; None when it is not there."""
        tunnel = self._tunnels.get(tunnel_id)
        channel = None if tunnel is None else _channel(tunnel, name)
        return None if channel is None else channel.activity()

    def detach(self, tunnel_id: int) -> None:
        """Forget the tunnel and its channels."""
        tunnel = self._tunnels.pop(tunnel_id, None)
        if tunnel is not None:
            tunnel.detached = True
            self._drop_dtls(tunnel)
            tunnel.cstp = None
            self._routes.remove(tunnel, tunnel.lease.addresses, tunnel.networks)

    # --- from the device to clients -------------------------------------------------------------

    def _frames_read(self, frames: list[bytes]) -> None:
        packets = split_super_packets(frames, self._device.vnet_header_bytes)
        groups, elsewhere = self._routes.group_by_destination(packets)
        self._unroutable_packets += len(elsewhere)
        now_s = self._reactor.seconds()
        for tunnel, group in groups.items():
            self._send(tunnel, group, now_s)

    def _send(self, tunnel: Tunnel, packets: list[bytes], now_s: float) -> None:
        if tunnel.detached:
            return
        answers: list[bytes] = []
        self._guard(tunnel, lambda: answers.extend(tunnel.forward(packets, now_s)))
        if answers:
            self._answer(answers, now_s)

    def _answer(self, answers: list[bytes], now_s: float) -> None:
        """ICMP packets of ours to whoever sent what was too long."""
        groups, elsewhere = self._routes.group_by_destination(answers)
        for tunnel, group in groups.items():
            if not tunnel.detached:
                # An answer is never too long, so no answer comes of it
                self._guard(tunnel, partial(tunnel.send, group, now_s))
        if elsewhere:
            self._write(elsewhere)

    # --- from clients ---------------------------------------------------------------------------

    def datagrams_received(self, path: PeerPath, datagrams: Sequence[bytes]) -> None:
        """Datagrams came from one address, in this order."""
        if not self._running:
            return
        now_s = self._reactor.seconds()
        start = 0
        while start < len(datagrams):
            channel = self._peers.find(path)
            end = start
            if channel is not None:
                payloads, end = channel.opener.open_leading(datagrams, start)
            if channel is not None and end > start:
                self._records_opened(channel, payloads, end - start, now_s)
                start = end
            else:
                self._other_datagram(path, datagrams[start], now_s)
                start += 1

    def _other_datagram(self, path: PeerPath, datagram: bytes, now_s: float) -> None:
        """Anything but one data record from a known address."""
        others: list[bytes] = []
        for record in split_datagram(datagram):
            whole = record.whole(datagram)
            channel = self._peers.find(path)
            if channel is not None and channel.holds_whole_record(whole):
                self._open_records(channel, (whole,), now_s)
            elif channel is None and record.content_type == APPLICATION_DATA and record.epoch:
                if not self._claimed(path, whole, now_s):
                    others.append(whole)
            else:
                others.append(whole)
        if others:
            self._datagrams.on_handshake(path, b"".join(others))

    def _claimed(self, path: PeerPath, record: bytes, now_s: float) -> bool:
        """Whether a client has moved to this address: then its record is taken."""
        claim = self._peers.claim(path, record, now_s)
        if claim is None:
            return False
        channel, payload = claim
        tunnel = self._tunnels[channel.tunnel_id]
        if self._peers.move(channel, path, record):
            self._moved(tunnel, channel, path)
        self._payloads_received(channel, [payload], now_s)
        return True

    def _open_records(
        self, channel: LiveDTLSChannel, records: Sequence[bytes], now_s: float
    ) -> None:
        self._records_opened(channel, channel.opener.open_records(records), len(records), now_s)

    def _records_opened(
        self, channel: LiveDTLSChannel, payloads: list[bytes], record_count: int, now_s: float
    ) -> None:
        """So many records were given to the opener, and these payloads came of them."""
        tunnel = self._tunnels.get(channel.tunnel_id)
        if tunnel is not None:
            tunnel.dropped_malformed += record_count - len(payloads)
            if payloads:
                self._payloads_received(channel, payloads, now_s)

    def _payloads_received(
        self, channel: LiveDTLSChannel, payloads: list[bytes], now_s: float
    ) -> None:
        tunnel = self._tunnels.get(channel.tunnel_id)
        if tunnel is None or tunnel.dtls is not channel:
            return
        channel.received_at_s = now_s
        if channel.quiet:
            self._speaks_again(tunnel, channel, now_s)
        if channel.expander is None:
            packets, others, malformed = split_payloads(payloads)
        else:
            frames = [(payload[0], payload[1:]) for payload in payloads if payload]
            malformed = len(payloads) - len(frames)
            packets, others = data_and_others(tunnel.expand(frames, channel.expander))
        tunnel.dropped_malformed += malformed
        self._packets_received(tunnel, ChannelName.DTLS, packets, others, now_s)

    def _cstp_received(self, tunnel: Tunnel, channel: LiveCSTPChannel, data: bytes) -> None:
        if tunnel.cstp is not channel:
            return
        try:
            frames = channel.reader.receive(data)
        except MalformedPacket as error:
            tunnel.cstp = None
            channel.stream.abort(str(error))
            return
        if frames:
            now_s = self._reactor.seconds()
            channel.received_at_s = now_s
            if channel.expander is not None:
                frames = tunnel.expand(frames, channel.expander)
            packets, others = data_and_others(frames)
            self._packets_received(tunnel, ChannelName.CSTP, packets, others, now_s)

    def _cstp_writable(self, tunnel: Tunnel, channel: LiveCSTPChannel) -> None:
        if tunnel.cstp is channel:
            self._guard(tunnel, partial(tunnel.send_waiting, self._reactor.seconds()))

    def _packets_received(
        self,
        tunnel: Tunnel,
        name: ChannelName,
        packets: list[bytes],
        others: Sequence[tuple[int, bytes]],
        now_s: float,
    ) -> None:
        """Packets of any kind: data first, in one batch, then the others in their order."""
        channel = _channel(tunnel, name)
        if packets:
            if name is ChannelName.CSTP:
                self._turn_quiet(tunnel)
            self._guard(tunnel, partial(self._data_received, tunnel, packets, now_s))
        last_probe = next((each for each in reversed(others) if each[0] == _DPD_REQUEST), None)
        for other in others:
            kind, payload = other
            if tunnel.detached or channel is None or _channel(tunnel, name) is not channel:
                return
            if kind == _DPD_REQUEST:
                # One answer shows that we are there; a flood of probes is not worth more
                if other is last_probe and len(payload) <= LONGEST_SENT_BYTES:
                    answer = partial(channel.send_control, _DPD_RESPONSE, payload, now_s)
                    self._guard(tunnel, answer)
            elif kind == _DPD_RESPONSE:
                channel.probe_answered(now_s)
            elif kind != _KEEPALIVE:
                tell = partial(tunnel.observer.control_received, name, kind, payload)
                self._guard(tunnel, tell)

    def _data_received(self, tunnel: Tunnel, packets: list[bytes], now_s: float) -> None:
        packets = tunnel.accept(packets, now_s)
        if len(self._tunnels) > 1:
            groups, packets = self._routes.group_by_destination(packets)
            for other, group in groups.items():
                self._send(other, group, now_s)
        if packets:
            tunnel.dropped_unroutable += self._write(packets)

    def _write(self, packets: Sequence[bytes]) -> int:
        """Hand packets to the device; gives how many it refused, super-packets counted once.

        A device that is down refuses everything, so that then it is known how many those were.
        """
        device = self._device
        frames = merge_segments(
            packets, device.vnet_header_bytes, takes_datagrams=device.takes_datagrams
        )
        refused = device.write_packets(frames)
        return len(packets) if refused == len(frames) else refused

    # --- what its channels do -------------------------------------------------------------------

    def _moved(self, tunnel: Tunnel, channel: LiveDTLSChannel, path: PeerPath) -> None:  # noqa: ARG002 - for who keeps paths elsewhere
        self._guard(tunnel, partial(tunnel.observer.peer_moved, path))

    def _turn_quiet(self, tunnel: Tunnel) -> None:
        if tunnel.dtls is not None:
            tunnel.dtls.quiet = self._follows_client

    def _speaks_again(self, tunnel: Tunnel, channel: LiveDTLSChannel, now_s: float) -> None:
        channel.quiet = False
        # What waits for CSTP is older than what comes next
        self._guard(tunnel, partial(tunnel.send_waiting, now_s))

    # --- within ---------------------------------------------------------------------------------

    def _drop_dtls(self, tunnel: Tunnel) -> None:
        dtls, tunnel.dtls = tunnel.dtls, None
        if dtls is not None:
            self._peers.remove(dtls)

    def _guard(self, tunnel: Tunnel, action: Callable[[], object]) -> None:
        """Whatever goes wrong costs this tunnel its channels, and others nothing."""
        try:
            action()
        except DTLSError as error:
            log.info("Tunnel {id} gives DTLS up: {why}", id=tunnel.identifier, why=error)
            self._drop_dtls(tunnel)
        except Exception:
            log.failure("Packets of tunnel {id} are lost", id=tunnel.identifier)
            self._drop_dtls(tunnel)
            cstp, tunnel.cstp = tunnel.cstp, None
            if cstp is not None:
                cstp.stream.abort("the packet engine failed")


def _channel(tunnel: Tunnel, name: ChannelName) -> LiveDTLSChannel | LiveCSTPChannel | None:
    return tunnel.dtls if name is ChannelName.DTLS else tunnel.cstp
