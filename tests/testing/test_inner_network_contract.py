"""The contract of inner networks can be kept, and breaking it is noticed."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast
from unittest import TestResult

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError, TCPTimedOutError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IInnerNetwork
from anyvpn.testing.inner_network_contract import InnerNetworkContract

HOST = "127.0.0.1"
SILENT = "silent.test"
LATE_S = 2.5
TIME_LIMIT_S = 4


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


@implementer(IInnerNetwork)
class FakeNetwork:
    """This host's own network, with faults."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._kept: list[socket.socket] = []
        self._is_busy = False

    async def connect(self, host: str, port: int, timeout_s: float) -> int:
        if host == SILENT:
            if self._fault == "leaks when nobody waits":
                self._kept.append(socket.socket())
            await deferLater(
                cast(Any, reactor), LATE_S if self._fault == "waits too long" else timeout_s
            )
            raise TCPTimedOutError
        if host != HOST:
            if self._fault == "says so otherwise":
                raise OSError(f"{host!r} is no host")
            raise DNSLookupError(host)
        if self._fault == "gives one to all" and self._kept:
            return os.dup(self._kept[0].fileno())
        connection = socket.socket()
        try:
            connection.connect((host, port))
        except (OSError, OverflowError):
            if self._fault == "leaks":
                self._kept.append(connection)
            else:
                connection.close()
            raise ConnectError from None
        connection.setblocking(self._fault == "blocks")
        if self._fault == "gives one to all":
            self._kept.append(connection)
            return os.dup(connection.fileno())
        return connection.detach()

    async def run(self, command: Sequence[str]) -> int:
        if command[0] == "sleep" or self._is_busy:
            self._is_busy = self._fault == "runs one at a time"
            return await Deferred()
        if self._fault == "takes all for success":
            return 0
        if self._fault == "runs it elsewhere":
            command = ["unshare", "--net", *command]
        try:
            done = await deferToThread(subprocess.run, command, check=False)
        except OSError as error:
            raise TunUnavailable(str(error)) from None
        return done.returncode % 256


class FakeNetworkCase(InnerNetworkContract):
    fault = ""
    refusing = (HOST, 1)
    silent = (SILENT, 7)

    async def make_network(self) -> IInnerNetwork:
        return FakeNetwork(self.fault)


@pytest.fixture(scope="module", autouse=True)
def echo() -> Iterator[None]:
    server = socketserver.ThreadingTCPServer((HOST, 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakeNetworkCase.echo = server.server_address[:2]  # type: ignore[assignment]  # of IPv4
    yield
    server.shutdown()
    server.server_close()


def passes(claim: str, broken: str) -> bool:
    """Whether a network with this fault passes the test of the contract."""

    class Case(FakeNetworkCase, TestCase):
        """Not collected: it lives in here only."""

        fault = broken
        timeout = TIME_LIMIT_S

    outcome = TestResult()
    Case(claim).run(outcome)
    assert outcome.testsRun == 1
    return outcome.wasSuccessful()


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ("blocks", "test_a_connection_is_the_callers"),
        ("gives one to all", "test_connections_do_not_meet"),
        ("leaks", "test_whoever_refuses_is_told_apart_and_leaves_nothing"),
        ("waits too long", "test_whoever_is_silent_costs_the_time_that_was_given"),
        ("says so otherwise", "test_names_of_nobody_are_told"),
        ("leaks when nobody waits", "test_who_does_not_wait_for_a_connection_leaves_nothing"),
        ("takes all for success", "test_a_command_gives_its_status"),
        ("runs it elsewhere", "test_a_command_has_this_network"),
        ("takes all for success", "test_a_command_that_is_not_there_is_no_success"),
        ("runs one at a time", "test_a_command_that_nobody_waits_for_keeps_no_other"),
    ],
)
class InnerNetworkContractTests:
    def test_good_fake_passes(self, fault: str, claim: str) -> None:
        assert passes(claim, "")

    def test_fault_is_noticed(self, fault: str, claim: str) -> None:
        assert not passes(claim, fault)
