"""The store of one-time codes alone, with a real redis-server on this host: good and bad ways."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from anyvpn.backends.one_time_code_redis import CodeRedis
from anyvpn.backends.one_time_code_store import CodeStore
from anyvpn.backends.redis_server import RedisServer
from anyvpn.backends.redis_settings import RedisSettings
from anyvpn.errors import BackendFailed
from anyvpn.testing.outcomes import error_of
from anyvpn.testing.redis import Redis
from tests.backends.code_store_contract import CodeStoreContract
from tests.backends.test_one_time_codes import SECRET, counted, timed
from tests.interop.test_ldap_directory import free_port

ADDRESS = "127.0.0.1"
PASSWORD = "redis pässword"
KEY = bytes(range(32))


class Site:
    """The server, and the files that speak of it."""

    redis: Redis
    directory: Path
    port: int

    @classmethod
    def file(cls, name: str, text: str) -> Path:
        file = cls.directory / name
        file.write_text(text)
        return file

    @classmethod
    def settings(cls, **changes: Any) -> RedisSettings:
        own = {
            "url": f"rediss://{ADDRESS}:{cls.port}/3",
            "password_file": cls.directory / "password",
            "ca_file": cls.directory / "ca.pem",
            "certificate_file": cls.directory / "client.pem",
            "private_key_file": cls.directory / "client-key.pem",
            "time_s": 2.0,
            **changes,
        }
        return RedisSettings(**own)


@pytest.fixture(scope="module", autouse=True)
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With TLS, which asks for a certificate, and with a password, as nobody would do it worse."""
    directory = Site.directory = tmp_path_factory.mktemp("redis")
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.write_to_path(directory / "other.pem")
    for name, identity in (("server", ADDRESS), ("client", "vpn.test"), ("stray", "10.9.9.9")):
        issued = authority.issue_cert(identity, key_type=trustme.KeyType.ECDSA)
        issued.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
        issued.private_key_pem.write_to_path(directory / f"{name}-key.pem")
    Site.file("password", f"{PASSWORD}\n")
    Site.port = free_port()
    Site.redis = Redis(directory / "server", tls_options("server"), port=Site.port, tls=True)
    Site.redis.start()
    yield
    Site.redis.stop()


def tls_options(name: str) -> tuple[str, ...]:
    return (
        *("--requirepass", PASSWORD, "--tls-ca-cert-file", str(Site.directory / "ca.pem")),
        *("--tls-cert-file", str(Site.directory / f"{name}.pem")),
        *("--tls-key-file", str(Site.directory / f"{name}-key.pem")),
    )


def run(*command: str) -> str:
    return Site.redis.run("-a", PASSWORD, "--no-auth-warning", "-n", "3", *command)


async def left_behind() -> tuple[int, int]:
    """Descriptors and threads, when everything has come to rest."""
    await deferLater(reactor, 0.05)  # type: ignore[arg-type]  # trial's
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


class RedisCase(TestCase):
    def setUp(self) -> None:
        run("FLUSHALL")

    def make_store(self, key: bytes = KEY, **changes: Any) -> CodeRedis:
        settings = Site.settings(**changes)
        return CodeRedis(RedisServer(settings, reactor), settings.prefix, key)  # type: ignore[arg-type]  # trial's

    async def problem(self, **changes: Any) -> str:
        """Why nothing is found."""
        error = await error_of(self.make_store(**changes).find("alice", "totp"), BackendFailed)
        return str(error).removeprefix(f"Redis at {Site.settings(**changes).url} ")


class ContractTests(RedisCase, CodeStoreContract):
    pass


class PlainContractTests(RedisCase, CodeStoreContract):
    """Over a socket of this machine, as another user of Redis, with names of patterns."""

    def make_store(self, key: bytes = KEY, **changes: Any) -> CodeStore:
        changes = {"ca_file": None, "certificate_file": None, "private_key_file": None, **changes}
        url = f"unix://{Site.redis.socket}"
        return super().make_store(key, **{"url": url, "prefix": "a*[b]?\\:", **changes})


class SecretsTests(RedisCase):
    async def test_redis_never_sees_a_secret(self) -> None:
        await self.make_store().put(timed())
        [name] = run("KEYS", "*").splitlines()
        assert name == "anyvpn:code:totp:alice"
        assert "1234567890" not in run("HGETALL", name)
        written = (Site.redis.socket.parent / "appendonlydir").glob("*")
        assert not any(SECRET in each.read_bytes() for each in written)

    async def test_another_key_does_not_open_them(self) -> None:
        await self.make_store().put(timed())
        store = self.make_store(b"another key that has 32 bytes...")
        for work in (store.find("alice", "totp"), store.devices()):
            error = await error_of(work, BackendFailed)
            assert "was sealed with the key of another secrets_key_file" in str(error)

    async def test_nobodys_device_becomes_another_users(self) -> None:
        store = self.make_store()
        await store.put(timed("mallory"))
        await store.put(counted())
        for stolen in ("anyvpn:code:totp:mallory", "anyvpn:code:hotp:alice"):
            run("COPY", stolen, "anyvpn:code:totp:alice", "REPLACE")
            await error_of(store.find("alice", "totp"), BackendFailed)

    async def test_what_is_no_device_is_told(self) -> None:
        store = self.make_store()
        key = "anyvpn:code:totp:alice"
        await store.put(timed())
        for name, value in (("digits", "x"), ("next_counter", ""), ("sealed", "x")):
            run("HSET", key, name, value)
            assert await self.problem() == "has a totp device of alice that is none"
            await store.put(timed())
        run("HDEL", key, "failures")
        assert await self.problem() == "has a totp device of alice that is none"
        run("SET", key, "x")
        assert (await self.problem()).startswith("refuses: WRONGTYPE Operation against a key")


class TrustTests(RedisCase):
    async def test_a_wrong_password_is_told(self) -> None:
        wrong = Site.file("wrong", "wrong\n")
        assert (await self.problem(password_file=wrong)).startswith("refuses: WRONGPASS invalid")
        assert (await self.problem(password_file=None)).startswith("refuses: NOAUTH Authenticati")

    async def test_a_user_has_its_own_password(self) -> None:
        allowed = ("+hmget", "+hset", "+del", "+scan", "+eval", "+select")  # as documented
        run("ACL", "SETUSER", "vpn", "on", ">vpn-pass", "~anyvpn:*", *allowed)
        url = f"rediss://vpn@{ADDRESS}:{Site.port}/3"
        store = self.make_store(url=url, password_file=Site.file("vpn", "vpn-pass"))
        await store.put(timed())
        assert await store.exchange(timed(), timed())
        assert await store.devices() == (timed(),)
        assert await store.remove("alice", "totp")
        run("ACL", "SETUSER", "vpn", "-eval")
        error = await error_of(store.exchange(timed(), timed()), BackendFailed)
        assert "NOPERM" in str(error)

    async def test_an_unknown_authority_is_not_trusted(self) -> None:
        for ca_file in (Site.directory / "other.pem", None):
            assert await self.problem(ca_file=ca_file) == (
                "cannot be reached by TLS: certificate verify failed"
            )

    async def test_another_servers_certificate_is_not_taken(self) -> None:
        port = free_port()
        stray = Redis(Site.directory / "stray", tls_options("stray"), port=port, tls=True)
        stray.start()
        self.addCleanup(stray.stop)
        assert await self.problem(url=f"rediss://{ADDRESS}:{port}") == (
            "cannot be trusted: its certificate is another server's"
        )

    async def test_without_a_certificate_of_ours_it_is_told(self) -> None:
        problem = await self.problem(certificate_file=None, private_key_file=None)
        assert problem.startswith("cannot be reached by TLS: ")
        assert "certificate required" in problem

    async def test_without_tls_it_is_told(self) -> None:
        files = {"ca_file": None, "certificate_file": None, "private_key_file": None}
        url = f"redis://{ADDRESS}:{Site.port}"
        assert await self.problem(url=url, **files) == "closes the connection"


class TroubleTests(RedisCase):
    async def test_a_server_that_hangs_costs_a_bounded_time(self) -> None:
        Site.redis.program.send_signal(signal.SIGSTOP)
        self.addCleanup(Site.redis.program.send_signal, signal.SIGCONT)
        begun_at_s = reactor.seconds()  # type: ignore[attr-defined]  # trial's
        assert await self.problem(time_s=0.5) == "does not answer within 0.5 s"
        assert 0.4 < reactor.seconds() - begun_at_s < 1.5  # type: ignore[attr-defined]  # likewise

    async def test_a_server_that_was_away_is_found_again(self) -> None:
        store = self.make_store()
        await store.put(counted())
        assert await store.exchange(counted(), counted(5))
        finding = error_of(store.find("alice", "hotp"), BackendFailed)
        Site.redis.kill()
        assert "refuses the connection" in str(await finding)
        assert await self.problem(url=f"unix://{Site.redis.socket}", **PLAIN) == (
            "refuses the connection"
        )
        Site.redis.start()
        assert await store.find("alice", "hotp") == counted(5)

    async def test_a_replica_lets_no_code_pass(self) -> None:
        store = self.make_store()
        await store.put(timed())
        run("REPLICAOF", ADDRESS, "1")
        self.addCleanup(run, "REPLICAOF", "NO", "ONE")
        for work in (store.exchange(timed(), timed()), store.put(timed())):
            error = await error_of(work, BackendFailed)
            assert "refuses: READONLY You can't write against a read only replica" in str(error)

    async def test_no_socket_and_no_thread_is_left_behind(self) -> None:
        store = self.make_store()
        await store.put(timed())
        before = await left_behind()
        for _ in range(5):
            await store.find("alice", "totp")
            await self.problem(password_file=None)
            await self.problem(ca_file=None)
        assert await left_behind() == before
        assert "connected_clients:1" in run("INFO", "clients")

    async def test_a_path_that_leads_nowhere_is_told(self) -> None:
        problem = await self.problem(url="unix:///nowhere/redis.sock", **PLAIN)
        assert problem == "cannot be reached: No such file or directory"


PLAIN: dict[str, Any] = {"ca_file": None, "certificate_file": None, "private_key_file": None}
