"""What a verified answer says: whether it is for us, for this login and for now, and who it is.

Only the assertion's own word counts, which a signature covers; what stands around it may only
deny (SAML 2.0 profiles, section 4.1.4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from anyvpn.backends.authenticator_saml_documents import (
    ASSERTION,
    Answer,
    Element,
    shown,
    text_of,
)
from anyvpn.errors import LoginRejected

# From the protocol: SAML 2.0 profiles, section 3.3; core, section 2.5.1
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_KNOWN_CONDITIONS = frozenset(
    f"{ASSERTION}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer must fit: the request that it answers, the two sides, and the time.

    `fresh` wants the user to have logged in after the request was made, and not long before.
    """

    request_id: str
    issuer: str
    audience: str
    recipient: str
    asked_at_s: float
    now_s: float
    skew_s: float
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What the identity provider says of its user.

    Attributes stand under their names, and under their friendly names too where these are not
    names of others. `ends_at_s` is when the login at the identity provider ends, if it says so.
    """

    assertion_id: str
    name_id: str
    attributes: Mapping[str, tuple[str, ...]]
    ends_at_s: float | None
    good_until_s: float


def read_statement(answer: Answer, expected: Expected) -> Statement:
    """What the answer says. Raises: LoginRejected: it is for somebody else, or for another time."""
    response, assertion = answer.response, answer.assertion
    for each in (response, assertion):
        if each.get("Version") != "2.0":
            raise LoginRejected(f"the answer is of SAML {shown(each.get('Version', ''))}, not 2.0")
    _expect("is by", _issuer(assertion), expected.issuer)
    if response.find(f"{ASSERTION}Issuer") is not None:
        _expect("is by", _issuer(response), expected.issuer)
    _expect("is for the address", response.get("Destination", ""), expected.recipient)
    _expect("is to the request", response.get("InResponseTo", ""), expected.request_id)
    good_until_s = min(
        _check_conditions(_only(assertion, "Conditions"), expected),
        _check_confirmation(_only(assertion, "Subject"), expected),
    )
    return Statement(
        assertion.get("ID", ""),
        text_of(assertion.find(f"{ASSERTION}Subject/{ASSERTION}NameID")),
        _attributes(assertion),
        _check_login(_only(assertion, "AuthnStatement"), expected),
        good_until_s,
    )


def _issuer(element: Element) -> str:
    return text_of(element.find(f"{ASSERTION}Issuer"))


def _expect(what: str, said: str, wanted: str) -> None:
    if said != wanted:
        raise LoginRejected(f"the answer {what} {shown(said) or 'nobody knows what'}, not {wanted}")


def _only(parent: Element, name: str) -> Element:
    found = parent.findall(f"{ASSERTION}{name}")
    if len(found) != 1:
        raise LoginRejected(f"the assertion has {len(found)} {name} instead of one")
    return found[0]


def _check_conditions(conditions: Element, expected: Expected) -> float:
    """Until when they hold (with no bound of their own: without end)."""
    unknown = [each.tag for each in conditions if each.tag not in _KNOWN_CONDITIONS]
    if unknown:
        name = shown(str(unknown[0]).rpartition("}")[2])
        raise LoginRejected(f"the assertion has a condition that is not known: {name}")
    restrictions = conditions.findall(f"{ASSERTION}AudienceRestriction")
    if not restrictions:
        raise LoginRejected("the assertion does not say for whom it is")
    for each in restrictions:
        audiences = [text_of(audience) for audience in each.findall(f"{ASSERTION}Audience")]
        if expected.audience not in audiences:
            said = shown(", ".join(audiences)) or "nobody"
            raise LoginRejected(f"the assertion is for {said}, not {expected.audience}")
    return _check_times(conditions, expected)


def _check_confirmation(subject: Element, expected: Expected) -> float:
    """Until when whoever bears the assertion is its subject, by the best confirmation of it."""
    problem = "the assertion is not for whoever bears it"
    for each in subject.findall(f"{ASSERTION}SubjectConfirmation"):
        data = each.find(f"{ASSERTION}SubjectConfirmationData")
        if each.get("Method") != _BEARER or data is None:
            continue
        try:
            _expect("is for the address", data.get("Recipient", ""), expected.recipient)
            _expect("is to the request", data.get("InResponseTo", ""), expected.request_id)
            if "NotOnOrAfter" not in data.attrib:
                raise LoginRejected("the assertion does not say until when it is good")
            return _check_times(data, expected)
        except LoginRejected as error:
            problem = str(error)
    raise LoginRejected(problem)


def _check_times(element: Element, expected: Expected) -> float:
    begins_at_s, ends_at_s = (_time(element, name) for name in ("NotBefore", "NotOnOrAfter"))
    now_s, skew_s = expected.now_s, expected.skew_s
    if begins_at_s is not None and now_s + skew_s < begins_at_s:
        early_s = begins_at_s - now_s
        raise LoginRejected(f"the assertion is not good before {early_s:.0f} s from now")
    if ends_at_s is None:
        return float("inf")
    if now_s - skew_s >= ends_at_s:
        raise LoginRejected(f"the assertion has expired {now_s - ends_at_s:.0f} s ago")
    return ends_at_s + skew_s


def _check_login(statement: Element, expected: Expected) -> float | None:
    """When the login at the identity provider ends."""
    logged_in_at_s = _time(statement, "AuthnInstant")
    if logged_in_at_s is None:
        raise LoginRejected("the assertion does not say when the user has logged in")
    if logged_in_at_s > expected.now_s + expected.skew_s:
        raise LoginRejected("the assertion is of a login in the future")
    if expected.fresh and logged_in_at_s < expected.asked_at_s - expected.skew_s:
        raise LoginRejected("the identity provider did not ask the user to log in again")
    ends_at_s = _time(statement, "SessionNotOnOrAfter")
    if ends_at_s is not None and expected.now_s - expected.skew_s >= ends_at_s:
        raise LoginRejected("the user's session at the identity provider is over")
    return ends_at_s


def _time(element: Element, name: str) -> float | None:
    text = element.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise LoginRejected(f"the assertion's {name} is no time: {shown(text)}") from None


def _attributes(assertion: Element) -> Mapping[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {}
    friendly: dict[str, tuple[str, ...]] = {}
    for attribute in assertion.iterfind(f"{ASSERTION}AttributeStatement/{ASSERTION}Attribute"):
        values = tuple(_values(attribute))
        for names, key in ((named, "Name"), (friendly, "FriendlyName")):
            name = attribute.get(key, "")
            if name and values:
                names[name] = (*names.get(name, ()), *values)
    return {**friendly, **named}


def _values(attribute: Element) -> Iterator[str]:
    for each in attribute.iterfind(f"{ASSERTION}AttributeValue"):
        text = text_of(each)
        if text and text.isprintable():
            yield text
