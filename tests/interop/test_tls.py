"""The TLS side of the VPN port as OpenSSL's own client sees it, and client certificates."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme

from anyvpn.testing.openconnect import OpenConnect
from tests.interop import toml
from tests.interop.gateway import NAME, PASSWORD, PORT, Gateway
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import BASE, Site

OTHER_NAME = "other.test"
OLD_CIPHERS = "ALL:@SECLEVEL=0"  # or OpenSSL would not even ask for TLS 1.1


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who issues what: the second host's chain has three certificates."""

    second: trustme.CA
    clients: trustme.CA
    strangers: trustme.CA


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return Authorities(
        second=trustme.CA(organization_name="The second authority"),
        clients=trustme.CA(organization_name="The authority of clients"),
        strangers=trustme.CA(organization_name="The authority of strangers"),
    )


@pytest.fixture(scope="module")
def module_site(
    network: Network, tmp_path_factory: pytest.TempPathFactory, authorities: Authorities
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    gateway = Gateway(network.gateway, directory / "gateway")
    intermediate = authorities.second.create_child_ca()
    host = intermediate.issue_cert(OTHER_NAME, key_type=trustme.KeyType.RSA)
    for number, part in enumerate(host.cert_chain_pems):
        part.write_to_path(gateway.directory / "other.pem", append=number > 0)
    host.private_key_pem.write_to_path(gateway.directory / "other-key.pem")
    authorities.second.cert_pem.write_to_path(gateway.directory / "second-ca.pem")
    authorities.clients.cert_pem.write_to_path(gateway.directory / "client-ca.pem")
    gateway.change(
        toml.merge(
            BASE,
            {
                "tls": {
                    "client_ca": "client-ca.pem",
                    "virtual_hosts": [
                        {
                            "names": [OTHER_NAME],
                            "certificate": "other.pem",
                            "key": "other-key.pem",
                        }
                    ],
                }
            },
        )
    )
    site = Site(network, gateway, directory)
    try:
        gateway.start()
        yield site
    finally:
        site.close()


def look(site: Site, *options: str, name: str = NAME, authority: str = "ca.pem") -> str:
    """What `openssl s_client` says about one connection."""
    return site.network.host(1).namespace.run(
        *("openssl", "s_client", "-connect", f"{GATEWAY_ADDRESS}:{PORT}", "-showcerts"),
        *("-CAfile", str(site.gateway.directory / authority)),
        *(("-servername", name) if name else ("-noservername",)),
        *("-verify_return_error", *options),
        may_fail=True,
    )


def certificates(text: str) -> list[bytes]:
    """Those in a PEM text, as DER."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.S)
    return [ssl.PEM_cert_to_DER_cert(each) for each in found]


def sent_chain(said: str) -> list[bytes]:
    """What the gateway has sent, by what the client says."""
    return certificates(said.partition("Certificate chain")[2].partition("Server certificate")[0])


def chain_of(site: Site, file: str) -> list[bytes]:
    """What it should send."""
    return certificates((site.gateway.directory / file).read_text())


class VersionTests:
    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_version_of_today_is_accepted(self, site: Site, version: str) -> None:
        said = look(site, f"-tls{version.replace('.', '_')}")
        assert re.search(rf"New, TLSv{version}, Cipher is \S*(GCM|CHACHA20)", said), said
        assert "Verify return code: 0 (ok)" in said
        assert "Secure Renegotiation IS supported" in said or version == "1.3"
        assert "Compression: NONE" in said

    @pytest.mark.parametrize("version", ["1", "1_1"])
    def test_older_version_is_refused(self, site: Site, version: str) -> None:
        since = site.gateway.program.position
        said = look(site, f"-tls{version}", "-cipher", OLD_CIPHERS)
        assert "Cipher is (NONE)" in said
        line = site.gateway.program.wait_for(r"\btls_failed\b.*", since=since)[0]
        assert "unsupported protocol" in line

    @pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"])
    def test_cipher_without_forward_secrecy_or_authentication_is_refused(
        self, site: Site, ciphers: str
    ) -> None:
        assert "Cipher is (NONE)" in look(site, "-tls1_2", "-cipher", ciphers)
        assert "Cipher is ECDHE" in look(site, "-tls1_2", "-cipher", f"{ciphers}:ECDHE+AESGCM")


class CertificateTests:
    def test_name_selects_the_certificate_and_its_whole_chain_is_sent(self, site: Site) -> None:
        said = look(site, name=OTHER_NAME, authority="second-ca.pem")
        assert sent_chain(said) == chain_of(site, "other.pem")
        assert len(sent_chain(said)) == 2
        assert "Verify return code: 0 (ok)" in said

    @pytest.mark.parametrize("name", [NAME, "unknown.test", ""])
    def test_every_other_name_gets_the_first_certificate(self, site: Site, name: str) -> None:
        said = look(site, name=name)
        assert sent_chain(said) == chain_of(site, "server.pem")
        assert "Verify return code: 0 (ok)" in said

    def test_client_of_the_second_name_is_told_the_hash_of_its_certificate(
        self, site: Site
    ) -> None:
        directory = site.gateway.directory
        client = OpenConnect(
            site.network.host(1).namespace,
            directory,
            directory / "second-ca.pem",
            server=f"{OTHER_NAME}:{PORT}",
            address=GATEWAY_ADDRESS,
            user="alice",
            stdin=(PASSWORD,),
            options=("--authenticate", "--dump-http-traffic"),
        )
        assert client.wait_for_end() == 0
        leaf = chain_of(site, "other.pem")[0]
        announced = client.find("<server-cert-hash>(.*)</server-cert-hash>")
        assert announced is not None
        assert announced[1] == hashlib.sha1(leaf).hexdigest().upper()


class ClientCertificateTests:
    def test_clients_are_asked_with_the_name_of_the_authority(self, site: Site) -> None:
        for name, authority in ((NAME, "ca.pem"), (OTHER_NAME, "second-ca.pem")):
            for version in ("-tls1_2", "-tls1_3"):
                said = look(site, version, name=name, authority=authority)
                names = said.partition("Acceptable client certificate CA names\n")[2]
                assert "The authority of clients" in names.splitlines()[0], said
                assert "Verify return code: 0 (ok)" in said

    @pytest.mark.parametrize("versions", ["NORMAL:-VERS-TLS1.3", "NORMAL"])
    @pytest.mark.parametrize("issuer", ["clients", "strangers"])
    def test_client_with_a_certificate_still_logs_in_by_password(
        self, site: Site, authorities: Authorities, issuer: str, versions: str
    ) -> None:
        authority: trustme.CA = getattr(authorities, issuer)
        issued = authority.issue_cert("alice@vpn.test", common_name="alice")
        file = site.gateway.directory / f"client-of-{issuer}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(file)
        since = site.gateway.program.position
        client = site.connect(options=("--certificate", str(file), "--gnutls-priority", versions))
        assert client.find("(?i)using client certificate 'alice'")
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0])
        line = site.gateway.program.wait_for(r"\blogin_started\b.*", since=since)[0]
        assert ("certificate is not accepted" in line) is (issuer == "strangers")
