"""Logins against a real slapd, by openconnect and by our client: as users meet them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from anyvpn.testing.programs import Program
from anyvpn.testing.slapd import PEOPLE, SERVICE, SERVICE_PASSWORD, Slapd, group, person
from anyvpn.testing.tunnel_client import answered
from tests.interop.gateway import NAME, PASSWORD, PORT, REPOSITORY
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import Site

ADDRESS = "127.0.0.1"
SLOW_PORT = 1389
DELAY_S = 0.2
LOGINS = 200
THREADS = 40
PINGS = 60

# Hands everything on, answers later than they come
SLOW_PROXY = f"""
import sys
from twisted.internet import endpoints, protocol, reactor, task
class Back(protocol.Protocol):
    def connectionMade(self): self.factory.front.back = self.transport; self.factory.front.flush()
    def dataReceived(self, data):
        reactor.callLater({DELAY_S}, self.factory.front.transport.write, data)
    def connectionLost(self, reason): self.factory.front.transport.loseConnection()
class Front(protocol.Protocol):
    back = None
    def connectionMade(self):
        self.kept = []
        factory = protocol.Factory.forProtocol(Back); factory.front = self
        endpoints.TCP4ClientEndpoint(reactor, "{ADDRESS}", 389).connect(factory)
    def flush(self):
        for each in self.kept: self.back.write(each)
        self.kept = []
    def dataReceived(self, data):
        self.kept.append(data)
        if self.back: self.flush()
    def connectionLost(self, reason):
        if self.back: self.back.loseConnection()
factory = protocol.Factory.forProtocol(Front)
reactor.listenTCP({SLOW_PORT}, factory, interface="{ADDRESS}")
print("serving", flush=True)
reactor.run()
"""

# Logs in many times at a time, and out again
DRIVER = f"""
import sys, time
from pathlib import Path
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from anyvpn.backends import responder_given
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings
from anyvpn.client.vpn_client import VPNClient
from anyvpn.testing.memory_tun import MemoryAdapterBackend
async def main(reactor):
    settings = ClientSettings(trust=TrustSettings(ca_file=Path(sys.argv[1])), group="slow",
        resolve={{"{NAME}": "{GATEWAY_ADDRESS}"}}, ipv6=False)
    def one():
        given = responder_given.build(responder_given.Settings("alice", "{PASSWORD}"), reactor)
        client = VPNClient(reactor, "{NAME}:{PORT}", given, MemoryAdapterBackend(), settings)
        return Deferred.fromCoroutine(client.authenticate())
    begun_s = time.monotonic()
    done = await gatherResults([one() for _ in range({LOGINS})])
    print("logins", len(done), "in", round(time.monotonic() - begun_s, 1), "s")
task.react(main)
"""


class Directories:
    """Two servers with the same organisation."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.directory = directory
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert(ADDRESS, key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(directory / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(directory / "server.pem")
        issued.private_key_pem.write_to_path(directory / "key.pem")
        (directory / "password").write_text(SERVICE_PASSWORD)
        self.first, self.second = (
            Slapd(
                directory / f"slapd{number}",
                address=ADDRESS,
                namespace=network.gateway,
                certificate=directory / "server.pem",
                key=directory / "key.pem",
                port=389 + number * 1000,
                tls_port=636 + number * 1000,
            )
            for number in (0, 5)
        )
        for each in (self.first, self.second):
            each.start()
            each.add(
                person("alice", PASSWORD),
                person("carol", PASSWORD),
                person("dora", PASSWORD),
                person("mallory", "another-one"),
                group("staff", f"uid=alice,{PEOPLE}"),
            )
            for name in ("carol", "dora"):
                each.modify(
                    f"dn: uid={name},{PEOPLE}\nchangetype: modify\nreplace: pwdReset\n"
                    "pwdReset: TRUE\n"
                )

    def settings(self, *servers: str) -> dict[str, object]:
        return {
            "backend": "ldap",
            "servers": list(servers),
            "ca_file": str(self.directory / "ca.pem"),
            "base": PEOPLE,
            "bind_dn": SERVICE,
            "bind_password_file": str(self.directory / "password"),
            "groups_attribute": "memberOf",
            "user_attribute": "uid",
        }


@pytest.fixture(scope="module")
def directories(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Directories]:
    made = Directories(network, tmp_path_factory.mktemp("ldap"))
    yield made
    for each in (made.first, made.second):
        each.stop()


@pytest.fixture(scope="module")
def gateway_changes(directories: Directories) -> Mapping[str, object]:
    names = ("ldap", "slow")
    return {
        "authenticators": {
            "ldap": {
                **directories.settings(f"ldaps://{ADDRESS}:636", f"ldaps://{ADDRESS}:5636"),
                "retry_after_s": 0,
            },
            "slow": {
                **directories.settings(f"ldap://{ADDRESS}:{SLOW_PORT}"),
                "plaintext": True,
                "max_parallel": THREADS,
            },
        },
        "authorizer": {
            "policies": {"staff": {"banner": "Hello, staff!"}},
            "by_group": {"staff": "staff"},
        },
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in names),
        ],
        "limits": {"pending_logins_per_address": 2 * LOGINS, "connections_per_address": 2 * LOGINS},
    }


OPTIONS = ("--authgroup", "ldap")


class LoginTests:
    @pytest.mark.parametrize("ours", [False, True])
    def test_the_directory_lets_in_and_gives_groups(self, site: Site, ours: bool) -> None:
        connect = site.connect_ours if ours else site.connect
        client = connect("alice", options=OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.wait_for_event("login_succeeded", user="alice", detail='"policy staff"')
        assert client.find("Hello, staff!")

    @pytest.mark.parametrize("ours", [False, True])
    @pytest.mark.parametrize(
        ("user", "detail"), [("mallory", "wrong password"), ("*", "does not know this user")]
    )
    def test_others_are_refused_without_a_reason(
        self, site: Site, user: str, detail: str, ours: bool
    ) -> None:
        since = site.gateway.program.position
        client = site.refused(user, ours=ours, options=OPTIONS)
        assert client.find("(?i)login failed") and not client.find(detail)
        failed = rf"login_failed.*user={re.escape(user)}.*{detail}"
        site.gateway.program.wait_for(failed, since=since)

    def test_openconnect_chooses_a_new_password(self, site: Site) -> None:
        client = site.connect("carol", stdin=(PASSWORD, *("new-password",) * 2), options=OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])
        client = site.ours("carol", stdin=(PASSWORD,), options=OPTIONS)
        assert client.wait_for_end() == 3
        again = site.connect_ours("carol", stdin=("new-password",), options=OPTIONS)
        assert again.ping(site.gateway.inner_addresses[0])

    def test_our_client_does_too(self, site: Site) -> None:
        new = [
            part
            for name in ("new_password", "verify_password")
            for part in ("--form-entry", f"main:{name}=new-password")
        ]
        client = site.connect_ours("dora", options=(*OPTIONS, *new))
        assert client.ping(site.gateway.inner_addresses[0])


class FailoverTests:
    def test_a_server_that_dies_in_mid_login_costs_no_login(
        self, site: Site, directories: Directories
    ) -> None:
        first = directories.first
        first.program.send_signal(signal.SIGSTOP)
        client = site.client("alice", options=OPTIONS)
        client.wait_for("Password:|POST")
        site.gateway.program.wait_for("login_started")
        with pytest.raises(AssertionError):  # it waits for the stopped server
            client.wait_for("Configured as ", limit_s=1.0)
        first.kill()
        client.wait_until_configured()
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.program.wait_for("The directory server 127.0.0.1:636 has failed")
        first.start()
        assert site.connect_ours("alice", host=2, options=OPTIONS)
        site.gateway.program.wait_for("The directory server 127.0.0.1:636 works again")


class SlowDirectoryTests:
    def test_many_logins_wait_for_threads_and_tunnels_for_none(self, site: Site) -> None:
        """Each login asks three things of the directory, so a thread is done with it in 0.6 s."""
        proxy = site.started(
            Program(
                "the slow directory",
                site.gateway.namespace.command([sys.executable, "-c", SLOW_PROXY]),
            )
        )
        proxy.wait_for("serving")
        tunnel = site.connect("alice", options=("--authgroup", "ldap"))
        inside = site.gateway.inner_addresses[0]
        assert tunnel.ping(inside)
        ping = site.started(
            Program(
                "ping",
                tunnel.namespace.command(
                    ["ping", "-i", "0.1", "-c", str(PINGS), "-w", "12", inside]
                ),
            )
        )
        driver = site.started(
            Program(
                "the driver",
                site.network.host(3).namespace.command(
                    [sys.executable, "-c", DRIVER, str(site.gateway.ca_file)]
                ),
                environment={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        )
        said = driver.wait_for(rf"logins {LOGINS} in (\S+) s", limit_s=60)
        at_least_s = LOGINS / THREADS * 3 * DELAY_S
        assert at_least_s <= float(said[1]) < 60, said[0]
        rtt = ping.wait_for(r"rtt min/avg/max/mdev = \S+?/(\S+?)/", limit_s=30)
        assert answered(ping.output()) >= set(range(1, PINGS + 1)), ping.output()
        assert float(rtt[1]) < DELAY_S * 1000, "a tunnel's packets wait for the directory"
