"""Our client against our own gateway when things go wrong, and when keys are old."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.client_paths import DPD_S, REKEY_S, BlockedUDP, LostLink, changes_keys
from tests.interop.peers import Peer, gateway_as_peer
from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "rita")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authorizer": {
            "policies": {"default": {"dpd_s": DPD_S}, "rekeying": {"rekey_s": REKEY_S}},
            "by_user": {"rita": "rekeying"},
        }
    }


@pytest.fixture
def peer(site: Site) -> Peer:
    return gateway_as_peer(site)


class BlockedUDPTests(BlockedUDP):
    pass


class LostLinkTests(LostLink):
    pass


class RekeyTests:
    def test_new_keys_while_traffic_flows(self, site: Site) -> None:
        changes_keys(gateway_as_peer(site, "rita"))
