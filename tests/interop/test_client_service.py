"""`twistd anyvpn-client`: a link that nobody watches."""

from __future__ import annotations

import signal

from tests.interop.client_service import ClientService
from tests.interop.gateway import PASSWORD
from tests.interop.site import Site


def begun(site: Site, password: str = PASSWORD) -> ClientService:
    return site.started(
        ClientService(
            site.network.host(1).namespace,
            site.directory,
            site.gateway.ca_file,
            {"responders": [{"backend": "given", "username": "alice", "password": password}]},
        )
    )


class LinkTests:
    def test_it_connects_and_says_goodbye(self, site: Site) -> None:
        service = begun(site)
        service.wait_until_connected()
        for address in site.gateway.inner_addresses:
            assert service.ping(address)
        service.send_signal(signal.SIGTERM)
        service.wait_for_end()
        assert service.device not in service.namespace.run("ip", "-brief", "link")
        site.gateway.wait_for_event("session_ended", user="alice", detail="said goodbye")
        assert PASSWORD not in service.output()

    def test_a_session_that_is_over_leads_to_a_new_login(self, site: Site) -> None:
        service = begun(site)
        service.wait_until_connected()
        since = service.position
        site.gateway.stop()
        for file in site.gateway.directory.glob("sessions*"):
            file.unlink()
        site.gateway.start()
        service.wait_for("Connected again", since=since)
        assert service.ping(site.gateway.inner_addresses[0])

    def test_a_denied_login_is_not_tried_again_soon(self, site: Site) -> None:
        service = begun(site, "wrong")
        service.wait_for("No connection: Login failed.*the next try comes in 600 s")
        service.send_signal(signal.SIGTERM)
        service.wait_for_end()
