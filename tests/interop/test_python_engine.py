"""A gateway without the compiled engine, on a kernel without offloads, serves as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.interop.site import Site

MEGABYTES = 10


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"gateway": {"engine": "python"}, "tun": {"offloads": False}}


class PythonEngineTests:
    def test_it_says_what_it_works_with(self, site: Site) -> None:
        assert site.gateway.program.find(r"\(offloads no\); packet engine python ")

    @pytest.mark.parametrize("options", [("--no-dtls",), ()], ids=["tls-1.3", "psk-negotiate"])
    def test_bytes_arrive_whole_in_both_directions_and_families(
        self, site: Site, options: Sequence[str]
    ) -> None:
        client = site.connect(options=options)
        if not options:
            assert "(AES-256-GCM)" in client.wait_for_dtls()
        for address in site.gateway.inner_addresses:
            assert client.ping(address)
            for wanted in ("download", "upload"):
                done = site.transfer(client.namespace, wanted, address, megabytes=MEGABYTES)
                assert done.matches

    def test_packets_larger_than_the_tunnel_arrive_in_fragments(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0], size_bytes=4000)
