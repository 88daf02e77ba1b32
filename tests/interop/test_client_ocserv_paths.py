"""Our client against Debian's ocserv when things go wrong: blocked UDP and lost links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.interop.client_paths import DPD_S, BlockedUDP, LostLink
from tests.interop.ocserv_site import OcservSite
from tests.interop.peers import Peer, ocserv_as_peer


@pytest.fixture(scope="module")
def ocserv_changes() -> Mapping[str, str | Sequence[str] | None]:
    return {
        "route": "192.168.77.0/255.255.255.0",
        "dpd": str(DPD_S),
        "mtu": "1400",
    }


@pytest.fixture
def peer(ocserv: OcservSite) -> Peer:
    return ocserv_as_peer(ocserv)


class BlockedUDPTests(BlockedUDP):
    pass


class LostLinkTests(LostLink):
    def test_a_restarted_gateway_wants_a_new_login(self, ocserv: OcservSite) -> None:
        """ocserv forgets its sessions; the password given ahead is given once more."""
        client = ocserv.connect()
        ocserv.gateway.kill()
        client.wait_for("the tunnel is lost")
        since = client.position
        ocserv.gateway.start()
        client.wait_for("authentication", since=since, limit_s=40)
        client.wait_for("connected: again", limit_s=40)
        assert client.ping(ocserv.gateway.gateway_address)
