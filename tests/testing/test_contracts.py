"""Each contract is able to fail: fakes that break it, and the test that must notice."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from types import MappingProxyType

import pytest
from zope.interface import implementer

from anyvpn.errors import AccessDenied, AddressesExhausted, LoginRejected
from anyvpn.interfaces import (
    IAddressAllocator,
    IAuthenticator,
    IAuthorizer,
    IDialogue,
    IEventListener,
    ILayeredAuthorizer,
    IProfileProvider,
    IPublisher,
    IResponder,
    ISessionStore,
)
from anyvpn.model.authentication import (
    NO_ANSWERS,
    PASSWORD_FORM,
    Answer,
    BrowserLogin,
    Choice,
    Form,
    Identity,
    LoginRequest,
    Step,
)
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.downloads import Download
from anyvpn.model.events import Event
from anyvpn.model.group_policy import GroupPolicy, PolicyLayer
from anyvpn.model.session import SessionRecord
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.addresses_contract import AddressesContract
from anyvpn.testing.authenticator_contract import (
    AuthenticatorContract,
    PublishingAuthenticatorContract,
)
from anyvpn.testing.authorizer_contract import AuthorizerContract, LayeredAuthorizerContract
from anyvpn.testing.listener_contract import ListenerContract
from anyvpn.testing.outcomes import completed
from anyvpn.testing.profiles_contract import ProfilesContract
from anyvpn.testing.responder_contract import ResponderContract
from anyvpn.testing.sessions_contract import SessionsContract

Contract = object


def failures(contract: Contract) -> set[str]:
    """The names of the tests that fail; none of them needs a reactor here."""
    names = [name for name in dir(contract) if name.startswith("test_")]
    assert names
    failed = set()
    for name in names:
        try:
            completed(getattr(contract, name)())
        except Exception:
            failed.add(name)
    return failed


# --- authenticator -------------------------------------------------------------------------


@implementer(IAuthenticator)
class FakeAuthenticator:
    def __init__(self, verdict: Callable[[str, str], Identity]) -> None:
        self._verdict = verdict

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        answer = await dialogue.ask(PASSWORD_FORM)
        assert isinstance(answer, dict)
        return self._verdict(answer.get("username", ""), answer.get("password", ""))


def good_verdict(user: str, password: str) -> Identity:
    if (user, password) != ("alice", "right"):
        raise LoginRejected("wrong")
    return Identity(user, frozenset(("staff",)))


def careless_verdict(user: str, password: str) -> Identity:
    return Identity("alice", frozenset(("staff",)))


def talkative_verdict(user: str, password: str) -> Identity:
    if password != "right":
        raise LoginRejected(f"{password} is wrong")
    return good_verdict(user, password)


def fragile_verdict(user: str, password: str) -> Identity:
    password.encode("utf-8")
    return good_verdict(user, password)


def groupless_verdict(user: str, password: str) -> Identity:
    return replace(good_verdict(user, password), groups=frozenset())


class FakeAuthenticatorContract(AuthenticatorContract):
    groups = frozenset(("staff",))

    def __init__(self, verdict: Callable[[str, str], Identity]) -> None:
        self._verdict = verdict

    def make_authenticator(self) -> IAuthenticator:
        return FakeAuthenticator(self._verdict)

    def right_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": "right"},)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": "mistaken"},)


class AuthenticatorContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        assert failures(FakeAuthenticatorContract(good_verdict)) == set()

    def test_letting_everybody_in_is_noticed(self) -> None:
        failed = failures(FakeAuthenticatorContract(careless_verdict))
        assert {"test_wrong_answers_are_rejected", "test_hostile_answers_are_rejected"} <= failed

    def test_secret_in_the_rejection_is_noticed(self) -> None:
        failed = failures(FakeAuthenticatorContract(talkative_verdict))
        assert failed == {"test_rejection_tells_no_secret"}

    def test_other_error_for_hostile_text_is_noticed(self) -> None:
        failed = failures(FakeAuthenticatorContract(fragile_verdict))
        assert failed == {"test_hostile_answers_are_rejected"}

    def test_lost_groups_are_noticed(self) -> None:
        failed = failures(FakeAuthenticatorContract(groupless_verdict))
        assert failed == {"test_right_answers_give_the_identity"}


@implementer(IPublisher)
class FakePublisher(FakeAuthenticator):
    def __init__(self, path: str, document: Download) -> None:
        super().__init__(good_verdict)
        self.documents = {path: document}


class FakePublisherContract(FakeAuthenticatorContract, PublishingAuthenticatorContract):
    def __init__(self, path: str, document: Download) -> None:
        self._made = FakePublisher(path, document)

    def make_authenticator(self) -> IAuthenticator:
        return self._made


class PublishingAuthenticatorContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        good = Download("application/xml", b"<metadata/>")
        assert failures(FakePublisherContract("/sso/metadata", good)) == set()

    def test_what_cannot_be_served_is_noticed(self) -> None:
        xml = "application/xml"
        text: bytes = "no bytes"  # type: ignore[assignment]  # that is the fault
        for path, document in (
            ("/metadata", Download(xml, b"")),
            ("/sso/metadata", Download("metadata", b"")),
            ("/sso/metadata", Download(xml, text)),
        ):
            failed = failures(FakePublisherContract(path, document))
            assert failed == {"test_what_it_publishes_can_be_served"}


# --- authorizer ----------------------------------------------------------------------------


@implementer(IAuthorizer)
class FakeAuthorizer:
    def __init__(self, default: str, denies: bool) -> None:
        self._default = default
        self._denies = denies

    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        if identity.user == "mallory" and self._denies:
            raise AccessDenied("mallory")
        return GroupPolicy("admins" if identity.user == "root" else self._default)


class FakeAuthorizerContract(AuthorizerContract):
    policies = MappingProxyType({Identity("root"): "admins", Identity("alice"): "default"})
    denied = (Identity("mallory"),)

    def __init__(self, default: str, denies: bool) -> None:
        self._made = FakeAuthorizer(default, denies)

    def make_authorizer(self) -> IAuthorizer:
        return self._made


class AuthorizerContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        assert failures(FakeAuthorizerContract("default", True)) == set()

    def test_wrong_policy_is_noticed(self) -> None:
        failed = failures(FakeAuthorizerContract("admins", True))
        assert failed == {"test_each_identity_gets_its_policy"}

    def test_missing_denial_is_noticed(self) -> None:
        failed = failures(FakeAuthorizerContract("default", False))
        assert failed == {"test_denied_identities_are_denied"}


@implementer(ILayeredAuthorizer)
class FakeLayeredAuthorizer(FakeAuthorizer):
    def __init__(self, fault: str) -> None:
        super().__init__("default", True)
        self._fault = fault

    async def layers(
        self, identity: Identity, request: LoginRequest
    ) -> tuple[str, tuple[PolicyLayer, ...]]:
        if identity.user == "mallory" and self._fault != "explains to anybody":
            raise AccessDenied("mallory")
        values = {"dtls": False} if self._fault == "explains something else" else {}
        origin = "" if self._fault == "names no rule" else "a rule"
        policy = await self.authorize(Identity(identity.user.replace("mallory", "alice")), request)
        return policy.name, (PolicyLayer(origin, values),)


class FakeLayeredAuthorizerContract(LayeredAuthorizerContract):
    policies = FakeAuthorizerContract.policies
    denied = FakeAuthorizerContract.denied

    def __init__(self, fault: str) -> None:
        self._made = FakeLayeredAuthorizer(fault)

    def make_authorizer(self) -> ILayeredAuthorizer:
        return self._made


class LayeredAuthorizerContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        assert failures(FakeLayeredAuthorizerContract("")) == set()

    def test_layers_of_another_policy_or_of_no_rule_are_noticed(self) -> None:
        for fault in ("explains something else", "names no rule"):
            failed = failures(FakeLayeredAuthorizerContract(fault))
            assert failed == {"test_layers_make_the_policy"}

    def test_layers_for_whoever_is_denied_are_noticed(self) -> None:
        failed = failures(FakeLayeredAuthorizerContract("explains to anybody"))
        assert failed == {"test_whoever_is_denied_has_no_layers"}


# --- addresses -----------------------------------------------------------------------------

GATEWAY = ("10.9.0.1/24", "fd09::1/64")
LENDABLE = tuple(
    Lease(IPv4Interface(f"10.9.0.{n}/24"), IPv6Interface(f"fd09::{n}/128")) for n in range(2, 7)
)


@implementer(IAddressAllocator)
class FakeAddresses:
    def __init__(self, faults: frozenset[str]) -> None:
        self.gateway_addresses = tuple(map(ip_interface, GATEWAY))
        self._faults = faults
        self._lent: list[IPv4Interface | IPv6Interface] = []

    async def lease(
        self, identity: Identity, policy: GroupPolicy, families: frozenset[int], wish: Lease | None
    ) -> Lease:
        parts: dict[str, IPv4Interface | IPv6Interface] = {}
        for name, version, allowed in (("ipv4", 4, policy.ipv4), ("ipv6", 6, policy.ipv6)):
            if "both families" in self._faults or (version in families and allowed):
                parts[name] = self._choose(name, wish)
        if not parts:
            raise AddressesExhausted("nothing")
        return Lease(**parts)  # type: ignore[arg-type]  # the names fit the versions

    def _choose(self, name: str, wish: Lease | None) -> IPv4Interface | IPv6Interface:
        candidates: list[IPv4Interface | IPv6Interface]
        candidates = [getattr(each, name) for each in LENDABLE]
        wished = getattr(wish, name) if wish is not None else None
        if "any wish" in self._faults and wished is not None:
            candidates = [wished]
        elif wished in candidates and "no wish" not in self._faults:
            candidates.insert(0, wished)
        for each in candidates:
            if each not in self._lent or "shares" in self._faults:
                self._lent.append(each)
                return each
        raise AddressesExhausted(name)

    async def release(self, lease: Lease) -> None:
        for each in (lease.ipv4, lease.ipv6):
            if each is not None and ("fragile release" in self._faults or each in self._lent):
                self._lent.remove(each)


class FakeAddressesContract(AddressesContract):
    ipv4_addresses = len(LENDABLE)

    def __init__(self, *faults: str) -> None:
        self._faults = frozenset(faults)

    def make_addresses(self) -> IAddressAllocator:
        return FakeAddresses(self._faults)


class AddressesContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        assert failures(FakeAddressesContract()) == set()

    def test_unasked_family_is_noticed(self) -> None:
        assert {
            "test_lease_has_the_families_that_were_asked_for",
            "test_policy_without_a_family_keeps_it_away",
        } <= failures(FakeAddressesContract("both families"))

    def test_shared_address_is_noticed(self) -> None:
        assert {
            "test_nobody_shares_an_address",
            "test_exhausted_addresses_are_refused_until_one_is_released",
            "test_wish_of_what_is_lent_gets_something_else",
        } <= failures(FakeAddressesContract("shares"))

    def test_ignored_wish_is_noticed(self) -> None:
        assert failures(FakeAddressesContract("no wish")) == {
            "test_wish_is_granted_when_it_is_free"
        }

    def test_granting_the_gateway_s_own_address_is_noticed(self) -> None:
        failed = failures(FakeAddressesContract("any wish"))
        assert "test_gateway_s_own_address_is_not_granted" in failed

    def test_error_of_the_second_release_is_noticed(self) -> None:
        failed = failures(FakeAddressesContract("fragile release"))
        assert failed == {"test_releasing_twice_does_no_harm"}


# --- profiles ------------------------------------------------------------------------------


@implementer(IProfileProvider)
class FakeProfiles:
    def __init__(self, *profiles: ClientProfile) -> None:
        self._profiles = profiles

    async def profiles_for(
        self, identity: Identity, policy: GroupPolicy
    ) -> tuple[ClientProfile, ...]:
        return self._profiles


class FakeProfilesContract(ProfilesContract):
    contents = frozenset((b"<a/>", b"<b/>"))

    def __init__(self, *profiles: ClientProfile) -> None:
        self._made = FakeProfiles(*profiles)

    def make_profiles(self) -> IProfileProvider:
        return self._made


class ProfilesContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        good = (ClientProfile("a.xml", b"<a/>"), ClientProfile("b.xml", b"<b/>"))
        assert failures(FakeProfilesContract(*good)) == set()

    def test_changed_bytes_are_noticed(self) -> None:
        changed = (ClientProfile("a.xml", b"<a/>\n"), ClientProfile("b.xml", b"<b/>"))
        assert failures(FakeProfilesContract(*changed)) == {"test_content_is_the_exact_bytes"}

    def test_same_name_twice_and_strange_names_are_noticed(self) -> None:
        for names in (("a.xml", "a.xml"), ("a b.xml", "c.xml"), ("../a.xml", "c.xml")):
            profiles = (ClientProfile(names[0], b"<a/>"), ClientProfile(names[1], b"<b/>"))
            failed = failures(FakeProfilesContract(*profiles))
            assert failed == {"test_names_are_unique_and_fit_into_a_uri"}


# --- sessions ------------------------------------------------------------------------------


@implementer(ISessionStore)
class FakeSessions:
    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._records: list[SessionRecord] = []

    async def save(self, record: SessionRecord) -> None:
        if self._fault != "keeps both":
            await self.remove(record.token_digest)
        if self._fault == "forgets the lease":
            record = replace(record, lease=None)
        if self._fault == "forgets the state":
            record = replace(record, state=type(record.state)(0.0))  # type: ignore[arg-type]
        if self._fault == "forgets proxies":
            record = replace(record, policy=replace(record.policy, proxy={}))
        self._records.append(record)

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        for each in self._records:
            if each.token_digest == token_digest or (
                self._fault == "finds by beginnings" and each.token_digest.startswith(token_digest)
            ):
                return each
        return None

    async def remove(self, token_digest: bytes) -> None:
        if self._fault != "never removes":
            self._records = [each for each in self._records if each.token_digest != token_digest]

    async def sessions(self) -> tuple[SessionRecord, ...]:
        return tuple(self._records)

    async def close(self) -> None:
        pass


class FakeSessionsContract(SessionsContract):
    def __init__(self, fault: str) -> None:
        self._fault = fault

    def make_sessions(self) -> ISessionStore:
        return FakeSessions(self._fault)


@pytest.mark.parametrize(
    ("fault", "noticed_by"),
    [
        ("keeps both", "test_saving_again_replaces"),
        ("forgets the lease", "test_one_family_leases_come_back"),
        ("forgets the state", "test_every_state_comes_back"),
        ("forgets proxies", "test_what_was_saved_is_found"),
        ("finds by beginnings", "test_unknown_digest_finds_nothing"),
        ("never removes", "test_removed_is_gone_and_the_others_stay"),
    ],
)
class SessionsContractTests:
    def test_good_fake_passes(self, fault: str, noticed_by: str) -> None:
        assert failures(FakeSessionsContract("")) == set()

    def test_fault_is_noticed(self, fault: str, noticed_by: str) -> None:
        assert noticed_by in failures(FakeSessionsContract(fault))


# --- listener ------------------------------------------------------------------------------


@implementer(IEventListener)
class FakeListener:
    def __init__(self, heard: Callable[[Event], object]) -> None:
        self._heard = heard

    def event_happened(self, event: Event) -> None:
        self._heard(event)


class FakeListenerContract(ListenerContract):
    def __init__(self, heard: Callable[[Event], object]) -> None:
        self._heard = heard

    def make_listener(self) -> IEventListener:
        return FakeListener(self._heard)


class ListenerContractTests(unittest.TestCase):
    def test_good_fake_passes(self) -> None:
        assert failures(FakeListenerContract(lambda event: None)) == set()

    def test_error_over_a_hostile_name_is_noticed(self) -> None:
        failed = failures(FakeListenerContract(lambda event: event.user.encode()))
        assert failed == {"test_hostile_texts_raise_nothing"}

    def test_error_over_missing_counters_is_noticed(self) -> None:
        failed = failures(FakeListenerContract(lambda event: event.counters.sent_bytes))  # type: ignore[union-attr]
        assert "test_every_kind_is_heard_without_an_error" in failed


# --- responder -----------------------------------------------------------------------------


@implementer(IResponder)
class FakeResponder:
    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._given = False
        self.capabilities = frozenset(("",)) if fault == "announces nothing" else frozenset()

    def login_begins(self) -> None:
        self._given = self._fault == "knows it once" and self._given

    async def answer(self, step: Step) -> Answer:
        if isinstance(step, BrowserLogin) and self._fault == "opens any browser":
            return step.login_url or "opened"
        if not isinstance(step, Form):
            return {"certificate": "x"} if self._fault == "answers for certificates" else NO_ANSWERS
        if self._fault == "trips over surrogates":
            step.message.encode()
        if self._fault == "always says who it is":
            return {"username": "alice"}
        answers: dict[str, str] = {}
        for each in step.fields:
            if each.name == "username" or (each.name == "password" and not self._given):
                is_choice = isinstance(each, Choice) and self._fault != "ignores the list"
                answers[each.name] = each.value_of("alice") if is_choice else "alice"  # type: ignore[union-attr]
        self._given = self._fault != "insists"
        if self._fault == "answers in bytes":
            return {name: text.encode() for name, text in answers.items()}  # type: ignore[misc]
        return {name: text for name, text in answers.items() if text}


class FakeResponderContract(ResponderContract):
    def __init__(self, fault: str) -> None:
        self._fault = fault

    def make_responder(self) -> IResponder:
        return FakeResponder(self._fault)

    def is_right(self, answer: Answer) -> bool:
        return answer == {"username": "alice", "password": "alice"}


@pytest.mark.parametrize(
    ("fault", "noticed_by"),
    [
        ("announces nothing", "test_interface_is_provided"),
        ("knows it once", "test_what_is_known_is_answered_in_each_login"),
        ("answers in bytes", "test_forms_are_answered_by_texts_for_their_own_fields"),
        ("always says who it is", "test_forms_are_answered_by_texts_for_their_own_fields"),
        ("ignores the list", "test_forms_are_answered_by_texts_for_their_own_fields"),
        ("insists", "test_a_secret_that_was_wrong_is_not_given_again"),
        ("opens any browser", "test_browsers_are_used_when_that_was_announced_alone"),
        ("opens any browser", "test_unsafe_addresses_are_not_opened"),
        ("answers for certificates", "test_certificates_are_left_to_the_client"),
        ("trips over surrogates", "test_hostile_forms_are_answered_or_given_up"),
        ("knows it once", "test_a_login_that_was_cancelled_costs_no_other"),
    ],
)
class ResponderContractTests:
    def test_good_fake_passes(self, fault: str, noticed_by: str) -> None:
        assert failures(FakeResponderContract("")) == set()

    def test_fault_is_noticed(self, fault: str, noticed_by: str) -> None:
        assert noticed_by in failures(FakeResponderContract(fault))
