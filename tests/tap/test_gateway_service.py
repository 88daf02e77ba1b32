"""Opens while it has the rights, says why when it cannot, and closes everything in order."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock, call, patch

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from anyvpn.errors import BackendFailed, StartUpFailed, TunUnavailable
from anyvpn.interfaces import ITunBackend
from anyvpn.tap import gateway_service
from anyvpn.tap.config_build import LoadedGateway
from anyvpn.tap.gateway import Options
from anyvpn.tap.gateway_service import OTHER_FILES, STOP_TIME_S, GatewayReactor, GatewayService
from tests.tap.set_up import SetUp


class Output:
    """The operator's terminal."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_closed = False

    def write(self, line: str) -> None:
        assert not self.is_closed
        self.lines.append(line)

    def close(self) -> None:
        self.is_closed = True


class Site:
    """What happened, in order, and what shall go wrong."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.started: Deferred[None] = succeed(None)
        self.stopped: Deferred[None] = succeed(None)
        self.tun_opened: Deferred[None] = succeed(None)
        self.udp_error: Exception | None = None
        self.device: Device


class Device:
    name = "memory0"
    mtu_bytes = 1500
    vnet_header_bytes = 10
    takes_datagrams = False

    def __init__(self, site: Site) -> None:
        self.on_lost: Callable[[str], None] = site.happened.append
        self._site = site
        site.device = self

    async def close(self) -> None:
        self._site.happened.append("device closed")


@implementer(ITunBackend)
class Tun:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def open(
        self, addresses: Sequence[IPv4Interface | IPv6Interface], mtu_bytes: int
    ) -> Device:
        await self._site.tun_opened
        self._site.happened.append(f"device opened {addresses[0]} {mtu_bytes}")
        return Device(self._site)


class FakeParts:
    """Makers of what stands behind the service, which note what is done with them."""

    def __init__(self, site: Site) -> None:
        class Datagrams:
            def __init__(self, reactor: object) -> None: ...

            def open(self, addresses: object, *, queues: int) -> None:
                assert queues == 1
                if site.udp_error is not None:
                    raise site.udp_error
                site.happened.append(f"UDP opened {addresses}")

            def close(self) -> None:
                site.happened.append("UDP closed")

        class Engine:
            name, cipher_library = "of the test", "nobody"
            reads_all_queues = True

            def __init__(self, *parts: object) -> None: ...

            def start(self) -> None:
                site.happened.append("engine started")

            def stop(self) -> None:
                site.happened.append("engine stopped")

        class FakeGateway:
            def __init__(self, *parts: object, **others: object) -> None: ...

            def factory(self) -> Factory[Any]:
                return Factory()

            async def start(self) -> None:
                await site.started
                site.happened.append("gateway started")

            async def stop(self) -> None:
                await site.stopped
                site.happened.append("gateway stopped")

        self.datagrams, self.engine, self.gateway = Datagrams, Engine, FakeGateway


class Sessions:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def close(self) -> None:
        self._site.happened.append("sessions closed")


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.site = Site()
        parts = FakeParts(self.site)
        patched = patch.multiple(
            gateway_service,
            Gateway=parts.gateway,
            DatagramSockets=parts.datagrams,
            gc=Mock(gc),  # or whatever the tests have left would stay for good
        )
        patched.start()
        self.addCleanup(patched.stop)
        self.addCleanup(setattr, sys, "excepthook", sys.excepthook)
        self.reactor = MemoryReactorClock()
        self.output = Output()
        loaded = SetUp(Path(directory.name)).load()
        self.loaded: LoadedGateway = replace(
            loaded,
            tun=cast(Any, Tun(self.site)),
            engine=cast(Any, parts.engine),
            settings=replace(loaded.settings, sessions=cast(Any, Sessions(self.site))),
        )
        self.service = GatewayService(cast(GatewayReactor, self.reactor), self.loaded, self.output)

    def start(self) -> None:
        self.service.privilegedStartService()
        self.service.startService()

    def refusal(self) -> str:
        """The one line that the operator and the log are told."""
        with pytest.raises(StartUpFailed):
            self.start()
        [line] = self.output.lines
        assert self.output.is_closed
        return line

    def assert_ends_with_failure(
        self, happens: Callable[[], None], stopping: type[Exception] | None = None
    ) -> None:
        """The reactor stops, once it runs, and the process ends with an exit status."""
        self.reactor.running = True
        hooks = self.reactor.whenRunningHooks
        before = len(hooks)
        with (
            patch.object(gateway_service.atexit, "register") as at_exit,
            patch.object(self.reactor, "stop", side_effect=stopping) as stop,
        ):
            happens()
            for callback, arguments, options in hooks[before:]:
                callback(*arguments, **options)
        assert at_exit.called
        assert stop.called


class StartTests(ServiceCase):
    def test_everything_is_open_before_the_user_changes(self) -> None:
        self.service.privilegedStartService()
        assert self.site.happened == [
            "device opened 10.9.8.1/24 1500",
            "UDP opened (('127.0.0.1', 4433),)",
        ]
        assert [(port, host) for port, _, _, host in self.reactor.tcpServers] == [(0, "127.0.0.1")]

    def test_serving_begins_afterwards(self) -> None:
        self.start()
        assert self.site.happened[2:] == ["engine started", "gateway started"]
        assert self.output.is_closed
        assert self.output.lines == []

    def test_each_connection_may_have_a_file(self) -> None:
        limits = replace(self.loaded.settings.limits, connections=1000)
        loaded = replace(self.loaded, settings=replace(self.loaded.settings, limits=limits))
        self.service = GatewayService(cast(GatewayReactor, self.reactor), loaded, self.output)
        with (
            patch.object(gateway_service.resource, "getrlimit", return_value=(1024, 50_000)),
            patch.object(gateway_service.resource, "setrlimit") as set_limit,
        ):
            self.start()
        _, (soft, hard) = set_limit.call_args.args
        assert (soft, hard) == (1000 + OTHER_FILES, 50_000)

    def test_what_is_there_at_the_start_is_not_looked_through_for_garbage(self) -> None:
        """That took 50 ms now and then, in which a Python gateway does nothing else."""
        collector = cast(Mock, gateway_service.gc)
        self.site.started = Deferred()
        self.start()
        assert collector.mock_calls == []
        self.site.started.callback(None)
        assert collector.mock_calls == [call.collect(), call.freeze()]

    def test_one_line_says_what_runs(self) -> None:
        self.start()
        said = self.service.describe()
        for words in (
            "Gateway vpn.test listens on tcp:0:interface=127.0.0.1",
            "DTLS on UDP port 4433 (PSK ",
            "resumption yes, legacy no)",
            "tun device memory0 (offloads yes)",
            "packet engine of the test (AES-GCM by nobody)",
            "connection profiles: 1",
        ):
            assert words in said


class ControlTests(ServiceCase):
    def test_control_socket_is_of_the_user_that_twistd_has_become(self) -> None:
        self.service.privilegedStartService()
        assert self.reactor.unixServers == []
        self.service.startService()
        [(path, *_)] = self.reactor.unixServers
        assert path == str(self.loaded.file.with_suffix(".sock"))
        assert f"control socket {path}" in self.service.describe()

    def test_one_that_cannot_be_had_is_refused_before_anything_begins(self) -> None:
        self.loaded.file.with_suffix(".sock").write_text("precious")
        assert "gateway.sock: something else has this name; [control] " in self.refusal()
        assert self.site.happened[2:] == ["UDP closed", "device closed"]

    def test_none_is_opened_when_it_is_off(self) -> None:
        loaded = replace(self.loaded, control=None)
        self.service = GatewayService(cast(GatewayReactor, self.reactor), loaded, self.output)
        self.start()
        assert self.reactor.unixServers == []
        assert "control socket none" in self.service.describe()


class RefusalTests(ServiceCase):
    def test_missing_tun_device_is_named_and_nothing_else_is_opened(self) -> None:
        self.site.tun_opened = Deferred()
        self.site.tun_opened.errback(TunUnavailable("no tun device:\nmodprobe tun"))
        assert self.refusal() == "anyvpn-gateway: no tun device: modprobe tun"
        assert self.site.happened == []

    def test_taken_udp_port_is_named(self) -> None:
        self.site.udp_error = CannotListenError("0.0.0.0", 443, OSError(98, "in use"))
        assert self.refusal() == (
            "anyvpn-gateway: cannot listen on UDP 0.0.0.0:443: another program listens on it"
        )
        assert self.site.happened[-1] == "device closed"

    def test_taken_tcp_port_is_named_and_the_rest_is_closed(self) -> None:
        def taken(port: int, *_: object) -> None:
            raise CannotListenError("127.0.0.1", port, OSError(98, "in use"))

        with patch.object(self.reactor, "listenTCP", taken):
            assert "TCP 127.0.0.1:0: another program" in self.refusal()
        assert self.site.happened[-2:] == ["UDP closed", "device closed"]

    def test_tun_backend_that_waits_is_refused(self) -> None:
        self.site.tun_opened = Deferred()
        assert "waits for the reactor" in self.refusal()

    def test_start_that_fails_at_once_is_refused(self) -> None:
        self.site.started = Deferred()
        self.site.started.errback(BackendFailed("the disk is full"))
        assert self.refusal() == "anyvpn-gateway: the disk is full"

    def test_start_that_fails_later_stops_the_process(self) -> None:
        self.site.started = Deferred()
        self.start()
        self.assert_ends_with_failure(
            lambda: self.site.started.errback(BackendFailed("the disk is full"))
        )
        assert self.output.lines == ["anyvpn-gateway: the disk is full"]

    def test_refusal_shows_no_traceback_but_bugs_do(self) -> None:
        shown: list[type[BaseException]] = []
        sys.excepthook = lambda kind, *_: shown.append(kind)
        self.site.udp_error = CannotListenError("::", 443, OSError(98, "in use"))
        self.refusal()
        sys.excepthook(StartUpFailed, StartUpFailed("x"), None)
        sys.excepthook(ValueError, ValueError("x"), None)
        assert shown == [ValueError]


class StopTests(ServiceCase):
    def test_parts_stop_in_order(self) -> None:
        self.start()
        self.site.happened.clear()
        self.successResultOf(self.service.stopService())
        assert self.site.happened == [
            "gateway stopped",
            "engine stopped",
            "UDP closed",
            "device closed",
            "sessions closed",
        ]

    def test_part_that_fails_keeps_nothing_up(self) -> None:
        self.start()
        self.site.stopped = Deferred()
        self.site.stopped.errback(ValueError("a bug"))
        self.successResultOf(self.service.stopService())
        assert self.site.happened[-1] == "sessions closed"
        assert len(self.flushLoggedErrors(ValueError)) == 1

    def test_part_that_hangs_is_left_behind(self) -> None:
        self.start()
        self.site.stopped = Deferred()
        stopping = self.service.stopService()
        self.assertNoResult(stopping)
        self.reactor.advance(STOP_TIME_S + 0.1)
        self.successResultOf(stopping)
        assert self.site.happened[-1] == "sessions closed"
        assert len(self.flushLoggedErrors()) == 1

    def test_stop_in_the_middle_of_the_start_is_no_failure(self) -> None:
        self.site.started = Deferred()
        self.start()
        self.successResultOf(self.service.stopService())
        assert self.output.lines == []
        assert self.site.happened[-1] == "sessions closed"


class LostDeviceTests(ServiceCase):
    def test_gateway_ends_with_one_line_that_says_why(self) -> None:
        self.start()
        with capturedLogs() as logs:
            self.assert_ends_with_failure(
                lambda: self.site.device.on_lost("the tun device memory0 is gone (pulled out)")
            )
        [said] = map(formatEvent, logs)
        assert said == "The gateway ends: the tun device memory0 is gone (pulled out)"

    def test_it_may_be_lost_while_the_gateway_stops(self) -> None:
        self.start()
        self.assert_ends_with_failure(lambda: self.site.device.on_lost("gone"), ReactorNotRunning)


class OptionTests(SynchronousTestCase):
    def test_configuration_must_be_named(self) -> None:
        with pytest.raises(usage.UsageError, match="--config FILE"):
            Options().parseOptions([])

    def test_configuration_is_taken_by_both_names(self) -> None:
        for arguments in (["--config", "a.toml"], ["-c", "a.toml"]):
            options = Options()
            options.parseOptions(arguments)
            assert options["config"] == "a.toml"
