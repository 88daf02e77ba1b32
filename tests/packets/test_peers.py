"""Which channel a datagram belongs to, and which one has moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from unittest import TestCase

from anyvpn.dtls.records import RecordSealer
from anyvpn.model.channels import DirectionKeys, DTLSChannel, PeerPath, RecordKeys, Suite
from anyvpn.packets.channels import LiveDTLSChannel
from anyvpn.packets.peers import TRIALS_PER_HOST_PER_S, TRIALS_PER_S, Peers

SUITE = Suite("PSK-AES256-GCM-SHA384", 0x00A9, "AES-256-GCM", "sha384", 32, 4)
NOW_S = 100.0


class NoSender:
    """Sends nothing."""

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        return 0


def path(host: str = "192.0.2.1", port: int = 40_000, index: int = 0) -> PeerPath:
    return PeerPath(index, (host, port))


def channel(at: PeerPath, number: int = 1) -> tuple[LiveDTLSChannel, RecordSealer]:
    """A channel, and what its client seals with."""
    ours, theirs = (DirectionKeys(os.urandom(32), os.urandom(4)) for _ in range(2))
    keys = RecordKeys(b"\xfe\xfd", SUITE, ours, theirs, 1, 0)
    live = LiveDTLSChannel(number, DTLSChannel(keys, at), NoSender(), NOW_S)
    return live, RecordSealer(replace(keys, write=theirs, read=ours))


class PeersTests(TestCase):
    def setUp(self) -> None:
        self.peers = Peers()
        self.channel, self.sealer = channel(path())
        self.peers.add(self.channel)

    def test_host_port_and_socket_make_the_path(self) -> None:
        self.assertIs(self.peers.find(path()), self.channel)
        for other in (path(port=1), path("192.0.2.2"), path(index=1)):
            self.assertIsNone(self.peers.find(other))

    def test_the_address_that_was_spoken_to_makes_no_difference(self) -> None:
        same = PeerPath(0, path().address, "198.51.100.1")
        self.assertIs(self.peers.find(same), self.channel)

    def test_a_path_belongs_to_whoever_came_last(self) -> None:
        later, _ = channel(path(), 2)
        self.peers.add(later)
        self.assertIs(self.peers.find(path()), later)
        self.peers.remove(self.channel)
        self.assertIs(self.peers.find(path()), later)
        self.peers.remove(later)
        self.assertIsNone(self.peers.find(path()))

    def test_a_claim_takes_the_record_and_moves_nothing_yet(self) -> None:
        record = self.sealer.seal(b"text")
        self.assertEqual(self.peers.claim(path(port=2), record, NOW_S), (self.channel, b"text"))
        self.assertIsNone(self.peers.claim(path(port=2), record, NOW_S))
        self.assertIs(self.peers.find(path()), self.channel)

    def test_a_move_leaves_nothing_behind(self) -> None:
        new = path("203.0.113.5", 7)
        self.assertTrue(self.peers.move(self.channel, new, self.sealer.seal(b"")))
        self.assertIsNone(self.peers.find(path()))
        self.assertIs(self.peers.find(new), self.channel)
        self.assertEqual(self.channel.path, new)
        self.peers.remove(self.channel)
        self.assertIsNone(self.peers.find(new))
        self.assertEqual(self.peers._by_host, {})
        self.assertIsNone(self.peers.claim(path(), self.sealer.seal(b""), NOW_S))

    def test_a_record_that_was_held_back_moves_nothing(self) -> None:
        older, newer = self.sealer.seal(b"1"), self.sealer.seal(b"2")
        self.channel.opener.open(newer)
        self.assertIsNotNone(self.peers.claim(path(port=3), older, NOW_S))
        self.assertFalse(self.peers.move(self.channel, path(port=3), older))
        self.assertIs(self.peers.find(path()), self.channel)

    def test_the_newest_record_moves_it_again(self) -> None:
        for port in (2, 3):
            record = self.sealer.seal(b"")
            self.assertIsNotNone(self.peers.claim(path(port=port), record, NOW_S))
            self.assertTrue(self.peers.move(self.channel, path(port=port), record))
        self.assertIs(self.peers.find(path(port=3)), self.channel)

    def test_a_move_leaves_an_address_to_whoever_has_it_now(self) -> None:
        later, _ = channel(path(), 2)
        self.peers.add(later)
        self.peers.move(self.channel, path(port=2), self.sealer.seal(b""))
        self.assertIs(self.peers.find(path()), later)

    def test_a_stranger_uses_up_no_trials_but_its_own(self) -> None:
        forged = self.sealer.seal(bytes(50))
        forged = forged[:-1] + bytes((forged[-1] ^ 1,))
        for _ in range(TRIALS_PER_HOST_PER_S + 100):
            self.peers.claim(path("203.0.113.5"), forged, NOW_S)
        self.assertEqual(self.channel.opener.forged, TRIALS_PER_HOST_PER_S)
        record = self.sealer.seal(b"text")
        self.assertIsNone(self.peers.claim(path("203.0.113.5"), record, NOW_S))
        self.assertIsNotNone(self.peers.claim(path("203.0.113.6"), record, NOW_S))

    def test_strangers_by_the_thousand_cost_bounded_work(self) -> None:
        for number in range(20):
            self.peers.add(channel(path(port=number), number + 3)[0])
        forged = self.sealer.seal(bytes(50))
        forged = forged[:-1] + bytes((forged[-1] ^ 1,))
        for number in range(2000):
            self.peers.claim(path(f"203.0.{number // 250}.{number % 250}"), forged, NOW_S)
        tried = sum(each.opener.forged for each in self.peers._in_turn)
        self.assertEqual(tried, TRIALS_PER_S)

    def test_trials_come_back_with_the_next_second(self) -> None:
        forged = bytes(80)
        for _ in range(TRIALS_PER_HOST_PER_S):
            self.peers.claim(path("203.0.113.5"), forged, NOW_S + 0.9)
        record = self.sealer.seal(b"text")
        self.assertIsNone(self.peers.claim(path("203.0.113.5"), record, NOW_S + 0.9))
        self.assertIsNotNone(self.peers.claim(path("203.0.113.5"), record, NOW_S + 1))

    def test_a_client_that_moves_to_where_others_are_is_found_at_once(self) -> None:
        moving, sealer = channel(path("203.0.113.5"), 2)
        self.peers.add(moving)
        for number in range(20):
            self.peers.add(channel(path(port=number), number + 3)[0])
        claim = self.peers.claim(path(port=99), sealer.seal(b"text"), NOW_S)
        self.assertEqual(claim, (moving, b"text"))

    def test_a_record_is_tried_once_at_each_channel(self) -> None:
        forged = self.sealer.seal(bytes(50))
        forged = forged[:-1] + bytes((forged[-1] ^ 1,))
        self.peers.claim(path(port=2), forged, NOW_S)
        self.assertEqual(self.channel.opener.forged, 1)

    def test_records_of_another_epoch_are_not_even_opened(self) -> None:
        record = bytearray(self.sealer.seal(b"text"))
        record[4] = 2
        self.assertIsNone(self.peers.claim(path(port=2), bytes(record), NOW_S))
        self.assertEqual(self.channel.opener.forged, 0)
