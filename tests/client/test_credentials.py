"""Tests of anyvpn.client.credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL

from anyvpn.client.credentials import choose_credential, load_credential, pkcs7_chain, sign
from anyvpn.errors import ConfigurationError
from tests.client.scripted import connect

CA, OTHER_CA = trustme.CA(), trustme.CA()


def write(directory: Path, name: str, ca: trustme.CA = CA, passphrase: str = "") -> Path:
    issued = ca.issue_cert(f"{name}@example.com")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    path = directory / f"{name}.pem"
    path.write_bytes(pem + issued.cert_chain_pems[0].bytes())
    return path


class LoadTests:
    def test_one_file_holds_both(self, tmp_path: Path) -> None:
        assert load_credential(write(tmp_path, "alice")).chain

    def test_the_passphrase_is_asked_for_until_it_is_right(self, tmp_path: Path) -> None:
        typed = iter(["wrong", "right"])
        path = write(tmp_path, "alice", passphrase="right")
        assert load_credential(path, None, lambda _: next(typed)).key

    def test_a_wrong_passphrase_may_leave_nonsense(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path, "alice", passphrase="right")
        load = serialization.load_pem_private_key

        def load_or_not(content: bytes, passphrase: bytes | None) -> object:
            if passphrase == b"wrong":
                raise ValueError("Could not deserialize key data")
            return load(content, passphrase)

        monkeypatch.setattr("anyvpn.client.credentials.load_pem_private_key", load_or_not)
        typed = iter(["wrong", "right"])
        assert load_credential(path, None, lambda _: next(typed)).key

    def test_a_wrong_passphrase_is_asked_for_three_times(self, tmp_path: Path) -> None:
        prompts: list[str] = []

        def ask(prompt: str) -> str:
            prompts.append(prompt)
            return "wrong"

        with pytest.raises(ConfigurationError, match="passphrase is missing or wrong"):
            load_credential(write(tmp_path, "alice", passphrase="right"), None, ask)
        assert len(prompts) == 3

    def test_pkcs12(self, tmp_path: Path) -> None:
        issued = CA.issue_cert("alice@example.com")
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        leaf = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        protection = serialization.BestAvailableEncryption(b"right")
        path = tmp_path / "alice.p12"
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(b"alice", key, leaf, None, protection)  # type: ignore[arg-type]
        )
        assert load_credential(path, None, lambda _: "right").chain == (leaf,)

    def test_a_key_of_somebody_else(self, tmp_path: Path) -> None:
        alice, bob = write(tmp_path, "alice"), write(tmp_path, "bob")
        with pytest.raises(ConfigurationError, match="does not fit the key"):
            load_credential(alice, bob)

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN NOTHING-----\n"])
    def test_what_is_no_certificate(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="file"):
            load_credential(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            load_credential(tmp_path / "missing.pem")


class ChoiceTests:
    def test_the_authority_that_the_gateway_names_decides(self, tmp_path: Path) -> None:
        first = load_credential(write(tmp_path, "first", OTHER_CA))
        second = load_credential(write(tmp_path, "second", CA))
        gateway = SSL.Context(SSL.TLS_SERVER_METHOD)
        CA.issue_cert("vpn.example.com").configure_cert(gateway)
        gateway.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        CA.cert_pem.write_to_path(tmp_path / "ca.pem")
        gateway.load_client_ca(bytes(tmp_path / "ca.pem"))
        stream, *_ = connect(None, gateway)
        names = stream.tls.get_client_ca_list()
        assert len(names) == 1
        assert choose_credential((first, second), names) is second
        assert choose_credential((first,), names) is None
        assert choose_credential((first, second), ()) is first


class SignatureTests:
    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
    def test_the_signature_is_right(self, tmp_path: Path, algorithm: str) -> None:
        credential = load_credential(write(tmp_path, "alice"))
        signature = sign(credential, algorithm, b"document")
        public = credential.chain[0].public_key()
        chosen: hashes.HashAlgorithm = {
            "sha256": hashes.SHA256(),
            "sha384": hashes.SHA384(),
            "sha512": hashes.SHA512(),
        }[algorithm]
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, b"document", padding.PKCS1v15(), chosen)
        else:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(signature, b"document", ec.ECDSA(chosen))

    def test_the_chain_is_in_pkcs7(self, tmp_path: Path) -> None:
        credential = load_credential(write(tmp_path, "alice"))
        found = pkcs7.load_der_pkcs7_certificates(pkcs7_chain(credential))
        assert found == list(credential.chain)
