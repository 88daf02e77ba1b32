"""Our client against Debian's ocserv: client certificates, alone and with a password; a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1

import pytest

from anyvpn.model.client_profile import ClientProfileSettings, ServerEntry
from anyvpn.testing.ocserv import PASSWORD
from anyvpn.wire.client_profile import write_client_profile
from tests.interop.ocserv_site import OcservSite

PROFILE = write_client_profile(
    ClientProfileSettings(servers=(ServerEntry("Head Office", "vpn.test:4443"),))
)


@pytest.fixture(scope="module", params=["certificate", "certificate and password"])
def ocserv_changes(request: pytest.FixtureRequest) -> Mapping[str, str | Sequence[str] | None]:
    methods = ["certificate"]
    if request.param != "certificate":
        methods.append("plain[passwd=./passwd]")
    return {
        "route": "192.168.77.0/255.255.255.0",
        "auth": methods,
        "user-profile": "./profile.xml",
    }


@pytest.fixture(scope="module")
def ocserv_profile() -> bytes:
    return PROFILE


def certificate(site: OcservSite) -> tuple[str, ...]:
    gateway = site.gateway
    gateway.set_password("alice", PASSWORD, "staff")  # the group that the certificate names
    return ("--certificate", str(gateway.certificate), "--sslkey", str(gateway.certificate_key))


def test_a_certificate_leads_to_a_tunnel(ocserv: OcservSite) -> None:
    client = ocserv.connect(options=certificate(ocserv))
    client.wait_for_dtls()
    assert client.ping(ocserv.gateway.gateway_address)
    assert "alice" in ocserv.gateway.occtl("show", "users")


def test_without_one_the_login_is_denied(ocserv: OcservSite) -> None:
    client = ocserv.client()
    assert client.wait_for_end() == 3


def test_a_profile_is_fetched_and_names_its_gateway(ocserv: OcservSite) -> None:
    """AnyConnect's own agents alone are told of profiles."""
    agent = ("--useragent", "AnyConnect Linux_64 4.10.07061")
    client = ocserv.connect(options=(*certificate(ocserv), *agent))
    assert client.find(r"profile profile\.xml stored in ")
    [stored] = (client.directory / "data").rglob("*.xml")
    assert sha1(stored.read_bytes()).digest() == sha1(PROFILE).digest()
