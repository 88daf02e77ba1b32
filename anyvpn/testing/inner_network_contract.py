"""What every way into the network behind a tunnel must do; for a test case of twisted.trial."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IInnerNetwork
from anyvpn.testing.outcomes import error_of

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Case
else:
    _Case = object

# Ours
TIME_S = 10.0
SHORT_TIME_S = 0.3
SLACK_S = 2.0
PAUSE_S = 0.05
NOBODY = ("nowhere.invalid", "", "a\0b", "two words", "x" * 300, "..", "-", "\udcff")
ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    while data := client.recv(4096):
        client.sendall(data)
"""
"""A program that sends back all that it is sent, for `run`; the port is its argument."""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)"


class InnerNetworkContract(_Case):
    """Say how to make yours, and what is in it."""

    async def make_network(self) -> IInnerNetwork:
        """A network with somebody who sends back all that comes, at `echo`."""
        raise NotImplementedError

    echo: tuple[str, int]
    refusing: tuple[str, int]
    """A host that is there, and a port at which nobody listens."""
    silent: tuple[str, int]
    """Whoever is asked there does not answer."""

    async def test_interface_is_provided(self) -> None:
        verifyObject(IInnerNetwork, await self.make_network())

    async def test_a_connection_is_the_callers(self) -> None:
        network = await self.make_network()
        descriptor = await network.connect(*self.echo, TIME_S)
        with socket.socket(fileno=descriptor) as connection:
            assert connection.type == socket.SOCK_STREAM
            assert not os.get_blocking(descriptor)
            assert connection.getpeername()[1] == self.echo[1]
            connection.settimeout(TIME_S)
            connection.sendall(b"is anybody there?")
            assert await deferToThread(connection.recv, 100) == b"is anybody there?"

    async def test_connections_do_not_meet(self) -> None:
        network = await self.make_network()
        first, second = [await network.connect(*self.echo, TIME_S) for _ in range(2)]
        with socket.socket(fileno=first) as one, socket.socket(fileno=second) as other:
            assert one.getsockname() != other.getsockname()

    async def test_whoever_refuses_is_told_apart_and_leaves_nothing(self) -> None:
        network = await self.make_network()
        before = await _descriptors()
        for host, port in (self.refusing, (self.echo[0], 0), (self.echo[0], 65536)):
            await error_of(network.connect(host, port, TIME_S), ConnectError)
        assert await _descriptors() <= before

    async def test_whoever_is_silent_costs_the_time_that_was_given(self) -> None:
        network = await self.make_network()
        before = await _descriptors()
        begun_at_s = time.monotonic()
        await error_of(network.connect(*self.silent, SHORT_TIME_S), ConnectError)
        assert time.monotonic() - begun_at_s < SHORT_TIME_S + SLACK_S
        assert await _descriptors() <= before

    async def test_names_of_nobody_are_told(self) -> None:
        network = await self.make_network()
        for name in NOBODY:
            await error_of(network.connect(name, self.echo[1], TIME_S), DNSLookupError)

    async def test_who_does_not_wait_for_a_connection_leaves_nothing(self) -> None:
        network = await self.make_network()
        before = await _descriptors()
        connecting = Deferred.fromCoroutine(network.connect(*self.silent, TIME_S))
        connecting.cancel()
        await error_of(connecting, CancelledError)
        assert await _descriptors() <= before

    async def test_a_command_gives_its_status(self) -> None:
        network = await self.make_network()
        for status in (0, 7):
            assert await network.run(["sh", "-c", f"exit {status}"]) == status
        assert await network.run(["sh", "-c", "kill -TERM $$"]) not in (0, None)

    async def test_a_command_has_this_network(self) -> None:
        network = await self.make_network()
        for (host, port), status in ((self.echo, 0), (self.refusing, 1)):
            command = [sys.executable, "-c", CONNECT, host, str(port)]
            assert await network.run(["sh", "-c", '"$@" 2>&-', "sh", *command]) == status

    async def test_a_command_that_is_not_there_is_no_success(self) -> None:
        network = await self.make_network()
        with suppress(TunUnavailable):
            assert await network.run(["/nowhere/command"]) != 0

    async def test_a_command_that_nobody_waits_for_keeps_no_other(self) -> None:
        network = await self.make_network()
        running = Deferred.fromCoroutine(network.run(["sleep", "60"]))
        running.cancel()
        await error_of(running, CancelledError)
        assert await network.run(["true"]) == 0


async def _descriptors() -> set[str]:
    """What is open when everything has come to rest: sets, as others' may close meanwhile."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    await deferLater(cast(IReactorTime, reactor), PAUSE_S)
    opened = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            opened.add(f"{each.name} {each.readlink()}")
    return opened
