"""SOCKS5, the server's side, against bytes and against our client's side."""

from __future__ import annotations

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import PeerError
from anyvpn.wire.socks5 import Socks5ClientExchange
from anyvpn.wire.socks5_server import Socks5Reply, Socks5Request, Socks5ServerExchange, reply

NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,60}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
GREETING = b"\x05\x01\x00"


class TogetherTests(unittest.TestCase):
    @settings(max_examples=100)
    @given(st.one_of(NAMES, ADDRESSES), st.integers(0, 0xFFFF), st.sampled_from(["", "pass word"]))
    def test_both_sides_understand_each_other(self, host: str, port: int, password: str) -> None:
        server = Socks5ServerExchange(password)
        client = Socks5ClientExchange(host, port, "me" if password else "", password)
        said = client.start()
        while said:
            # Byte by byte, so every truncation is met
            answers = [server.receive(bytes([each])) for each in said]
            said = b"".join(client.receive(each) for each in answers if each)
        self.assertEqual(server.request, Socks5Request(host, port))
        self.assertFalse(client.done)
        client.receive(reply(Socks5Reply.SUCCEEDED) + b"first")
        self.assertTrue(client.done)
        self.assertEqual(client.leftover, b"first")

    def test_what_follows_the_request_is_kept(self) -> None:
        server = Socks5ServerExchange()
        server.receive(GREETING + b"\x05\x01\x00\x03\x01h\x00\x50GET /")
        self.assertEqual(server.leftover, b"GET /")


class RefusalTests(unittest.TestCase):
    def refusal(self, said: bytes, password: str = "") -> bytes:
        """The last words to a client that says this."""
        with self.assertRaises(PeerError) as caught:
            Socks5ServerExchange(password).receive(said)
        self.assertNotIn(password or "-", str(caught.exception.args[0]))
        return caught.exception.args[1] if len(caught.exception.args) > 1 else b""

    def test_who_offers_no_way_that_we_take(self) -> None:
        self.assertEqual(self.refusal(b"\x05\x01\x02"), b"\x05\xff")
        self.assertEqual(self.refusal(b"\x05\x01\x00", "p"), b"\x05\xff")
        self.assertEqual(self.refusal(b"\x05\x00"), b"\x05\xff")

    def test_a_wrong_password_gets_no_further(self) -> None:
        self.assertEqual(self.refusal(b"\x05\x01\x02\x01\x01u\x01qrest", "pp"), b"\x05\x02\x01\x01")

    def test_the_login_is_of_its_own_version(self) -> None:
        with self.assertRaises(PeerError):
            Socks5ServerExchange("pp").receive(b"\x05\x01\x02\x05\x01u\x02pp")

    def test_bind_and_udp_are_not_supported(self) -> None:
        for command in (0, 2, 3, 255):
            request = bytes([5, command, 0, 1]) + bytes(6)
            self.assertEqual(self.refusal(GREETING + request)[:4], b"\x05\x00\x05\x07")

    def test_an_unknown_kind_of_address(self) -> None:
        self.assertEqual(
            self.refusal(GREETING + b"\x05\x01\x00\x02abcdef")[:4], b"\x05\x00\x05\x08"
        )

    def test_names_that_cannot_be(self) -> None:
        for name in (b"", b"a\0b", b"a\nb", b"\x1b[2J"):
            request = b"\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\0\x50"
            self.assertEqual(self.refusal(GREETING + request)[:4], b"\x05\x00\x05\x04", name)

    def test_other_protocols_are_let_go_without_a_word(self) -> None:
        for said in (
            b"GET / HTTP/1.1\r\n",
            b"\x04\x01\0\x50\1\2\3\4\0",
            GREETING + b"\x04\x01\0\1",
        ):
            self.assertEqual(self.refusal(said + bytes(10)), b"")

    @settings(max_examples=200)
    @given(st.binary(max_size=600), st.sampled_from(["", "pass"]))
    def test_nothing_but_our_own_error_leaves(self, said: bytes, password: str) -> None:
        server = Socks5ServerExchange(password)
        try:
            server.receive(said)
        except PeerError:
            return
        if server.request is not None:
            self.assertTrue(said.endswith(server.leftover))
