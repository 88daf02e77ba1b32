"""Tests of anyvpn.backends.redis_server against servers that answer anything but a reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from anyvpn.backends import redis_server, redis_settings
from anyvpn.backends.redis_server import RedisServer
from anyvpn.backends.redis_settings import RedisAddress, RedisSettings, read_address
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.testing.outcomes import error_of

HOST = "127.0.0.1"
NO_REPLY = "answers what is no Redis reply"
LOOKS = 500
PING = b"*1\r\n$4\r\nPING\r\n"


class Peer(Protocol):
    """Answers whatever comes with what a test wants, and perhaps hangs up."""

    def connectionMade(self) -> None:
        self.factory.peers.append(self)  # type: ignore[union-attr]  # Server's

    def dataReceived(self, data: bytes) -> None:
        server: Any = self.factory
        server.received += data
        assert self.transport is not None
        self.transport.write(server.answer)
        if server.hangs_up:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.peers.remove(self)  # type: ignore[union-attr]  # Server's


class Server(Factory):
    protocol = Peer

    def __init__(self, answer: bytes, *, hangs_up: bool) -> None:
        self.answer = answer
        self.hangs_up = hangs_up
        self.received = b""
        self.peers: list[Peer] = []


class ServerCase(TestCase):
    def serve(self, answer: bytes, *, hangs_up: bool = False, **settings: Any) -> RedisServer:
        self.server = Server(answer, hangs_up=hangs_up)
        port = reactor.listenTCP(0, self.server, interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return self.at(f"redis://{HOST}:{port.getHost().port}", **settings)

    def at(self, url: str, **settings: Any) -> RedisServer:
        return RedisServer(RedisSettings(url, **{"time_s": 0.3, **settings}), reactor)  # type: ignore[arg-type]

    async def problem(self, server: RedisServer) -> str:
        error = await error_of(server.ask("PING"), BackendFailed)
        return str(error).removeprefix(f"{server} ")

    async def are_connected(self, count: int) -> None:
        for _ in range(LOOKS):
            if len(self.server.peers) == count:
                return
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # trial's
        raise AssertionError(f"{len(self.server.peers)} are connected, and not {count}")

    async def nobody_is_connected(self) -> None:
        await self.are_connected(0)


class RepliesTests(ServerCase):
    async def test_replies_of_every_kind_are_read(self) -> None:
        for answer, reply in (
            (b"+PONG\r\n", "PONG"),
            (b":17\r\n", 17),
            (b"$3\r\n1.5\r\n", b"1.5"),
            (b"$-1\r\n", None),
            (b"*3\r\n$2\r\n\xff\r\r\n$-1\r\n:2\r\n", [b"\xff\r", None, 2]),
            (b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", [b"0", [b"k"]]),
        ):
            if answer.startswith(b"*3"):
                answer = b"*3\r\n$2\r\n\xff\r\r\n$-1\r\n:2\r\n"
            assert await self.serve(answer).ask("PING") == reply, answer
            assert self.server.received == PING
            await self.nobody_is_connected()

    async def test_what_is_no_reply_is_told(self) -> None:
        for answer in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\xff\xfe\r\n",
            b"*x\r\n",
            b"$x\r\n",
            b":x\r\n",
            b"*1\r\n$-7\r\nxxxxxxxxxxxxxx\r\n",
            b"x" * 20_000,
        ):
            said = await self.problem(self.serve(answer))
            assert said in (NO_REPLY, "does not answer within 0.3 s"), (answer, said)
            await self.nobody_is_connected()

    async def test_half_an_answer_is_none(self) -> None:
        for half in (b"", b"+PO", b"$5\r\nab", b"*2\r\n:1\r\n", b"*1\r\n*1\r\n"):
            assert await self.problem(self.serve(half)) == "does not answer within 0.3 s"
            await self.nobody_is_connected()
            said = await self.problem(self.serve(half, hangs_up=True))
            assert said == "closes the connection"
            await self.nobody_is_connected()

    async def test_a_flood_is_cut_off(self) -> None:
        server = self.serve(b"$99999999\r\n" + b"x" * (redis_server.MOST_QUESTIONS << 14))
        assert await self.problem(server) == "answers more than 1048576 bytes"
        await self.nobody_is_connected()

    async def test_a_refusal_is_shown_in_one_short_line(self) -> None:
        server = self.serve(b"-ERR \x1b[31mno\x07" + b"!" * 5000 + b"\r\n")
        said = await self.problem(server)
        assert said.startswith("refuses: ERR ?[31mno?!!!")
        assert len(said) < 300

    async def test_more_than_was_asked_for_meets_no_other_question(self) -> None:
        server = self.serve(b"+first\r\n+second\r\n+third\r\n")
        assert await server.ask("PING") == "first"
        assert await server.ask("PING") == "first"


class QuestionsTests(ServerCase):
    async def test_whoever_does_not_wait_any_more_leaves_nothing_behind(self) -> None:
        server = self.serve(b"", time_s=5.0)
        asking = Deferred.fromCoroutine(server.ask("PING"))
        await self.are_connected(1)
        asking.cancel()
        await self.nobody_is_connected()
        assert asking.called
        asking.addErrback(lambda _: None)

    async def test_their_number_is_bounded(self) -> None:
        server = self.serve(b"", time_s=5.0)
        asking = [
            Deferred.fromCoroutine(server.ask("PING")) for _ in range(redis_server.MOST_QUESTIONS)
        ]
        assert await self.problem(server) == f"{server}: 256 questions wait for an answer"
        for each in asking:
            each.cancel()
            each.addErrback(lambda _: None)
        await gatherResults(asking)
        self.server.answer = b"+PONG\r\n"
        assert await server.ask("PING") == "PONG"

    async def test_names_that_lead_nowhere_are_told(self) -> None:
        server = self.at("redis://nowhere.invalid", time_s=10.0)
        assert await self.problem(server) == "has a name that leads nowhere"


class FilesTests(TestCase):
    def test_what_cannot_be_used_is_told_at_the_start(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        empty, missing = directory / "empty", directory / "missing"
        empty.write_text("\nsecond line")
        for settings, why in (
            ({"password_file": missing}, r"redis: password_file .*missing cannot be read: No such"),
            ({"password_file": empty}, r"redis: password_file .*empty has no password in its firs"),
            ({"ca_file": missing}, r"redis: ca_file .*missing cannot be used: .*No such file"),
            ({"ca_file": empty}, r"redis: ca_file .*empty cannot be used: "),
            (
                {"certificate_file": empty, "private_key_file": empty},
                r"redis: certificate_file .*empty and private_key_file .*empty cannot be used",
            ),
        ):
            with self.subTest(why), pytest.raises(ConfigurationError, match=why):
                RedisServer(RedisSettings("rediss://h", **settings), reactor)  # type: ignore[arg-type]


class SettingsTests:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("redis://redis.example.com", RedisAddress("redis.example.com", 6379)),
            ("redis://[fd00::1]:7000/", RedisAddress("fd00::1", 7000)),
            (
                "rediss://vpn@10.0.0.1:6380/2",
                RedisAddress("10.0.0.1", 6380, tls=True, user="vpn", database=2),
            ),
            ("unix:///run/redis%20/x.sock", RedisAddress(path="/run/redis /x.sock")),
        ],
    )
    def test_urls_are_read(self, url: str, address: RedisAddress) -> None:
        assert read_address(url) == address
        assert str(read_address(url)) == url

    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({"url": "http://redis"}, 'url must be like "redis://redis.example.com:6379/0"'),
            ({"url": "redis://"}, "url must be like"),
            ({"url": "redis://h:0"}, "url must be like"),
            ({"url": "redis://h:66666"}, "url must be like"),
            ({"url": "redis://h/x"}, "url must be like"),
            ({"url": "redis://h/0?x=1"}, "url must be like"),
            ({"url": "unix://run/redis.sock"}, "url must be like"),
            ({"url": "redis://[::1"}, "url must be like"),
            ({"url": "redis://:secret@h"}, "url must not hold the password"),
            ({"url": "redis://vpn@h"}, 'url names the user "vpn", who needs a password_file'),
            ({"ca_file": Path("ca")}, "url must begin with rediss://"),
            ({"certificate_file": Path("c")}, "certificate_file and private_key_file go together"),
            ({"prefix": "a\n"}, "prefix must be printable"),
            ({"time_s": 0.0}, "time_s must be more than 0 and at most 30"),
        ],
    )
    def test_wrong_settings_are_refused_in_words(self, settings: Any, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            RedisSettings(**{"url": "redis://h", **settings})

    def test_the_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_settings, "find_spec", lambda _: None)
        with pytest.raises(ValueError, match=r"pip install 'anyvpn\[redis\]'"):
            RedisSettings("redis://h")
