"""One-time codes at two gateways on two machines, which know of each other by one real Redis."""

from __future__ import annotations

import os
import signal
import time
from base64 import b32encode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from anyvpn.backends.one_time_codes import CodeMaker, Kind
from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import wait_until
from anyvpn.testing.redis import Redis
from tests.interop import toml
from tests.interop.gateway import ANYVPN, REPOSITORY, Gateway
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import BASE, Site

SECOND_ADDRESS = "203.0.113.1"
REDIS_ADDRESS = "192.0.2.254"
REDIS_PORT = 6380
REDIS_PASSWORD = "redis-pass"
URL = f"rediss://{REDIS_ADDRESS}:{REDIS_PORT}"
ADDRESSES = (GATEWAY_ADDRESS, SECOND_ADDRESS)
USERS = ("alice", "bob", "carol", "dora")
PHONE = ("--authgroup", "phone")


class TwoMachines:
    """Two gateways, and the Redis between them."""

    def __init__(self, network: Network, directory: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert(REDIS_ADDRESS, key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(directory / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(directory / "redis.pem")
        issued.private_key_pem.write_to_path(directory / "redis-key.pem")
        (directory / "codes.key").write_bytes(b64encode(os.urandom(32)))
        (directory / "password").write_text(REDIS_PASSWORD)
        self.network = network
        self.redis = Redis(
            directory / "redis",
            (
                *("--requirepass", REDIS_PASSWORD, "--tls-auth-clients", "no"),
                *("--tls-ca-cert-file", str(directory / "ca.pem")),
                *("--tls-cert-file", str(directory / "redis.pem")),
                *("--tls-key-file", str(directory / "redis-key.pem")),
            ),
            address=REDIS_ADDRESS,
            port=REDIS_PORT,
            tls=True,
            namespace=network.router,
        )
        codes = {
            "redis": {
                "url": URL,
                "password_file": str(directory / "password"),
                "ca_file": str(directory / "ca.pem"),
            },
            "secrets_key_file": str(directory / "codes.key"),
        }
        changes = {
            "authenticators": {
                "phone": {"backend": "totp", **codes},
                "button": {"backend": "hotp", **codes},
            },
            "connection_profiles": [
                {"name": "staff"},
                *({"name": name, "authenticator": name} for name in ("phone", "button")),
            ],
        }
        self._second_machine = _second_machine(network)
        self.sites = tuple(
            Site(
                network,
                Gateway(machine, directory / name, changes=toml.merge(BASE, changes)),
                directory,
            )
            for name, machine in (("one", network.gateway), ("two", self._second_machine))
        )

    def start(self) -> None:
        """Redis first, the devices of the users then, as operators do it, and the gateways."""
        self.redis.start()
        for user in USERS:
            self.enrol(user)
        for site in self.sites:
            site.gateway.start()

    def enrol(self, user: str) -> None:
        """At either machine: what one is told the other knows."""
        number = USERS.index(user) % 2
        site = self.sites[number]
        said = self.anyvpn(
            site,
            *("user", kind_of(user), user, "--secret-file", "-"),
            *("--config", str(site.gateway.configuration_file)),
            stdin=b32encode(device(user).secret).decode(),
        )
        assert f"{user} has a {kind_of(user)} device in Redis at {URL}" in said, said

    @staticmethod
    def anyvpn(site: Site, *words: str, stdin: str = "") -> str:
        """What the command prints on a gateway's machine."""
        command = ("env", f"PYTHONPATH={REPOSITORY}", *ANYVPN, *words)
        return site.gateway.namespace.run(*command, stdin=stdin)

    def connections(self) -> list[str]:
        """Who is connected to Redis."""
        shown = self.network.router.run("ss", "-Htn", "state", "established")
        return [each for each in shown.splitlines() if f":{REDIS_PORT} " in each]

    def close(self) -> None:
        """End it all."""
        for site in self.sites:
            site.close()
        self.redis.stop()
        self._second_machine.close()


def _second_machine(network: Network) -> Namespace:
    machine = Namespace("second gateway")
    machine.forward()
    machine.join(network.router, "wan", "gateway2")
    machine.add_addresses("wan", f"{SECOND_ADDRESS}/24")
    network.router.add_addresses("gateway2", "203.0.113.254/24")
    machine.add_route("default", "via", "203.0.113.254")
    return machine


def kind_of(user: str) -> Kind:
    return "hotp" if user == "dora" else "totp"


def device(user: str) -> CodeMaker:
    return CodeMaker(user, kind_of(user), (user.encode() * 7)[:20])


def code_of(user: str) -> str:
    """The code of the next period: good for longer than a test takes."""
    return device(user).code(0 if user == "dora" else int(time.time() // 30) + 1)


@pytest.fixture(scope="module")
def machines(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMachines]:
    made = TwoMachines(network, tmp_path_factory.mktemp("machines"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def sites(machines: TwoMachines) -> Iterator[tuple[Site, ...]]:
    """The gateways; what a test leaves running is ended after it."""
    yield machines.sites
    for each in machines.sites:
        each.close_clients()


class TwoMachinesTests:
    def test_of_the_same_code_at_both_one_gets_in(self, sites: tuple[Site, ...]) -> None:
        code = code_of("alice")
        for host, (site, address) in enumerate(zip(sites, ADDRESSES, strict=True), 1):
            site.client("alice", host=host, stdin=(code,), options=PHONE, gateway_address=address)
        said = [
            site.gateway.program.wait_for(
                r"login_succeeded user=alice|login_failed user=alice.*the code was used before"
            )[0]
            for site in sites
        ]
        assert sorted(each.split()[0] for each in said) == ["login_failed", "login_succeeded"], said

    def test_our_client_is_refused_what_openconnect_has_used(self, sites: tuple[Site, ...]) -> None:
        first, second = sites
        code = code_of("bob")
        client = first.connect("bob", stdin=(code,), options=PHONE)
        assert client.ping(first.gateway.inner_addresses[0])
        late = second.ours("bob", host=2, stdin=(code,), options=PHONE, address=SECOND_ADDRESS)
        assert late.wait_for_end() == 3
        second.gateway.wait_for_event("login_failed", user="bob", detail="was used before")

    def test_a_counter_goes_on_at_the_other_and_after_a_restart(
        self, sites: tuple[Site, ...]
    ) -> None:
        """One code after the other, each at the other gateway; then the last one once more."""
        for number, host in enumerate((0, 1, 0)):
            client = self.button(sites, host, number)
            client.wait_until_connected()
            assert client.ping(sites[host].gateway.inner_addresses[0])
            sites[host].close_clients()
        sites[1].gateway.stop()
        sites[1].gateway.start()
        assert self.button(sites, 1, 2).wait_for_end() == 3
        sites[1].gateway.wait_for_event("login_failed", user="dora", detail="the code is wrong")

    @staticmethod
    def button(sites: tuple[Site, ...], host: int, number: int) -> AnyvpnClient:
        code = device("dora").code(number)
        return sites[host].ours(
            "dora",
            stdin=(code,),
            # and to the question for the next one
            options=("--authgroup", "button", "--form-entry", f"challenge:answer={code}"),
            address=ADDRESSES[host],
        )


class RedisTests:
    def test_one_that_dies_in_mid_login_costs_this_login(
        self, machines: TwoMachines, sites: tuple[Site, ...]
    ) -> None:
        gateway, redis = sites[0].gateway, machines.redis
        gateway.expected_trouble.append("The login of carol from .* failed here: Redis at")
        since = gateway.program.position
        code = code_of("carol")
        redis.program.send_signal(signal.SIGSTOP)
        client = sites[0].ours("carol", stdin=(code,), options=PHONE)
        wait_until(lambda: machines.connections(), "the gateway asks Redis")
        redis.kill()
        assert client.wait_for_end() != 0
        assert client.find("The login service is not available")
        failed = [each for each in gateway.program.output(since).splitlines() if "error]" in each]
        assert len(failed) == 1, failed
        assert failed[0].endswith(f"failed here: Redis at {URL} closes the connection"), failed
        late = sites[0].client("carol", host=2, stdin=(code,), options=PHONE)
        assert late.wait_for_end() != 0
        gateway.program.wait_for(f"failed here: Redis at {URL} refuses the connection", since=since)
        redis.start()
        client = sites[0].connect("carol", stdin=(code,), options=PHONE)
        assert client.ping(gateway.inner_addresses[0])

    def test_one_that_hangs_costs_a_bounded_time(
        self, machines: TwoMachines, sites: tuple[Site, ...]
    ) -> None:
        gateway, redis = sites[1].gateway, machines.redis
        gateway.expected_trouble.append("The login of alice from .* failed here: Redis at")
        redis.program.send_signal(signal.SIGSTOP)
        try:
            code = code_of("alice")
            client = sites[1].ours("alice", stdin=(code,), options=PHONE, address=ADDRESSES[1])
            assert client.wait_for_end() != 0
            gateway.program.wait_for(f"failed here: Redis at {URL} does not answer within 3 s")
            assert client.find("The login service is not available")
        finally:
            redis.program.send_signal(signal.SIGCONT)
        wait_until(lambda: not machines.connections(), "nobody waits for Redis any more")

    def test_who_has_no_device_is_refused(self, sites: tuple[Site, ...]) -> None:
        client = sites[0].ours("erin", stdin=("123456",), options=PHONE)
        assert client.wait_for_end() == 3
        sites[0].gateway.wait_for_event("login_failed", user="erin", detail="has no TOTP device")

    def test_the_operator_sees_all_devices_from_either_machine(self, machines: TwoMachines) -> None:
        for site in machines.sites:
            file = str(site.gateway.configuration_file)
            said = machines.anyvpn(
                site, "user", "devices", "--config", file, "--authenticator", "phone"
            )
            assert said == "".join(
                f"{user}\t{kind_of(user)}\t6 digits, sha1\n" for user in sorted(USERS)
            )
