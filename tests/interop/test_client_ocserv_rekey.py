"""Our client against Debian's ocserv: new keys, by either method that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from anyvpn.testing.programs import Program
from tests.interop.ocserv_site import OcservSite


@pytest.fixture(scope="module", params=["new-tunnel", "ssl"])
def ocserv_changes(request: pytest.FixtureRequest) -> Mapping[str, str | Sequence[str] | None]:
    return {
        "route": "192.168.77.0/255.255.255.0",
        "rekey-time": "6",
        "rekey-method": request.param,
    }


class RekeyTests:
    def test_new_keys_while_traffic_flows(self, ocserv: OcservSite) -> None:
        client = ocserv.connect()
        ping = Program(
            "ping",
            client.namespace.command(
                ["ping", "-n", "-i", "0.05", "-c", "260", ocserv.gateway.gateway_address]
            ),
        )
        try:
            client.wait_for("connected: with new keys", limit_s=12)
            since = client.position
            client.wait_for("connected: with new keys", limit_s=12, since=since)
            ping.wait_for(r"packets transmitted", limit_s=20)
            lost = 260 - int(ping.wait_for(r"(\d+) received")[1])
        finally:
            ping.stop()
        assert lost <= 4, ping.output()[-400:]
