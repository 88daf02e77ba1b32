"""Tests of anyvpn.backends.authenticator_certificate_pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from anyvpn.backends import authenticator_certificate as one
from anyvpn.backends.authenticator_certificate_pair import Settings, build
from anyvpn.errors import ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import (
    Answer,
    ClientDescription,
    Identity,
    SignatureRequest,
    SignedCertificates,
)
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import A_REQUEST, ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.certificates import STRANGE_NAME, Holder, authority, issue
from tests.backends.hostile_credentials import HostileCredentials

MACHINES = authority("CN=Machines")
USERS = authority("CN=Users")
LAPTOP = issue(MACHINES, "CN=laptop7")
ALICE = issue(USERS)
REQUEST = replace(
    A_REQUEST,
    client=ClientDescription(capabilities=frozenset(("multiple-cert",))),
    certificates=LAPTOP.chain,
)
DOCUMENT = b"<?xml ...>"


def signed(by: Holder, **changes: Any) -> SignedCertificates:
    made = SignedCertificates(by.pkcs7(), by.sign(DOCUMENT), "sha256", DOCUMENT)
    return replace(made, **changes)


class CertificatePairCase(TestCase):
    def make_authenticator(self, **settings: Any) -> IAuthenticator:
        path = Path(self.mktemp())
        path.write_bytes(USERS.certificate.public_bytes(Encoding.PEM))
        return build(Settings(user_ca=path, **settings), Clock())

    async def login(self, answer: Answer, request: Any = REQUEST, **settings: Any) -> Identity:
        dialogue = ScriptedDialogue(request, answers=(answer,))
        return await self.make_authenticator(**settings).authenticate(dialogue)

    async def refusal(self, answer: Answer, request: Any = REQUEST, **settings: Any) -> str:
        return str(await error_of(self.login(answer, request, **settings), LoginRejected))


class GoodTests(CertificatePairCase):
    async def test_the_user_comes_with_the_machine(self) -> None:
        identity = await self.login(signed(ALICE))
        assert identity.user == "alice"
        [machine] = identity.attributes["machine"]
        assert machine.startswith("sha256:")

    async def test_the_machine_has_the_name_that_an_authenticator_gives_it(self) -> None:
        machine = one.build(one.Settings(), Clock())
        identity = await self.login(signed(ALICE), machine=machine)
        assert identity.attributes["machine"] == ("laptop7",)

    async def test_a_machine_that_is_refused_is_not_asked_for_its_user(self) -> None:
        machine = one.build(one.Settings(issuers=("CN=Other",)), Clock())
        dialogue = ScriptedDialogue(REQUEST, answers=(signed(ALICE),))
        made = self.make_authenticator(machine=machine)
        await error_of(made.authenticate(dialogue), LoginRejected)
        assert not dialogue.asked

    async def test_each_question_is_another(self) -> None:
        made = self.make_authenticator(hash_algorithms=("sha512",))
        dialogue = ScriptedDialogue(REQUEST, answers=((), ()))
        for _ in range(2):
            await error_of(made.authenticate(dialogue), LoginRejected)
        first, second = dialogue.asked
        assert isinstance(first, SignatureRequest) and isinstance(second, SignatureRequest)
        assert first.hash_algorithms == ("sha512",)
        assert len(first.nonce) == 32 and first.nonce != second.nonce

    async def test_every_hash_and_certificates_between(self) -> None:
        below = authority("CN=Below", USERS)
        bob = issue(below, "CN=bob")
        chain = pkcs7.serialize_certificates([below.certificate, bob.certificate], Encoding.DER)
        for name, algorithm in (("sha384", hashes.SHA384()), ("sha512", hashes.SHA512())):
            answer = SignedCertificates(chain, bob.sign(DOCUMENT, algorithm), name, DOCUMENT)
            assert (await self.login(answer)).user == "bob"

    async def test_the_rules_hold_for_the_user(self) -> None:
        assert (await self.login(signed(ALICE), issuers=("CN=Users",))).user == "alice"
        assert "none of `issuers`" in await self.refusal(signed(ALICE), issuers=("CN=Machines",))

    async def test_certificates_as_others_make_them(self) -> None:
        issuer = trustme.CA(organization_name="Others")
        made = issuer.issue_cert(common_name="alice", key_type=trustme.KeyType.ECDSA)
        leaf = x509.load_pem_x509_certificate(made.cert_chain_pems[0].bytes())
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        path = Path(self.mktemp())
        issuer.cert_pem.write_to_path(path)
        dialogue = ScriptedDialogue(REQUEST, answers=(signed(Holder(leaf, key)),))
        made_here = build(Settings(user_ca=path), Clock())
        assert (await made_here.authenticate(dialogue)).user == "alice"


class BadTests(CertificatePairCase):
    async def test_a_client_that_cannot_is_not_asked(self) -> None:
        plain = replace(REQUEST, client=ClientDescription())
        assert "cannot show several" in await self.refusal(signed(ALICE), plain)

    async def test_a_machine_is_needed(self) -> None:
        dialogue = ScriptedDialogue(replace(REQUEST, certificates=()), answers=((), signed(ALICE)))
        await error_of(self.make_authenticator().authenticate(dialogue), LoginRejected)

    async def test_signatures_that_do_not_fit(self) -> None:
        mallory = issue(USERS, "CN=mallory")
        for answer, said in (
            (signed(ALICE, signature=mallory.sign(DOCUMENT)), "wrong signature"),
            (signed(ALICE, signed_document=b"another"), "wrong signature"),
            (signed(ALICE, signature=b""), "signature"),
            (signed(ALICE, hash_algorithm="sha512"), "wrong signature"),
            (signed(ALICE, hash_algorithm="md5"), "signs with md5"),
            (signed(ALICE, hash_algorithm="sha1\n"), "signs with sha1"),
            (signed(ALICE, chain_pkcs7=b""), "cannot be read"),
            (signed(ALICE, chain_pkcs7=b"x" * 100_000), "far too many"),
            ((), "signed nothing"),
        ):
            assert said in await self.refusal(answer), said

    async def test_an_allowed_hash_must_be_used(self) -> None:
        said = await self.refusal(signed(ALICE), hash_algorithms=("sha384",))
        assert said == "the user signs with sha256"

    async def test_certificates_that_are_not_accepted(self) -> None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        for holder in (
            issue(MACHINES),
            issue(None),
            issue(USERS, days=(-2, -1)),
            issue(USERS, days=(1, 2)),
            issue(USERS, extensions=(usage,)),
            issue(None, extensions=(STRANGE_NAME,)),
            issue(issue(USERS, "CN=no authority")),
        ):
            assert "is not accepted" in await self.refusal(signed(holder))

    async def test_an_authority_is_no_user(self) -> None:
        assert "no certificate of a user" in await self.refusal(signed(USERS))

    async def test_weak_keys_are_refused(self) -> None:
        weak = issue(USERS, key=rsa.generate_private_key(65537, 1024))
        answer = SignedCertificates(weak.pkcs7(), b"x" * 128, "sha256", DOCUMENT)
        assert "too weak" in await self.refusal(answer)

    async def test_many_certificates_are_not_tried(self) -> None:
        many = [issue(USERS).certificate for _ in range(11)]
        chain = pkcs7.serialize_certificates(many, Encoding.DER)
        assert "has sent 11" in await self.refusal(signed(ALICE, chain_pkcs7=chain))


class ContractTests(CertificatePairCase, HostileCredentials, AuthenticatorContract):
    request = replace(REQUEST, certificates=())

    def right_answers(self) -> tuple[Answer, ...]:
        return (LAPTOP.chain, signed(ALICE))

    def wrong_answers(self) -> tuple[Answer, ...]:
        return (LAPTOP.chain, signed(issue(MACHINES)))


class SettingsTests:
    def test_wrong_settings_are_refused_in_words(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r'hash_algorithms: "md5" is not one of sha256'):
            Settings(user_ca=tmp_path, hash_algorithms=("md5",))
        with pytest.raises(ValueError, match="hash_algorithms must name one"):
            Settings(user_ca=tmp_path, hash_algorithms=())
        with pytest.raises(ConfigurationError, match=r"user_ca: .* cannot be read"):
            build(Settings(user_ca=tmp_path / "none"), Clock())
        (tmp_path / "empty").touch()
        with pytest.raises(ConfigurationError, match=r"user_ca: .* has no PEM certificates"):
            build(Settings(user_ca=tmp_path / "empty"), Clock())
