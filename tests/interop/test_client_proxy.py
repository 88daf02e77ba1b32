"""Our client behind a firewall that lets nothing through but a proxy: tinyproxy, microsocks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.programs import Program, UnmetExpectation, wait_until
from tests.interop.gateway import PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site

CLIENT, PROXY = 8, 9
HTTP_PORT, SOCKS_PORT = 8888, 1080
USER, PASSWORD = "proxy-user", "proxy-pass"
URLS = {
    "http": f"http://{USER}:{PASSWORD}@{{host}}:{HTTP_PORT}",
    "socks5": f"socks5://{USER}:{PASSWORD}@{{host}}:{SOCKS_PORT}",
}


class Proxies:
    """Both kinds of proxies on one host, which may be ended and started again."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.address = site.network.host(PROXY).address
        self._configuration = directory / "tinyproxy.conf"
        self._configuration.write_text(
            f"Port {HTTP_PORT}\nListen {self.address}\nTimeout 600\nMaxClients 20\n"
            f"ConnectPort {PORT}\nBasicAuth {USER} {PASSWORD}\n"
        )
        self._programs: list[Program] = []

    def start(self) -> None:
        """Start both, and wait until they serve."""
        host = self.site.network.host(PROXY).namespace
        commands = {
            HTTP_PORT: ["tinyproxy", "-d", "-c", str(self._configuration)],
            SOCKS_PORT: [
                *("microsocks", "-i", self.address, "-p", str(SOCKS_PORT)),
                *("-u", USER, "-P", PASSWORD),
            ],
        }
        for port, command in commands.items():
            self._programs.append(Program(command[0], host.command(command)))
            wait_until(
                lambda port=port: f":{port}" in host.run("ss", "-Hltn"),  # type: ignore[misc]
                f"{command[0]} listens",
            )

    def stop(self) -> None:
        """End both, with all their connections."""
        programs, self._programs = self._programs, []
        for program in programs:
            program.stop(signal.SIGKILL)

    def client(self, proxy: str, *options: str) -> AnyvpnClient:
        """Start our client behind the firewall."""
        url = proxy.format(host=self.address)
        return self.site.ours(host=CLIENT, options=("--proxy", url, *options))


@pytest.fixture
def proxies(site: Site, tmp_path: Path) -> Iterator[Proxies]:
    proxies = Proxies(site, tmp_path)
    proxies.start()
    site.network.close_way(site.network.host(CLIENT), GATEWAY_ADDRESS)
    yield proxies
    site.close_clients()
    proxies.stop()


class WayTests:
    @pytest.mark.parametrize("kind", URLS)
    def test_the_tunnel_goes_through_the_proxy(
        self, site: Site, proxies: Proxies, kind: str
    ) -> None:
        client = proxies.client(URLS[kind])
        client.wait_until_connected()
        for address in site.gateway.inner_addresses:
            assert client.ping(address)
        moved = site.transfer(
            client.namespace, "download", site.gateway.inner_addresses[0], megabytes=5
        )
        assert moved.matches
        assert client.find("DTLS handshake") is None

    @pytest.mark.parametrize("kind", URLS)
    def test_a_proxy_that_comes_back_brings_the_tunnel_back(
        self, site: Site, proxies: Proxies, kind: str
    ) -> None:
        client = proxies.client(URLS[kind])
        client.wait_until_connected()
        addresses = client.inner_addresses
        proxies.stop()
        client.wait_for("the tunnel is lost")
        client.wait_for(f"the proxy {proxies.address} port .*: Connection refused; try ")
        proxies.start()
        client.wait_for("connected: again", limit_s=30)
        assert client.inner_addresses == addresses
        assert client.ping(site.gateway.inner_addresses[0])

    def test_without_a_proxy_there_is_no_way(self, site: Site, proxies: Proxies) -> None:
        client = site.ours(host=CLIENT)
        client.wait_for("TLS handshake")
        with pytest.raises(UnmetExpectation):
            client.wait_for("group selection", limit_s=2)
        client.send_signal(signal.SIGINT)
        assert client.wait_for_end(2) == 0


class RefusalTests:
    @pytest.mark.parametrize(
        ("proxy", "why"),
        [
            (f"http://{USER}:wrong@{{host}}:{HTTP_PORT}", "it wants a user name and a password"),
            (f"http://{{host}}:{HTTP_PORT}", "it wants a user name and a password"),
            (f"socks5://{USER}:wrong@{{host}}:{SOCKS_PORT}", "password"),
            (f"socks5://{{host}}:{SOCKS_PORT}", "password"),
            (f"http://{USER}:{PASSWORD}@{{host}}:7", "port 7: Connection refused"),
        ],
    )
    def test_it_is_told_in_one_line(self, proxies: Proxies, proxy: str, why: str) -> None:
        client = proxies.client(proxy)
        assert client.wait_for_end() == 1
        assert client.find(rf"^anyvpn: the proxy {proxies.address}.*{why}"), client.output()

    def test_a_way_that_the_proxy_does_not_go_is_named(self, site: Site, proxies: Proxies) -> None:
        url = URLS["http"].format(host=proxies.address)
        client = site.ours(host=CLIENT, options=("--proxy", url), server=f"vpn.test:{PORT + 1}")
        assert client.wait_for_end() == 1
        assert client.find(f"it refuses the way to {GATEWAY_ADDRESS} port {PORT + 1}: 403")
