"""SOCKS5, the client's side: bytes in, bytes out."""

from __future__ import annotations

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import PeerError
from anyvpn.wire.socks5 import Socks5ClientExchange

GRANTED = b"\x05\x00\x00\x01" + bytes(6)


def talk(exchange: Socks5ClientExchange, said: bytes) -> bytes:
    """Say it byte by byte; gives all that was answered."""
    return b"".join(exchange.receive(said[at : at + 1]) for at in range(len(said)))


class RequestTests(unittest.TestCase):
    """The bytes are those of RFC 1928 and RFC 1929."""

    def test_a_name_is_looked_up_by_the_proxy(self) -> None:
        exchange = Socks5ClientExchange("vpn.test", 443)
        self.assertEqual(exchange.start(), b"\x05\x01\x00")
        self.assertEqual(exchange.receive(b"\x05\x00"), b"\x05\x01\x00\x03\x08vpn.test\x01\xbb")
        self.assertFalse(exchange.done)
        self.assertEqual(exchange.receive(GRANTED), b"")
        self.assertTrue(exchange.done)

    def test_addresses_travel_as_such(self) -> None:
        for host, sent in (
            ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
            ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ):
            exchange = Socks5ClientExchange(host, 80)
            self.assertEqual(exchange.receive(b"\x05\x00"), b"\x05\x01\x00" + sent + b"\x00\x50")

    def test_a_password_is_offered_and_sent_when_it_is_wanted(self) -> None:
        exchange = Socks5ClientExchange("h", 1, "me", "secret")
        self.assertEqual(exchange.start(), b"\x05\x02\x00\x02")
        self.assertEqual(exchange.receive(b"\x05\x02"), b"\x01\x02me\x06secret")
        self.assertEqual(exchange.receive(b"\x01\x00"), b"\x05\x01\x00\x03\x01h\x00\x01")

    def test_a_password_that_nobody_wants_is_not_sent(self) -> None:
        exchange = Socks5ClientExchange("h", 1, "me", "secret")
        self.assertNotIn(b"secret", exchange.start() + talk(exchange, b"\x05\x00" + GRANTED))
        self.assertTrue(exchange.done)

    def test_what_socks_cannot_carry_is_refused_at_once(self) -> None:
        for arguments in (
            ("", 1),
            ("x" * 256, 1),
            ("h", 1, "u" * 256, "p"),
            ("h", 1, "u", "ü" * 128),
        ):
            with self.assertRaises(ValueError):
                Socks5ClientExchange(*arguments)  # type: ignore[arg-type]  # pairs of both lengths


class AnswerTests(unittest.TestCase):
    def answered(self, answer: bytes, password: str = "") -> Socks5ClientExchange:
        exchange = Socks5ClientExchange("h", 1, "me" if password else "", password)
        talk(exchange, answer)
        return exchange

    @settings(max_examples=50)
    @given(
        st.sampled_from([b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x05a.b.c", b"\x03\x00"]),
        st.binary(max_size=20),
    )
    def test_every_kind_of_address_is_skipped_and_the_rest_is_the_host_s(
        self, address: bytes, after: bytes
    ) -> None:
        answer = b"\x05\x00\x05\x00\x00" + address + b"\x00\x50"
        for end in range(2, len(answer)):
            self.assertFalse(self.answered(answer[:end]).done)
        exchange = Socks5ClientExchange("h", 1)
        exchange.receive(answer + after)
        self.assertTrue(exchange.done)
        self.assertEqual(exchange.leftover, after)

    def test_refusals_are_told_in_words(self) -> None:
        for status, words in (
            (2, "not allowed"),
            (4, "host unreachable"),
            (5, "refused"),
            (99, "99"),
        ):
            with self.assertRaisesRegex(PeerError, words):
                self.answered(b"\x05\x00\x05" + bytes([status]) + b"\x00\x01" + bytes(6))

    def test_a_wrong_password_is_told_without_it(self) -> None:
        with self.assertRaisesRegex(PeerError, "does not accept") as caught:
            self.answered(b"\x05\x02\x01\x01", "secret")
        self.assertNotIn("secret", str(caught.exception))

    def test_a_password_that_is_wanted_but_not_there(self) -> None:
        for method in (1, 2, 0xFF):
            with self.assertRaisesRegex(PeerError, "user name"):
                self.answered(b"\x05" + bytes([method]))

    def test_what_does_not_speak_socks_is_found_out(self) -> None:
        for answer in (
            b"HTTP/1.1 400 Bad Request",
            b"\x05\x00HTTP/1.1",
            b"\x05\x00\x05\x00\x00\x02abc",
        ):
            with self.assertRaises(PeerError):
                self.answered(answer)

    @settings(max_examples=200)
    @given(st.binary(max_size=600))
    def test_nothing_but_our_own_error_leaves(self, answer: bytes) -> None:
        exchange = Socks5ClientExchange("h", 1, "me", "secret")
        try:
            exchange.receive(answer)
        except PeerError:
            return
        if exchange.done:
            self.assertTrue(answer.endswith(exchange.leftover))
