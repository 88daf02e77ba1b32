"""Which certificate clients are shown, what of theirs is noted, and what is wrong with files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL

from anyvpn.errors import ConfigurationError
from anyvpn.gateway.settings import TLSIdentity, TLSSettings
from anyvpn.gateway.tls_contexts import ServerContexts, verification_failure
from tests.gateway.gateway_in_memory import client_authority
from tests.gateway.memory_tls import HOST, authority, client_context

OTHER_HOST = "other.example.com"


def write_identity(
    folder: Path, host: str, names: Sequence[str] = (), issuer: trustme.CA | None = None
) -> TLSIdentity:
    """A certificate for the host, with its chain and key, in files."""
    issued = (issuer or authority()).issue_cert(host)
    certificate, key = folder / f"{host}.pem", folder / f"{host}.key"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return TLSIdentity(certificate, key, tuple(names))


def fingerprint(identity: TLSIdentity) -> str:
    """SHA-1 of its certificate."""
    certificate = x509.load_pem_x509_certificate(identity.certificate_file.read_bytes())
    return certificate.fingerprint(SHA1()).hex().upper()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def identities(folder: Path) -> tuple[TLSIdentity, ...]:
    """For HOST, which is the default, and for OTHER_HOST."""
    return write_identity(folder, HOST, [HOST]), write_identity(folder, OTHER_HOST, [OTHER_HOST])


@pytest.fixture(scope="module")
def client_ca_file(folder: Path) -> Path:
    """Two CAs of clients in one file."""
    file = folder / "clients.pem"
    other = trustme.CA(organization_name="Second")
    file.write_bytes(client_authority().cert_pem.bytes() + other.cert_pem.bytes())
    return file


class Secured:
    """Both ends of a TLS connection after the handshake. Raises SSL.Error when it fails."""

    def __init__(
        self,
        contexts: ServerContexts,
        server_name: bytes = b"",
        context: SSL.Context | None = None,
        session: SSL.Session | None = None,
    ) -> None:
        self.server = SSL.Connection(contexts.default, None)
        self.server.set_accept_state()
        self.client = SSL.Connection(context or client_context(), None)
        self.client.set_connect_state()
        if server_name:
            self.client.set_tlsext_host_name(server_name)
        if session is not None:
            self.client.set_session(session)
        self.shake_hands()

    def shake_hands(self) -> None:
        ends = (self.client, self.server)
        for _ in range(4):
            for end, other in (ends, ends[::-1]):
                with suppress(SSL.WantReadError):
                    end.do_handshake()
                with suppress(SSL.WantReadError):  # nothing waits to be sent
                    other.bio_write(end.bio_read(65536))

    def shown(self) -> str:
        """SHA-1 of the certificate that the client was shown."""
        certificate = self.client.get_peer_certificate()
        assert certificate is not None
        return certificate.to_cryptography().fingerprint(SHA1()).hex().upper()


def problems(settings: TLSSettings) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        ServerContexts(settings)
    return caught.value.problems


class NameTests:
    @pytest.mark.parametrize(
        ("server_name", "expected"),
        [
            (HOST.encode(), 0),
            (OTHER_HOST.encode(), 1),
            (OTHER_HOST.upper().encode(), 1),
            (b"third.example.com", 0),
            (b"other.example.com.evil.example", 0),
            ("b\u00fccher.example".encode(), 0),
            (b"\xff\xfe", 0),
            (b"", 0),
        ],
    )
    def test_the_name_that_the_client_asks_for_chooses_the_certificate(
        self, identities: tuple[TLSIdentity, ...], server_name: bytes, expected: int
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities))
        assert Secured(contexts, server_name).shown() == fingerprint(identities[expected])

    def test_the_hash_told_at_login_is_of_the_certificate_that_was_shown(
        self, identities: tuple[TLSIdentity, ...]
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities))
        for name in (HOST, OTHER_HOST, OTHER_HOST.upper(), "third.example.com", ""):
            assert contexts.certificate_hash(name) == Secured(contexts, name.encode()).shown()
        assert contexts.certificate_hash(OTHER_HOST) == fingerprint(identities[1])

    def test_one_certificate_may_serve_several_names(
        self, folder: Path, identities: tuple[TLSIdentity, ...]
    ) -> None:
        both = write_identity(folder, "a.example.com", ["A.example.com", "b.example.com"])
        contexts = ServerContexts(TLSSettings((identities[0], both)))
        shown = {Secured(contexts, name).shown() for name in (b"a.example.com", b"b.example.com")}
        assert shown == {contexts.certificate_hash("b.example.com")}
        assert shown != {contexts.certificate_hash("")}

    def test_the_whole_chain_is_sent(self, folder: Path) -> None:
        issuer = authority().create_child_ca()
        identity = write_identity(folder, "chain.example.com", issuer=issuer)
        context = client_context()
        authority().configure_trust(context)
        context.set_verify(SSL.VERIFY_PEER, lambda *arguments: bool(arguments[-1]))
        secured = Secured(ServerContexts(TLSSettings((identity,))), context=context)
        chain = secured.client.get_peer_cert_chain()
        assert chain is not None and len(chain) == 2
        assert chain[1].to_cryptography().subject == chain[0].to_cryptography().issuer


class ProtocolTests:
    @pytest.mark.parametrize(
        ("minimum", "client_version", "comes_in"),
        [
            ("1.2", SSL.TLS1_2_VERSION, True),
            ("1.2", SSL.TLS1_3_VERSION, True),
            ("1.3", SSL.TLS1_2_VERSION, False),
            ("1.3", SSL.TLS1_3_VERSION, True),
            ("1.2", SSL.TLS1_1_VERSION, False),
        ],
    )
    def test_versions_below_the_minimum_are_refused(
        self,
        identities: tuple[TLSIdentity, ...],
        minimum: str,
        client_version: int,
        comes_in: bool,
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities, minimum_version=minimum))
        context = client_context()
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(client_version)
        context.set_max_proto_version(client_version)
        if comes_in:
            assert Secured(contexts, context=context).client.get_peer_certificate() is not None
        else:
            with pytest.raises(SSL.Error):
                Secured(contexts, context=context)

    def test_only_the_ciphers_of_the_settings_are_taken(
        self, identities: tuple[TLSIdentity, ...]
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities, ciphers="ECDHE+AES128"))
        strict, open_minded = client_context(), client_context()
        for context in (strict, open_minded):
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
        strict.set_cipher_list(b"ECDHE+AES256")
        open_minded.set_cipher_list(b"ECDHE+AES256:ECDHE+AES128")
        with pytest.raises(SSL.Error):
            Secured(contexts, context=strict)
        name = Secured(contexts, context=open_minded).client.get_cipher_name()
        assert name is not None and "AES128" in name

    def test_the_usual_ciphers_are_authenticated_with_forward_secrecy(
        self, identities: tuple[TLSIdentity, ...]
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities))
        connection = SSL.Connection(contexts.default, None)
        for name in connection.get_cipher_list():
            assert name.startswith(("ECDHE-", "TLS_"))
            assert "GCM" in name or "CHACHA20" in name

    def test_no_session_is_resumed(self, identities: tuple[TLSIdentity, ...]) -> None:
        contexts = ServerContexts(TLSSettings(identities))
        context = client_context()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        first = Secured(contexts, context=context)
        session = first.client.get_session()
        assert session is not None
        second = Secured(contexts, context=context, session=session)
        assert second.client.master_key() != first.client.master_key()

    def test_nothing_is_negotiated_again(self, identities: tuple[TLSIdentity, ...]) -> None:
        context = client_context()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        secured = Secured(ServerContexts(TLSSettings(identities)), context=context)
        client, server = secured.client, secured.server
        client.renegotiate()
        with suppress(SSL.WantReadError):
            client.do_handshake()
        server.bio_write(client.bio_read(65536))
        with suppress(SSL.WantReadError):  # no data came
            server.recv(1)
        client.bio_write(server.bio_read(65536))
        with pytest.raises(SSL.Error, match="no renegotiation"):
            client.do_handshake()


class ClientCertificateTests:
    @pytest.fixture
    def contexts(self, identities: tuple[TLSIdentity, ...], client_ca_file: Path) -> ServerContexts:
        return ServerContexts(TLSSettings(identities, client_ca_file))

    def test_clients_are_told_all_the_cas(
        self, contexts: ServerContexts, client_ca_file: Path
    ) -> None:
        names = Secured(contexts).client.get_client_ca_list()
        cas = x509.load_pem_x509_certificates(client_ca_file.read_bytes())
        assert [name.der() for name in names] == [each.subject.public_bytes() for each in cas]
        assert len(cas) == 2

    def test_without_cas_no_certificate_is_asked_for(
        self, identities: tuple[TLSIdentity, ...]
    ) -> None:
        contexts = ServerContexts(TLSSettings(identities))
        context = client_context(client_authority().issue_cert("alice@example.com"))
        secured = Secured(contexts, context=context)
        assert secured.server.get_peer_certificate() is None
        assert secured.client.get_client_ca_list() == []

    def test_a_client_without_one_comes_in(self, contexts: ServerContexts) -> None:
        secured = Secured(contexts)
        assert secured.server.get_peer_certificate() is None
        assert verification_failure(secured.server) == ""

    @pytest.mark.parametrize("server_name", [HOST, OTHER_HOST])
    def test_a_good_one_is_accepted_under_each_name(
        self, contexts: ServerContexts, server_name: str
    ) -> None:
        context = client_context(client_authority().issue_cert("alice@example.com"))
        secured = Secured(contexts, server_name.encode(), context)
        assert secured.server.get_peer_certificate() is not None
        assert verification_failure(secured.server) == ""

    @pytest.mark.parametrize("server_name", [HOST, OTHER_HOST])
    def test_one_of_an_unknown_ca_comes_in_and_is_noted(
        self, contexts: ServerContexts, server_name: str
    ) -> None:
        stranger = trustme.CA().issue_cert(common_name="Mallory")
        secured = Secured(contexts, server_name.encode(), client_context(stranger))
        assert secured.server.get_peer_certificate() is not None
        failure = verification_failure(secured.server)
        assert failure.startswith("an unknown issuer at depth 0: ")
        assert "CN=Mallory" in failure

    def test_an_expired_one_comes_in_and_is_noted(self, contexts: ServerContexts) -> None:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        old = client_authority().issue_cert("alice@example.com", not_after=yesterday)
        secured = Secured(contexts, context=client_context(old))
        assert verification_failure(secured.server).startswith("expired at depth 0: ")

    def test_what_is_noted_of_one_connection_is_not_of_another(
        self, contexts: ServerContexts
    ) -> None:
        stranger = Secured(contexts, context=client_context(trustme.CA().issue_cert("mallory")))
        good = Secured(
            contexts, context=client_context(client_authority().issue_cert("alice@example.com"))
        )
        assert verification_failure(stranger.server) != ""
        assert verification_failure(good.server) == ""


class UnusableFileTests:
    def test_every_problem_is_told_at_once(self, folder: Path) -> None:
        good = write_identity(folder, "good.example.com")
        missing, no_pem = folder / "missing.pem", folder / "no.pem"
        no_pem.write_text("no certificate")
        settings = TLSSettings(
            (
                TLSIdentity(missing, good.key_file),
                TLSIdentity(no_pem, good.key_file),
                TLSIdentity(good.certificate_file, missing),
                TLSIdentity(good.certificate_file, no_pem),
            ),
            client_ca_file=missing,
            minimum_version="1.1",
            ciphers="NONSENSE",
        )
        told = problems(settings)
        assert set(told) == {
            f"tls.client_ca: cannot read {missing}: No such file or directory",
            "tls.minimum_version: '1.1' is not known; use 1.2 or 1.3",
            "tls.ciphers: 'NONSENSE' names no cipher; use OpenSSL's list format",
            f"tls.certificate: cannot read {missing}: No such file or directory",
            f"tls.certificate: {no_pem} holds no PEM certificate chain",
            f"tls.key: cannot read {missing}: No such file or directory",
            f"tls.key: {no_pem} holds no PEM private key without a passphrase",
        }

    def test_a_key_of_another_certificate_is_told_with_both_files(
        self, identities: tuple[TLSIdentity, ...]
    ) -> None:
        first, second = identities
        settings = TLSSettings((TLSIdentity(first.certificate_file, second.key_file),))
        assert problems(settings) == (
            f"tls.certificate: {first.certificate_file} does not fit the key {second.key_file}; "
            "the first certificate in the file must be the key's",
        )

    def test_a_chain_in_the_wrong_order_does_not_fit_its_key(self, folder: Path) -> None:
        issuer = authority().create_child_ca()
        identity = write_identity(folder, "order.example.com", issuer=issuer)
        leaf, end, chain = identity.certificate_file.read_text().partition("-----END CERT")
        rest, pem_end = chain.split("\n", 1)
        identity.certificate_file.write_text(f"{pem_end}{leaf}{end}{rest}\n")
        (problem,) = problems(TLSSettings((identity,)))
        assert "does not fit the key" in problem

    def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(
        self, folder: Path, identities: tuple[TLSIdentity, ...], capfd: pytest.CaptureFixture[str]
    ) -> None:
        key = load_pem_private_key(identities[0].key_file.read_bytes(), None)
        secret = folder / "secret.key"
        secret.write_bytes(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
            )
        )
        settings = TLSSettings((TLSIdentity(identities[0].certificate_file, secret),))
        assert problems(settings) == (
            f"tls.key: {secret} holds no PEM private key without a passphrase",
        )
        assert capfd.readouterr() == ("", "")

    def test_a_key_of_a_kind_that_signs_nothing_is_refused(
        self, folder: Path, identities: tuple[TLSIdentity, ...]
    ) -> None:
        useless = folder / "useless.key"
        useless.write_bytes(
            X25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        settings = TLSSettings((TLSIdentity(identities[0].certificate_file, useless),))
        (problem,) = problems(settings)
        assert str(useless) in problem

    def test_a_key_in_the_file_of_its_certificate_is_found(self, folder: Path) -> None:
        identity = write_identity(folder, "one.example.com")
        both = folder / "both.pem"
        both.write_bytes(identity.certificate_file.read_bytes() + identity.key_file.read_bytes())
        contexts = ServerContexts(TLSSettings((TLSIdentity(both, both),)))
        assert contexts.certificate_hash("") == fingerprint(identity)

    def test_an_empty_file_of_cas_is_a_problem(
        self, folder: Path, identities: tuple[TLSIdentity, ...]
    ) -> None:
        empty = folder / "empty.pem"
        empty.touch()
        assert problems(TLSSettings(identities, empty)) == (
            f"tls.client_ca: {empty} holds no PEM certificate",
        )

    def test_a_folder_is_no_file(self, folder: Path, identities: tuple[TLSIdentity, ...]) -> None:
        settings = TLSSettings((TLSIdentity(folder, folder),), client_ca_file=folder)
        assert len(problems(settings)) == 2
        assert all("Is a directory" in each for each in problems(settings))

    def test_at_least_one_certificate_is_needed(self) -> None:
        assert problems(TLSSettings(())) == ("tls: no certificate; name one with its key",)
