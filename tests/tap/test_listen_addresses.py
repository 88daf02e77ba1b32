"""Endpoint strings, the UDP addresses beside them, and ports that cannot be had."""

from __future__ import annotations

import socket
import unittest
from contextlib import closing
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from anyvpn.errors import ConfigurationError, StartUpFailed
from anyvpn.tap.listen_addresses import (
    ListenAddress,
    Reactor,
    cannot_listen,
    datagram_addresses,
    listen_on,
    read_listen_address,
)

reactor = cast(Reactor, installed)


def read(text: str) -> ListenAddress:
    return read_listen_address(reactor, text)


class ReadingTests(unittest.TestCase):
    def test_interface_and_port_of_tcp_are_known(self) -> None:
        assert read("tcp:443") == ListenAddress("tcp:443", "0.0.0.0", 443)
        assert read(r"tcp:443:interface=\:\:").interface == "::"
        assert read(r"tcp:port=8443:interface=fd00\:\:1").interface == "fd00::1"
        assert read("tcp:8443:192.0.2.1") == ListenAddress("tcp:8443:192.0.2.1", "192.0.2.1", 8443)
        assert read("tcp6:443").interface == "::"

    def test_others_are_taken_without(self) -> None:
        assert read("systemd:domain=INET:index=0").port == 0
        assert read("haproxy:tcp:443").port == 443
        assert not read("haproxy:tcp:443").is_plain_tcp

    def test_what_is_wrong_is_said(self) -> None:
        for text, word in (
            ("", "Twisted endpoint string"),
            ("443", "Twisted endpoint string"),
            ("tcp:", "Twisted endpoint string"),
            ("tcp:https", "Twisted endpoint string"),
            ("tcp:1:nonsense=2", "Twisted endpoint string"),
            ("tcp:abc", r"\('abc' is no number\)"),
            ("tcp:1:nonsense=2", r"\(got an unexpected keyword argument 'nonsense'\)"),
            ("tls:443", "does TLS itself"),
            ("tcp:70000", "between 0 and 65535"),
            ("tcp:1:interface=here", "IP address"),
            ("haproxy:tls:1", "does TLS itself"),
        ):
            with self.subTest(text), self.assertRaisesRegex(ConfigurationError, word):
                read(text)


class DatagramAddressTests(unittest.TestCase):
    def addresses(self, *texts: str, interfaces: tuple[str, ...] = ()) -> list[str]:
        found = datagram_addresses(map(read, texts), interfaces, 443)
        assert {port for _, port in found} == {443}
        return [host for host, _ in found]

    def test_udp_is_received_wherever_tcp_is_listened_for(self) -> None:
        assert self.addresses("tcp:443") == ["0.0.0.0"]
        assert self.addresses("tcp:443:interface=192.0.2.1", "tcp:444:interface=192.0.2.1") == [
            "192.0.2.1"
        ]

    def test_one_socket_for_all_addresses_is_enough(self) -> None:
        both = ("tcp:443", r"tcp:443:interface=\:\:", "tcp:443:interface=192.0.2.1")
        assert self.addresses(*both) == ["::"]
        assert self.addresses("tcp:443", "tcp:443:interface=192.0.2.1") == ["0.0.0.0"]
        assert self.addresses("systemd:domain=INET:index=0") == ["::"]

    def test_own_interfaces_go_before(self) -> None:
        assert self.addresses("tcp:443", interfaces=("192.0.2.1", "fd00::1")) == [
            "192.0.2.1",
            "fd00::1",
        ]


class ListeningTests(unittest.TestCase):
    def setUp(self) -> None:
        self.factory = cast(Any, Factory())

    def listen(self, *texts: str) -> list[IListeningPort]:
        ports = listen_on(reactor, [read(each) for each in texts], self.factory)
        for each in ports:
            self.addCleanup(each.stopListening)
        return ports

    def test_port_that_is_taken_is_named_and_nothing_is_kept(self) -> None:
        with closing(socket.socket()) as taken, closing(socket.socket()) as free:
            for each in (taken, free):
                each.bind(("127.0.0.1", 0))
            taken.listen()
            port, free_port = taken.getsockname()[1], free.getsockname()[1]
            free.close()
            with self.assertRaises(StartUpFailed) as raised:
                self.listen(
                    f"tcp:{free_port}:interface=127.0.0.1", f"tcp:{port}:interface=127.0.0.1"
                )
        assert str(raised.exception) == (
            f"cannot listen on TCP 127.0.0.1:{port}: another program listens on it"
        )
        cast(Any, installed).runUntilCurrent()
        with closing(socket.socket()) as again:
            again.bind(("127.0.0.1", free_port))

    def test_address_of_another_machine_is_named(self) -> None:
        with self.assertRaisesRegex(StartUpFailed, "192.0.2.77:.*no such address"):
            self.listen("tcp:0:interface=192.0.2.77")

    def test_both_families_can_have_an_endpoint_of_their_own(self) -> None:
        with closing(socket.socket()) as free:
            free.bind(("0.0.0.0", 0))
            port = free.getsockname()[1]
        ports = self.listen(f"tcp:{port}", rf"tcp:{port}:interface=\:\:")
        assert len(ports) == 2
        with closing(socket.create_connection(("127.0.0.1", port), 5)) as ipv4:
            assert ipv4.getpeername()[1] == port

    def test_systemd_s_sockets_need_systemd(self) -> None:
        with self.assertRaisesRegex(StartUpFailed, "systemd"):
            self.listen("systemd:domain=INET:index=0")

    def test_udp_is_described_alike(self) -> None:
        error = CannotListenError("::", 443, OSError(98, "Address already in use"))
        assert cannot_listen(error, "UDP") == (
            "cannot listen on UDP [::]:443: another program listens on it"
        )
