"""Our client against Debian's ocserv: new keys, by either method that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.interop.client_paths import REKEY_S, changes_keys
from tests.interop.ocserv_site import OcservSite
from tests.interop.peers import ocserv_as_peer


@pytest.fixture(scope="module", params=["new-tunnel", "ssl"])
def ocserv_changes(request: pytest.FixtureRequest) -> Mapping[str, str | Sequence[str] | None]:
    return {
        "route": "192.168.77.0/255.255.255.0",
        "rekey-time": str(REKEY_S),
        "rekey-method": request.param,
    }


class RekeyTests:
    def test_new_keys_while_traffic_flows(self, ocserv: OcservSite) -> None:
        changes_keys(ocserv_as_peer(ocserv))
