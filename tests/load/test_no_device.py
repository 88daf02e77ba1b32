"""An adapter without a device."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.load.no_device import PING_BYTES, NoDevices, echo_request, is_echo_reply
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings
from anyvpn.packets.checksums import word_sum

OWN, INSIDE = IPv4Address("10.77.0.9"), IPv4Address("10.99.0.2")
SETTINGS = AdapterSettings(
    TunnelSettings(lease=Lease(IPv4Interface("10.77.0.9/32")), mtu_bytes=1400),
    1400,
    None,
    "vpn.example.com",
)


def reply_to(request: bytes) -> bytes:
    """What a host sends back."""
    swapped = request[:12] + request[16:20] + request[12:16] + request[20:]
    return swapped[:20] + b"\0" + swapped[21:]


class EchoTests(SynchronousTestCase):
    def test_a_request_is_a_packet_with_good_checksums(self) -> None:
        packet = echo_request(OWN, INSIDE)
        self.assertEqual(len(packet), PING_BYTES)
        self.assertEqual(int.from_bytes(packet[2:4], "big"), PING_BYTES)
        self.assertEqual((packet[12:16], packet[16:20]), (OWN.packed, INSIDE.packed))
        self.assertEqual(word_sum(packet[:20]), 0)
        self.assertEqual(word_sum(packet[20:]), 0)

    def test_replies_are_told_from_all_else(self) -> None:
        request = echo_request(OWN, INSIDE)
        self.assertTrue(is_echo_reply(reply_to(request)))
        for other in (request, b"", b"\x45", reply_to(request)[:-1], bytes(PING_BYTES)):
            self.assertFalse(is_echo_reply(other))


class NoDeviceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = NoDevices()
        opening = Deferred.fromCoroutine(self.backend.open(SETTINGS))
        self.device = self.successResultOf(opening)

    def test_it_is_an_adapter(self) -> None:
        verifyObject(IAdapterBackend, self.backend)
        verifyObject(IAdapter, self.device)

    def test_what_is_sent_is_read_in_order(self) -> None:
        read: list[bytes] = []
        self.device.start_reading(lambda: read.extend(self.device.read_packets(16)))
        for each in (b"one", b"two"):
            self.device.send(each)
        self.assertEqual(read, [b"one", b"two"])

    def test_nothing_is_kept_before_and_after(self) -> None:
        self.device.send(b"early")
        self.device.start_reading(lambda: None)
        self.assertEqual(self.device.read_packets(16), [])
        self.successResultOf(Deferred.fromCoroutine(self.device.close()))
        self.device.send(b"late")
        self.assertEqual(self.device.read_packets(16), [])

    def test_answers_are_counted_and_all_else_is_taken(self) -> None:
        answers: list[int] = []
        self.device.on_echo = answers.append
        reply = reply_to(echo_request(OWN, INSIDE))
        self.assertEqual(self.device.write_packets([reply, b"other", reply]), 0)
        self.assertEqual(self.device.write_packets([b"other"]), 0)
        self.assertEqual(answers, [2])
