"""Certificates as logins: alone, with a password, instead of one; revoked by list and by OCSP.

The responder is OpenSSL's own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from anyvpn.testing.programs import Program
from tests.backends.certificates import Holder, authority, issue, revocation_list
from tests.interop.gateway import PASSWORD
from tests.interop.site import MANY_FAILURES, Site

RESPONDER_PORT = 2560
RESPONDER = f"http://127.0.0.1:{RESPONDER_PORT}"
SERVER_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Certificates:
    """One authority, those that it has issued, and those that it should not have."""

    directory: Path
    authority: Holder
    holders: Mapping[str, Holder]

    @property
    def crl(self) -> Path:
        return self.directory / "revoked.crl"

    def options(self, group: str, name: str) -> tuple[str, ...]:
        """For openconnect and for our client."""
        return ("--authgroup", group, "--certificate", str(self.directory / f"{name}.pem"))

    def revoke(self, *names: str) -> None:
        """Let the list have these."""
        made = revocation_list(self.authority, *(self.holders[name] for name in names))
        new = self.crl.with_suffix(".new")
        new.write_bytes(made)
        new.replace(self.crl)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    root = authority("CN=Staff CA,O=Example")
    email = x509.SubjectAlternativeName([x509.RFC822Name("alice@example.com")])
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(RESPONDER)
            )
        ]
    )
    holders = {
        "alice": issue(root, "CN=alice,OU=staff,OU=admins", extensions=(email, CLIENT, access)),
        "bob": issue(root, "CN=bob", extensions=(access,)),
        "carol": issue(root, "CN=carol", extensions=(access,)),
        "expired": issue(root, days=(-2, -1)),
        "early": issue(root, days=(1, 2)),
        "server": issue(root, extensions=(SERVER_ONLY,)),
        "stranger": issue(authority("CN=Staff CA,O=Example")),
        "short": issue(root, "CN=short", key=rsa.generate_private_key(65537, 1024)),
        "below": issue(
            authority("CN=Weak CA", root, key=rsa.generate_private_key(65537, 1024)), "CN=below"
        ),
    }
    for name, holder in holders.items():
        (directory / f"{name}.pem").write_bytes(holder.pem)
    write_signed_by_sha1(directory / "sha1.pem", root)
    (directory / "ca.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    (directory / "ca-and-key.pem").write_bytes(root.pem)
    made = Certificates(directory, root, holders)
    made.revoke()
    return made


def write_signed_by_sha1(file: Path, issuer: Holder) -> None:
    """What no library makes any more; openssl still does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=sha1")
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    signer = file.with_name("signer.pem")
    signer.write_bytes(issuer.pem)
    signed = subprocess.run(
        [
            *("openssl", "x509", "-req", "-sha1", "-days", "2", "-set_serial", "7"),
            *("-CA", str(signer), "-CAkey", str(signer)),
        ],
        input=request.public_bytes(Encoding.PEM),
        capture_output=True,
        check=True,
    )
    own = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.stdout + own)


@pytest.fixture(scope="module")
def gateway_changes(certificates: Certificates) -> Mapping[str, object]:
    crl = {"backend": "certificate", "crl": [str(certificates.crl)]}
    names = ("alone", "email", "both", "either", "listed", "asked", "unreachable", "lenient")
    return {
        "tls": {"client_ca": str(certificates.directory / "ca.pem")},
        "limits": MANY_FAILURES,
        "authenticators": {
            "alone": {"backend": "certificate", "groups": ["subject.OU"]},
            "email": {
                "backend": "certificate",
                "user": "san.email",
                "user_pattern": r"([^@]+)@example\.com",
                "extended_key_usage": ["clientAuth"],
                "issuers": ["CN=Staff CA,O=Example"],
            },
            "both": {"backend": "chain", "of": ["alone", "password"]},
            "either": {"backend": "any", "of": ["alone", "password"]},
            "listed": crl,
            "asked": {"backend": "certificate", "ocsp": True},
            "unreachable": {
                "backend": "certificate",
                "ocsp": True,
                "ocsp_url": "http://127.0.0.1:9",
            },
            "lenient": {
                "backend": "certificate",
                "ocsp": True,
                "ocsp_url": "http://127.0.0.1:9",
                "revocation_unknown": "accept",
            },
        },
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in names),
        ],
    }


@pytest.fixture(scope="module")
def responder(module_site: Site, certificates: Certificates) -> Iterator[Program]:
    """Knows alice as good and bob as revoked, and has never heard of carol."""
    index = certificates.directory / "index.txt"
    lines = [
        f"{'V' if name == 'alice' else 'R'}\t400101000000Z\t"
        f"{'' if name == 'alice' else '250101000000Z,keyCompromise'}\t"
        f"{certificates.holders[name].certificate.serial_number:040X}\tunknown\t/CN={name}\n"
        for name in ("alice", "bob")
    ]
    index.write_text("".join(lines))
    both = str(certificates.directory / "ca-and-key.pem")
    program = Program(
        "the OCSP responder",
        module_site.gateway.namespace.command(
            [
                *("openssl", "ocsp", "-port", str(RESPONDER_PORT), "-index", str(index)),
                *("-CA", str(certificates.directory / "ca.pem"), "-rsigner", both, "-rkey", both),
            ]
        ),
    )
    program.wait_for("waiting for OCSP client connections")
    yield program
    program.kill()


def refused(
    site: Site,
    options: tuple[str, ...],
    detail: str,
    stdin: tuple[str, ...] = (),
    *,
    ours: bool = True,
) -> None:
    """Clients get no word of why; the operator gets all."""
    since = site.gateway.program.position
    client = site.refused("", ours=ours, stdin=stdin, options=options)
    site.gateway.program.wait_for(rf"login_failed.*{detail}", since=since)
    assert not client.find(detail)


class CertificateTests:
    @pytest.mark.parametrize("group", ["alone", "email"])
    def test_it_is_enough_for_openconnect(
        self, site: Site, certificates: Certificates, group: str
    ) -> None:
        client = site.connect("", stdin=(), options=certificates.options(group, "alice"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert site.gateway.wait_for_event("login_succeeded", user="alice")

    @pytest.mark.parametrize("ours", [False, True])
    def test_one_that_breaks_a_rule_is_refused(
        self, site: Site, certificates: Certificates, ours: bool
    ) -> None:
        refused(site, certificates.options("email", "bob"), "is not for clientAuth", ours=ours)

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("expired", "expired"),
            ("early", "not yet valid"),
            ("server", "not meant for clients"),
            ("stranger", "not signed by the issuer"),
        ],
    )
    @pytest.mark.parametrize("ours", [False, True])
    def test_one_that_tls_does_not_accept_is_refused(
        self, site: Site, certificates: Certificates, name: str, detail: str, ours: bool
    ) -> None:
        options = certificates.options("alone", name)
        refused(site, options, f"is not accepted: {detail}", ours=ours)

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("short", "a key that is too weak at depth 0: CN=short"),
            ("below", "an authority with a key that is too weak at depth 1: CN=Weak CA"),
            ("sha1", "a signature that is too weak at depth 0: CN=sha1"),
        ],
    )
    def test_weak_ones_are_refused(
        self, site: Site, certificates: Certificates, name: str, detail: str
    ) -> None:
        options = certificates.options("alone", name)
        refused(site, options, f"is not accepted: {detail}", ours=False)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("short", "the certificate of CN=short cannot be used: ee key too small"),
            ("below", "TLS handshake failed: ca key too small"),
        ],
    )
    def test_our_client_does_not_even_show_a_weak_key(
        self, site: Site, certificates: Certificates, name: str, why: str
    ) -> None:
        client = site.ours("", stdin=(), options=certificates.options("alone", name))
        assert client.wait_for_end() == 1
        assert client.find(why), client.output()


class PasswordTests:
    def test_openconnect_shows_one_and_is_asked_for_the_password_alone(
        self, site: Site, certificates: Certificates
    ) -> None:
        client = site.connect("", options=certificates.options("both", "alice"))
        assert client.find("password of alice")
        assert client.ping(site.gateway.inner_addresses[0])

    def test_our_client_does_the_same(self, site: Site, certificates: Certificates) -> None:
        options = (*certificates.options("both", "alice"), "--passwd-on-stdin")
        client = site.connect_ours("", options=options)
        assert client.ping(site.gateway.inner_addresses[0])

    def test_the_password_of_another_user_is_wrong(
        self, site: Site, certificates: Certificates
    ) -> None:
        options = (*certificates.options("both", "bob"), "--passwd-on-stdin")
        refused(site, options, "unknown user", stdin=(PASSWORD,))
        site.gateway.program.wait_for(r"login_failed user=bob .*unknown user")

    def test_a_certificate_spares_the_password(
        self, site: Site, certificates: Certificates
    ) -> None:
        client = site.connect("", stdin=(), options=certificates.options("either", "bob"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert site.gateway.wait_for_event("login_succeeded", user="bob")

    @pytest.mark.parametrize("ours", [True, False])
    def test_without_either_nobody_gets_in(self, site: Site, ours: bool) -> None:
        since = site.gateway.program.position
        site.refused(ours=ours, stdin=("wrong",), options=("--authgroup", "either"))
        site.gateway.wait_for_event(
            "login_failed", user="alice", detail="no certificate; wrong password", since=since
        )

    @pytest.mark.parametrize("ours", [True, False])
    def test_without_a_certificate_the_password_will_do(self, site: Site, ours: bool) -> None:
        connect = site.connect_ours if ours else site.connect
        client = connect(options=("--authgroup", "either"))
        assert client.ping(site.gateway.inner_addresses[0])


class RevocationTests:
    def test_a_list_counts_from_the_moment_that_it_changes(
        self, site: Site, certificates: Certificates
    ) -> None:
        client = site.connect("", stdin=(), options=certificates.options("listed", "bob"))
        assert client.ping(site.gateway.inner_addresses[0])
        certificates.revoke("bob")
        refused(site, certificates.options("listed", "bob"), "CN=bob is revoked: keyCompromise")

    def test_the_responder_is_asked(
        self, site: Site, certificates: Certificates, responder: Program
    ) -> None:
        client = site.connect("", stdin=(), options=certificates.options("asked", "alice"))
        assert client.ping(site.gateway.inner_addresses[0])
        refused(site, certificates.options("asked", "bob"), "is revoked since 2025-01-01")
        refused(site, certificates.options("asked", "carol"), "is not known to http")

    def test_an_unreachable_responder_refuses_unless_it_may_not(
        self, site: Site, certificates: Certificates
    ) -> None:
        refused(site, certificates.options("unreachable", "alice"), "nobody knows whether")
        client = site.connect("", stdin=(), options=certificates.options("lenient", "alice"))
        assert client.ping(site.gateway.inner_addresses[0])
