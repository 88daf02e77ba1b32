"""A gateway that ends its sessions when it stops (`shutdown = "disconnect"`)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.site import Site

TOLD_IN_S = 5.0


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"gateway": {"shutdown": "disconnect"}}


class DisconnectTests:
    def test_clients_are_told_and_end_and_nobody_can_resume(self, site: Site) -> None:
        cookie, unused = site.log_in(), site.log_in(host=3)
        clients = [site.connect_with(cookie), site.connect(host=2, options=("--no-dtls",))]
        clients[0].wait_for_dtls()
        clients[1].wait_until_configured()
        gateway, positions = site.gateway.program, [client.position for client in clients]
        site.gateway.stop()
        log = gateway.output()
        assert log.count("session_ended ") == 3
        assert log.count('detail="the gateway stops" duration_s') == 3
        for client, position in zip(clients, positions, strict=True):
            client.wait_for("Received server disconnect", limit_s=TOLD_IN_S, since=position)
            assert client.wait_for_end(TOLD_IN_S) != 0
            assert not client.find(r"(?i)sleep|reconnect", position)
        site.gateway.start()
        assert site.gateway.program.find(r"\b0 sessions can be resumed")
        for dead in (cookie, unused):
            again = site.connect_with(dead)
            assert again.wait_for_end() != 0
            assert again.find("401")
