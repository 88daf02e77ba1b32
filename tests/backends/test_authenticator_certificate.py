"""Tests of anyvpn.backends.authenticator_certificate and its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pyasn1.codec.der import encoder
from pyasn1.type.char import UTF8String
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from anyvpn.backends import authenticator_certificate_revocation as revocation
from anyvpn.backends.authenticator_certificate import Settings, build
from anyvpn.errors import ConfigurationError, LoginAborted, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import Answer, CertificateRequest, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import A_REQUEST, ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.certificates import STRANGE_NAME, Holder, authority, issue, revocation_list
from tests.backends.hostile_credentials import HostileCredentials

ROOT = authority()
ALICE = issue(ROOT)
UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


async def login(shown: Holder, **settings: Any) -> Identity:
    authenticator = build(Settings(**settings), Clock())
    return await authenticator.authenticate(ScriptedDialogue(answers=(shown.chain,)))


def names(*found: x509.GeneralName) -> Holder:
    return issue(ROOT, "CN=Alice A", extensions=(x509.SubjectAlternativeName(found),))


class ContractTests(HostileCredentials, AuthenticatorContract, TestCase):
    def make_authenticator(self) -> IAuthenticator:
        return build(Settings(), Clock())

    def right_answers(self) -> tuple[Answer, ...]:
        return (ALICE.chain,)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ((),)


class ShownTests(TestCase):
    async def test_one_that_is_shown_already_is_taken(self) -> None:
        dialogue = ScriptedDialogue(replace(A_REQUEST, certificates=ALICE.chain))
        identity = await build(Settings(), Clock()).authenticate(dialogue)
        assert identity.user == "alice"
        assert not dialogue.asked
        assert identity.attributes["certificate_issuer"] == ("CN=Staff CA,O=Example",)

    async def test_one_that_tls_refused_is_not_asked_for_again(self) -> None:
        request = replace(A_REQUEST, certificate_problem="it has expired at depth 0: CN=alice")
        dialogue = ScriptedDialogue(request, answers=(ALICE.chain,))
        error = await error_of(build(Settings(), Clock()).authenticate(dialogue), LoginRejected)
        assert "has expired" in str(error)
        assert not dialogue.asked

    async def test_a_client_without_any_is_refused(self) -> None:
        dialogue = ScriptedDialogue(answers=((),))
        await error_of(build(Settings(), Clock()).authenticate(dialogue), LoginRejected)
        assert dialogue.asked == [CertificateRequest()]
        gone = ScriptedDialogue()
        await error_of(build(Settings(), Clock()).authenticate(gone), LoginAborted)

    async def test_rubbish_is_refused(self) -> None:
        dialogue = ScriptedDialogue(answers=((b"\x30\x00",),))
        await error_of(build(Settings(), Clock()).authenticate(dialogue), LoginRejected)


class NameTests(TestCase):
    async def test_any_part_of_the_subject(self) -> None:
        shown = issue(ROOT, "UID=al,OU=one,OU=two,CN=Alice A,O=Example,2.5.4.65=pseudo")
        for source, user in (
            ("subject.CN", "Alice A"),
            ("subject.UID", "al"),
            ("subject.2.5.4.65", "pseudo"),
        ):
            assert (await login(shown, user=source)).user == user
        assert (await login(shown, groups=("subject.OU", "subject.O"))).groups == {
            *("one", "two", "Example"),
        }

    async def test_any_alternative_name(self) -> None:
        upn = x509.OtherName(UPN, b"\x0c\x08alice@ex")
        shown = names(
            x509.RFC822Name("alice@example.com"),
            x509.DNSName("alice.example.com"),
            x509.UniformResourceIdentifier("urn:alice"),
            x509.OtherName(ObjectIdentifier("1.2.3"), b"\x0c\x03bob"),
            upn,
        )
        for source, user in (
            ("san.email", "alice@example.com"),
            ("san.dns", "alice.example.com"),
            ("san.uri", "urn:alice"),
            ("san.upn", "alice@ex"),
        ):
            assert (await login(shown, user=source)).user == user

    async def test_a_pattern_chooses_and_cuts(self) -> None:
        shown = names(x509.RFC822Name("alice@example.com"), x509.RFC822Name("al@example.org"))
        identity = await login(shown, user="san.email", user_pattern=r"([^@]+)@example\.com")
        assert identity.user == "alice"
        whole = await login(shown, user="san.email", user_pattern=r"[^@]+@example\.org")
        assert whole.user == "al@example.org"

    async def test_no_name_and_two_names_are_nobodys(self) -> None:
        two = names(x509.RFC822Name("alice@example.com"), x509.RFC822Name("root@example.com"))
        for shown, said in (
            (ALICE, "has no name in san.email"),
            (two, "has 2 names in san.email"),
        ):
            error = await error_of(login(shown, user="san.email"), LoginRejected)
            assert said in str(error)
        error = await error_of(login(two, user="san.email", user_pattern="x"), LoginRejected)
        assert "no name that fits user_pattern" in str(error)

    async def test_names_are_composed_as_typed_ones_are(self) -> None:
        assert (await login(issue(ROOT, "CN=a\u0308lice"))).user == "älice"

    async def test_hostile_names_are_refused(self) -> None:
        for value in (b"\x02\x01x", _text("a\0b"), _text("a\nb"), _text("x" * 300), _text("")):
            shown = names(x509.OtherName(UPN, value))
            await error_of(login(shown, user="san.upn"), LoginRejected)


def _text(text: str) -> bytes:
    return bytes(encoder.encode(UTF8String(text)))


class RuleTests(TestCase):
    async def test_issuers_are_any_of_the_chain(self) -> None:
        below = authority("CN=Laptops", ROOT)
        shown = issue(below)
        for issuer in ("CN=Laptops", "O=example,CN=STAFF CA"):
            assert (await login(shown, issuers=("CN=Other", issuer))).user == "alice"
        error = await error_of(login(shown, issuers=("CN=Other",)), LoginRejected)
        assert str(error) == "the certificate is issued by CN=Laptops, none of `issuers`"

    async def test_purposes_must_all_be_there(self) -> None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ObjectIdentifier("1.2.3")])
        shown = issue(ROOT, extensions=(usage,))
        assert (await login(shown, extended_key_usage=("clientAuth", "1.2.3"))).user == "alice"
        for holder, missing in ((shown, "emailProtection"), (ALICE, "clientAuth, emailProtection")):
            error = await error_of(
                login(holder, extended_key_usage=("emailProtection", "clientAuth")), LoginRejected
            )
            assert str(error) == f"the certificate is not for {missing}"

    async def test_extensions_that_cannot_be_read_are_refused(self) -> None:
        shown = issue(ROOT, extensions=(STRANGE_NAME,))
        for settings in ({"extended_key_usage": ("clientAuth",)}, {"user": "san.email"}):
            error = await error_of(login(shown, **settings), LoginRejected)
            assert "cannot be read" in str(error)


class RevocationListTests(TestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.patch(revocation, "deferToThread", _at_once)  # type: ignore[no-untyped-call]  # trial's own

    async def refused(self, shown: Holder, **settings: Any) -> str:
        error = await error_of(login(shown, crl=(self.file,), **settings), LoginRejected)
        return str(error)

    async def test_a_list_without_it_lets_it_pass(self) -> None:
        for encoding in (Encoding.PEM, Encoding.DER):
            self.file.write_bytes(revocation_list(ROOT, issue(ROOT), encoding=encoding))
            assert (await login(ALICE, crl=(self.file,))).user == "alice"

    async def test_a_list_with_it_refuses_it(self) -> None:
        self.file.write_bytes(revocation_list(ROOT, ALICE))
        assert await self.refused(ALICE) == "the certificate CN=alice is revoked: keyCompromise"
        assert "revoked" in await self.refused(ALICE, revocation_unknown="accept")

    async def test_a_change_of_the_file_counts_at_once(self) -> None:
        self.file.write_bytes(revocation_list(ROOT))
        authenticator = build(Settings(crl=(self.file,)), Clock())
        dialogue = ScriptedDialogue(answers=(ALICE.chain,) * 4)
        await authenticator.authenticate(dialogue)
        self.file.write_bytes(revocation_list(ROOT, ALICE))
        await error_of(authenticator.authenticate(dialogue), LoginRejected)
        for spoiled in (b"", b"rubbish"):
            self.file.write_bytes(spoiled)
            await error_of(authenticator.authenticate(dialogue), LoginRejected)

    async def test_expired_early_foreign_and_forged_lists_say_nothing(self) -> None:
        stranger = authority()
        for content, said in (
            (revocation_list(ROOT, hours=(-48, -24)), "has expired on"),
            (revocation_list(ROOT, hours=(24, 48)), "is not valid before"),
            (revocation_list(authority("CN=Other")), "no list of CN=Staff CA,O=Example is there"),
            (revocation_list(ROOT, signer=stranger), "no list of"),
        ):
            self.file.write_bytes(content)
            assert said in await self.refused(ALICE)
            identity = await login(ALICE, crl=(self.file,), revocation_unknown="accept")
            assert identity.user == "alice"

    async def test_an_expired_list_still_refuses_whom_it_names(self) -> None:
        self.file.write_bytes(revocation_list(ROOT, ALICE, hours=(-48, -24)))
        assert "is revoked" in await self.refused(ALICE, revocation_unknown="accept")

    async def test_a_revoked_authority_revokes_its_users(self) -> None:
        below = authority("CN=Laptops", ROOT)
        own = Path(self.mktemp())
        own.write_bytes(revocation_list(below))
        self.file.write_bytes(revocation_list(ROOT))
        assert (await login(issue(below), crl=(self.file, own))).user == "alice"
        self.file.write_bytes(revocation_list(ROOT, below))
        shown = login(issue(below), crl=(self.file, own))
        assert "CN=Laptops is revoked" in str(await error_of(shown, LoginRejected))

    async def test_one_without_an_issuer_cannot_be_revoked(self) -> None:
        self.file.write_bytes(revocation_list(ROOT))
        assert "its own issuer" in await self.refused(issue(None))

    async def test_all_lists_of_an_authority_count(self) -> None:
        """An operator who adds a list does not always take the one before away."""
        other = Path(self.mktemp())
        self.file.write_bytes(revocation_list(ROOT))
        other.write_bytes(revocation_list(ROOT, ALICE))
        for lists in ((self.file, other), (other, self.file)):
            error = await error_of(login(ALICE, crl=lists), LoginRejected)
            assert "is revoked" in str(error)

    async def test_a_list_of_one_place_speaks_of_those_who_name_it(self) -> None:
        """Large authorities have several, each of some of their certificates."""
        here, there = (x509.UniformResourceIdentifier(f"http://ca/{each}") for each in (1, 2))
        self.file.write_bytes(revocation_list(ROOT, extension=part_of(full_name=[here])))
        points = [x509.DistributionPoint([each], None, None, None) for each in (there, here)]
        for named in (points, points[1:]):
            shown = issue(ROOT, extensions=(x509.CRLDistributionPoints(named),))
            assert (await login(shown, crl=(self.file,))).user == "alice"
        for shown in (issue(ROOT, extensions=(x509.CRLDistributionPoints(points[:1]),)), ALICE):
            assert "speaks of other certificates" in await self.refused(shown)

    def test_lists_of_a_part_are_told_at_the_start(self) -> None:
        place = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "part")])
        for extension, said in (
            (x509.DeltaCRLIndicator(1), "has changes only"),
            (part_of(only_contains_ca_certs=True), "speaks of some certificates only"),
            (part_of(only_contains_attribute_certs=True), "speaks of some certificates only"),
            (part_of(relative_name=place), "speaks of some certificates only"),
            (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"x"), "not known: 1.2.3"),
        ):
            self.file.write_bytes(revocation_list(ROOT, extension=extension))
            with pytest.raises(ConfigurationError, match=said):
                build(Settings(crl=(self.file,)), Clock())

    def test_files_that_cannot_be_read_are_told_at_the_start(self) -> None:
        with pytest.raises(ConfigurationError, match=r"crl: .* cannot be read: No such file"):
            build(Settings(crl=(self.file,)), Clock())
        self.file.write_bytes(b"rubbish")
        with pytest.raises(ConfigurationError, match=r"crl: .* is no certificate revocation list"):
            build(Settings(crl=(self.file,)), Clock())


def part_of(**changes: Any) -> x509.IssuingDistributionPoint:
    """What says that a list is of some certificates only."""
    nothing: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**nothing, **changes})


def _at_once(work: Any, *arguments: Any) -> Deferred[Any]:
    made: Deferred[Any] = Deferred()
    made.callback(None)
    return made.addCallback(lambda _: work(*arguments))


class SettingsTests:
    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({"user": "subject.XX"}, 'user: "subject.XX" is no part of a certificate.* There are'),
            ({"user": "san.mail"}, 'did you mean "san.email"'),
            ({"user": "subject.9.9.9"}, 'user: "9.9.9" is no object identifier'),
            ({"groups": ("OU",)}, 'groups: "OU" is no part of a certificate'),
            ({"user_pattern": "("}, "user_pattern: is no regular expression"),
            ({"issuers": ("Staff",)}, 'issuers: "Staff" is no name such as'),
            ({"extended_key_usage": ("x",)}, 'extended_key_usage: "x" is neither'),
            ({"ocsp_url": "ldap://x"}, "ocsp_url must begin"),
            ({"ocsp_time_s": 0.0}, "ocsp_time_s must be more than 0"),
        ],
    )
    def test_wrong_settings_are_refused_in_words(self, settings: Any, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Settings(**settings)
