"""What changes under way: keys on both sides at once, channels that are the core's or Python's."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from unittest import TestCase

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from anyvpn.interfaces import IDescriptorDevice, IHandedOverStream, IRecordKeeper
from anyvpn.model.channels import (
    PeerPath,
    ReturnedConnection,
    TLSCipher,
    TLSKeys,
    TLSRecords,
)
from anyvpn.packets._compiled import HANDSHAKE, OLD_KEYS
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.packets.tls_keys import key_update
from anyvpn.testing.inner_client import CSTP, DATA, InnerClient
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream
from anyvpn.testing.programs import wait_until
from anyvpn.wire.cstp import PacketKind, frame_data, frame_packet
from tests.packets.core_threads import (
    CIPHER,
    HANDSHAKE_TYPE,
    PATIENCE_S,
    CoreThreads,
    Direction,
    Peer,
    keys,
)

CLIENT = bytes((10, 99, 0, 7))
PACKETS = 50
QUIET_S = 0.2

AES_256 = TLSCipher("AES_256_GCM_SHA384", CIPHER, 32, "sha384")

# As in engine.h
STREAMS_IN_A_TURN = 64
RECORDS_UNDER_A_KEY = 1 << 23


def everything(connection: socket.socket) -> bytes:
    """What comes until nothing does."""
    connection.settimeout(QUIET_S)
    received = b""
    try:
        while more := connection.recv(1 << 20):
            received += more
    except TimeoutError:
        pass
    return received


class KeyTests(TestCase):
    def test_our_new_keys_do_not_stand_for_the_peers(self) -> None:
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        threads.core.attach(1, [(CLIENT, 32)], 1, 1400)
        peer = Peer(threads.core, 1, write_sequence=RECORDS_UNDER_A_KEY - 3)
        fresh = keys()
        update = peer.going.seal(key_update(), HANDSHAKE_TYPE)
        peer.going = Direction(fresh)
        packet = ipv4_packet(CLIENT, ANYWHERE)
        peer.socket.sendall(update + peer.going.seal(frame_data([packet])[0]))
        threads.wait_for(HANDSHAKE)
        for _ in range(4):
            threads.kernel.send(ipv4_packet(ANYWHERE, CLIENT))
        threads.wait_for(OLD_KEYS)
        threads.core.set_tls_keys(1, keys(), None, key_update())
        threads.core.set_tls_keys(1, None, fresh, b"")
        self.assertEqual(threads.kernel.recv(2000), packet)


class FullTurnTests(TestCase):
    def test_what_waits_goes_on_when_an_answer_has_made_room(self) -> None:
        """A turn that has all streams it can take sends others' records at once."""
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        core = threads.core
        core.attach(1, [(CLIENT, 32)], 1, 1400)
        congested = Peer(core, 1)
        others = [bytes((10, 99, 1, number)) for number in range(STREAMS_IN_A_TURN)]
        peers = []
        for number, address in enumerate(others):
            core.attach(10 + number, [(address, 32)], 1, 1400)
            peers.append(Peer(core, 10 + number))
        for _ in range(600):
            threads.kernel.send(ipv4_packet(ANYWHERE, CLIENT, bytes(1300)))
        time.sleep(QUIET_S)  # the connection is full, and some packets wait
        # While the core waits for keys nothing tells it of room
        fresh = keys()
        update = congested.going.seal(key_update(), HANDSHAKE_TYPE)
        congested.going = Direction(fresh)
        to_all = b"".join(frame_data([ipv4_packet(CLIENT, address) for address in others]))
        probe = frame_packet(PacketKind.DPD_REQUEST, b"?")
        congested.socket.sendall(update + congested.going.seal(to_all + probe))
        threads.wait_for(HANDSHAKE)
        everything(congested.socket)
        core.set_tls_keys(1, None, fresh, b"")
        everything(congested.socket)
        threads.kernel.send(ipv4_packet(ANYWHERE, CLIENT, b"last"))
        last = len(congested.coming.seal(frame_data([ipv4_packet(ANYWHERE, CLIENT, b"last")])[0]))
        self.assertEqual(len(everything(congested.socket)), last)


class SocketTests(TestCase):
    def test_two_cannot_have_one_slot(self) -> None:
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
            threads.core.add_socket(0, 5, first.fileno())
            with self.assertRaisesRegex(OSError, "busy"):
                threads.core.add_socket(0, 5, first.fileno())
            threads.core.remove_socket(5)
            threads.core.add_socket(0, 5, first.fileno())
            threads.core.remove_socket(5)


@implementer(IDescriptorDevice)
class SocketDevice(SimpleNamespace):
    """A device that is a socket; `kernel` is its other end."""

    def __init__(self) -> None:
        self._ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self.kernel.settimeout(PATIENCE_S)
        super().__init__(vnet_header_bytes=0, takes_datagrams=False, name="socket")

    def descriptors(self) -> tuple[int, ...]:
        return (self._ours.fileno(),)

    def close(self) -> None:
        self._ours.close()
        self.kernel.close()


class SentDatagrams:
    """Datagrams whose sockets nobody reads; what is sent by Python is kept."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.on_handshake: Callable[[PeerPath, bytes], None] = lambda _path, _datagram: None

    def start(self, received: object) -> None:
        """Nothing comes."""

    def hand_over(self, taker: object) -> None:
        """There is no socket."""

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        self.sent += datagrams
        return 0


class ReaderClock(Clock):
    """A reactor whose descriptors are asked by the test."""

    def addReader(self, reader: object) -> None:
        """Not watched."""

    def removeReader(self, reader: object) -> None:
        """Was not."""


@implementer(IHandedOverStream)
class KeptStream:
    """A stream that the core has at once; `peer` is the client's end."""

    encoding = ""

    def __init__(self) -> None:
        self._ours, self.peer = socket.socketpair()
        self._ours.setblocking(False)
        self.peer.settimeout(PATIENCE_S)
        self._write, self._read = keys(), keys()
        self.coming, self.going = Direction(self._write), Direction(self._read)
        self.ended = ""

    def take_over(self, received: object, writable: object) -> None:
        """It is handed over right after."""

    def hand_over(self, keeper: IRecordKeeper) -> None:
        """All it has."""
        secrets = TLSKeys(True, AES_256, self._write, self._read)
        keeper.keep(TLSRecords(self._ours.detach(), secrets, 0, 0, b""))

    def take_back(self, returned: ReturnedConnection) -> None:
        """The connection is closed."""
        os.close(returned.descriptor)

    def end(self, reason: str) -> None:
        """Why it is over."""
        self.ended = reason

    def write_frames(self, frames: Sequence[bytes]) -> int:
        """What a stream does that was handed over."""
        raise AssertionError(f"{len(frames)} frames to a stream that is the core's")


class MixedTests(TestCase):
    """A stream that is the core's beside a DTLS channel that is Python's."""

    def setUp(self) -> None:
        self.clock, self.device, self.datagrams = ReaderClock(), SocketDevice(), SentDatagrams()
        self.addCleanup(self.device.close)
        self.clock.advance(1000)
        self.engine = CompiledPacketEngine(self.clock, self.device, self.datagrams)  # type: ignore[arg-type]
        self.engine.start()
        self.addCleanup(self.engine.stop)
        self.client = InnerClient(7, self.engine)
        self.stream = KeptStream()
        self.addCleanup(self.stream.peer.close)
        self.client.stream = self.stream  # type: ignore[assignment]
        self.client.attach()
        self.client.open_dtls(encoding="lzs")

    def send_over_cstp(self) -> None:
        """The client's data over CSTP makes DTLS quiet."""
        packet = self.client.packet_to(text=b"over CSTP")
        self.stream.peer.sendall(self.stream.going.seal(frame_data([packet])[0]))
        self.assertEqual(self.device.kernel.recv(2000), packet)

    def hear(self) -> None:
        self.engine._hear()
        self.clock.advance(0)

    def assert_goes_over_dtls(self) -> None:
        before = len(self.datagrams.sent)
        for number in range(1, PACKETS + 1):
            self.device.kernel.send(self.client.packet_from())
            wait_until(
                lambda: self.hear() or len(self.datagrams.sent) == before + number,  # type: ignore[func-returns-value]  # noqa: B023 - called at once
                "it goes over DTLS",
                limit_s=2,
            )

    def test_what_waits_goes_the_way_that_there_is_by_then(self) -> None:
        packet = self.client.packet_from(text=b"waits for Python")
        self.device.kernel.send(packet)
        waker = self.engine._waker
        assert waker is not None
        self.assertEqual(select.select([waker], [], [], PATIENCE_S)[0], [waker])
        self.send_over_cstp()
        self.hear()
        self.assertEqual(self.datagrams.sent, [])
        [(_, frame)] = self.stream.coming.open_all(everything(self.stream.peer))
        self.assertEqual(frame, frame_data([packet])[0])
        self.client.open_dtls(encoding="lzs")
        self.assert_goes_over_dtls()

    def test_dtls_speaks_again(self) -> None:
        self.assert_goes_over_dtls()
        self.send_over_cstp()
        self.device.kernel.send(self.client.packet_from())
        self.assertTrue(everything(self.stream.peer))
        records = self.client.sealer.seal_packets(DATA, [self.client.packet_to()])
        self.engine.datagrams_received(self.client.path, records)
        self.assert_goes_over_dtls()

    def test_dtls_speaks_again_beside_another_stream(self) -> None:
        self.send_over_cstp()
        other = MemoryCSTPStream()
        other.encoding = "lzs"
        self.engine.replace_channel(7, CSTP, other)
        records = self.client.sealer.seal_packets(DATA, [self.client.packet_to()])
        self.engine.datagrams_received(self.client.path, records)
        self.assert_goes_over_dtls()
        self.assertEqual(other.frames, [])

    def test_one_failure_costs_no_other_what_the_core_has_told(self) -> None:
        def fail(path: PeerPath, datagram: bytes) -> None:
            raise RuntimeError("a defect")

        self.datagrams.on_handshake = fail
        stranger = (0, socket.AF_INET, bytes((192, 0, 2, 9)), 999, 0, 0, b"")
        hello = b"\x16\xfe\xff" + bytes(8) + b"\0\2hi"
        self.engine._core.take_datagrams(stranger, [hello])
        self.stream.peer.close()
        with capturedLogs() as logged:
            wait_until(lambda: self.hear() or self.stream.ended, "the end is told")  # type: ignore[func-returns-value]
        self.assertIn("RuntimeError", str([each.get("log_failure") for each in logged]))
