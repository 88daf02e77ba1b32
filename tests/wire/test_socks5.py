"""Tests of anyvpn.wire.socks5 and anyvpn.wire.socks5_server: both sides, joined and alone."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.errors import PeerError
from anyvpn.wire.socks5 import Socks5ClientExchange
from anyvpn.wire.socks5_server import Socks5Reply, Socks5ServerExchange, reply


def talk(client: Socks5ClientExchange, server: Socks5ServerExchange) -> None:
    """Let both say what they have to, a byte at a time."""
    to_server = client.start()
    while server.request is None:
        answer = b""
        for at in range(len(to_server)):
            answer += server.receive(to_server[at : at + 1])
        to_server = b"".join(client.receive(answer[at : at + 1]) for at in range(len(answer)))
        assert to_server or server.request


class JoinedTests:
    @pytest.mark.parametrize("host", ["inside.example", "192.0.2.7", "2001:db8::7"])
    @pytest.mark.parametrize("password", ["", "secret"])
    def test_a_request_arrives(self, host: str, password: str) -> None:
        client = Socks5ClientExchange(host, 443, "user" if password else "", password)
        server = Socks5ServerExchange(password)
        talk(client, server)
        assert server.request is not None
        assert (server.request.host, server.request.port) == (host, 443)
        assert client.receive(reply(Socks5Reply.SUCCEEDED) + b"hello") == b""
        assert client.done
        assert client.leftover == b"hello"


class ClientTests:
    def test_a_refusal_is_told_in_words(self) -> None:
        client = Socks5ClientExchange("a.example", 1)
        client.start()
        client.receive(b"\5\0")
        with pytest.raises(PeerError, match="connection refused"):
            client.receive(reply(Socks5Reply.REFUSED))

    def test_a_proxy_that_wants_a_login(self) -> None:
        client = Socks5ClientExchange("a.example", 1)
        with pytest.raises(PeerError, match="user name and a password"):
            client.receive(b"\5\xff")

    @pytest.mark.parametrize("host", ["", "a" * 256])
    def test_a_name_that_socks_cannot_carry(self, host: str) -> None:
        with pytest.raises(ValueError, match="1 to 255"):
            Socks5ClientExchange(host, 1)

    @given(st.binary(max_size=64))
    def test_hostile_proxies_raise_nothing_else(self, data: bytes) -> None:
        client = Socks5ClientExchange("a.example", 1, "user", "password")
        client.start()
        with contextlib.suppress(PeerError):
            client.receive(data)


class ServerTests:
    def test_a_wrong_password(self) -> None:
        server = Socks5ServerExchange("right")
        server.receive(b"\5\1\2")
        with pytest.raises(PeerError) as refused:
            server.receive(b"\1\4user\5wrong")
        assert refused.value.args[1] == b"\1\1"

    def test_no_other_command(self) -> None:
        server = Socks5ServerExchange()
        server.receive(b"\5\1\0")
        with pytest.raises(PeerError) as refused:
            server.receive(b"\5\2\0\1\0\0\0\0\0\0")
        assert refused.value.args[1][1] == Socks5Reply.NO_SUCH_COMMAND

    @given(st.binary(max_size=64))
    def test_hostile_clients_raise_nothing_else(self, data: bytes) -> None:
        for password in ("", "secret"):
            with contextlib.suppress(PeerError):
                Socks5ServerExchange(password).receive(b"\5\2\0\2" + data)
