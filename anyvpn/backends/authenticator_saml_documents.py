"""Answers of identity providers as they come in: bounded, without tricks, and of one shape only.

What is signed and what is read must be the same. Documents in which they could differ are
refused before anybody looks for a signature: those with a DOCTYPE, with comments or processing
instructions (which cut names short for some readers), with more than one assertion, with an
identifier twice, or with signatures anywhere but where they belong.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

from anyvpn.errors import LoginRejected
from anyvpn.model.printable import printable

Element = etree._Element  # types-lxml knows the class under this name only

# From the protocol: SAML 2.0 core, section 1.1; XML Signature, section 1.3
PROTOCOL = "{urn:oasis:names:tc:SAML:2.0:protocol}"
ASSERTION = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SIGNATURE = "{http://www.w3.org/2000/09/xmldsig#}"

# From the protocol: SAML 2.0 core, section 5.4
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_CANONICAL = "http://www.w3.org/2001/10/xml-exc-c14n#"

# From the protocol: RFC 9231, section 2, without SHA-1, MD5 and keyed hashes
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
SIGNATURE_ALGORITHMS = frozenset(
    f"{_MORE}{key}-sha{bits}" for key in ("rsa", "ecdsa") for bits in (256, 384, 512)
)
DIGEST_ALGORITHMS = frozenset(
    (
        "http://www.w3.org/2001/04/xmlenc#sha256",
        f"{_MORE}sha384",
        "http://www.w3.org/2001/04/xmlenc#sha512",
    )
)

# Ours
LARGEST_BYTES = 128 * 1024  # some hundred groups with long names fit many times over
MAXIMUM_DEPTH = 32
MAXIMUM_ELEMENTS = 4096
MAXIMUM_ATTRIBUTES = 32
LONGEST_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the right shape; nothing of it is proven.

    `text` is the document as our own parser has read it, written anew: whoever reads it next
    reads the same.
    """

    text: str = field(repr=False)
    response: Element = field(repr=False)
    assertion: Element = field(repr=False)

    def signed(self) -> Iterator[Element]:
        """What has a signature, the response before its assertion; one of them at least."""
        for each in (self.response, self.assertion):
            if each.find(f"{SIGNATURE}Signature") is not None:
                yield each


def read_answer(encoded: str) -> Answer:
    """The answer in a form's field SAMLResponse. Raises: LoginRejected."""
    try:
        document = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise LoginRejected("the answer is not in base64") from None
    response = _parsed(document)
    if response.tag != f"{PROTOCOL}Response":
        raise LoginRejected(f"the answer is no SAML response, but {shown(_name(response))}")
    _check_status(response)
    assertion = _only_assertion(response)
    _check_identifiers(response)
    answer = Answer(etree.tostring(response, encoding="unicode"), response, assertion)
    _check_signatures(answer)
    return answer


def text_of(element: Element | None) -> str:
    """The text of an element that holds nothing else, without white space around it."""
    if element is None or len(element):
        return ""
    return (element.text or "").strip()


def shown(text: str) -> str:
    """What a document says, as it may stand in a log."""
    return printable(text[:LONGEST_SHOWN_CHARACTERS])


def _parsed(document: bytes) -> Element:
    if len(document) > LARGEST_BYTES:
        raise LoginRejected(f"the answer is larger than {LARGEST_BYTES} bytes")
    try:
        etree.fromstring(document, _parser(_Bounds()))
        return etree.fromstring(document, _parser())
    except (etree.LxmlError, ValueError, AssertionError):
        raise LoginRejected("the answer is no readable XML document") from None


def _parser(target: _Bounds | None = None) -> etree.XMLParser:
    parser: etree.XMLParser = etree.XMLParser(  # type: ignore[call-overload]  # fewer methods do
        target=target,
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    return parser


class _Bounds:
    """A parser's target that refuses what no identity provider needs."""

    def __init__(self) -> None:
        self._depth = 0
        self._elements = 0

    def start(self, _tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAXIMUM_DEPTH:
            raise LoginRejected("the answer's elements are nested too deeply")
        if self._elements > MAXIMUM_ELEMENTS or len(attributes) > MAXIMUM_ATTRIBUTES:
            raise LoginRejected("the answer has too many elements or attributes")

    def end(self, _tag: str) -> None:
        self._depth -= 1

    def doctype(self, *_declared: str | None) -> None:
        raise LoginRejected("the answer has a DOCTYPE")

    def comment(self, _text: str) -> None:
        raise LoginRejected("the answer has a comment in it")

    def pi(self, _target: str, _text: str | None = None) -> None:
        raise LoginRejected("the answer has a processing instruction in it")

    def close(self) -> None:
        """Called after a failure too, where it must not hide the reason."""


def _check_status(response: Element) -> None:
    code = response.find(f"{PROTOCOL}Status/{PROTOCOL}StatusCode")
    if code is None:
        raise LoginRejected("the answer has no status")
    if code.get("Value") == "urn:oasis:names:tc:SAML:2.0:status:Success":
        return
    detail = code.find(f"{PROTOCOL}StatusCode")
    status = (code if detail is None else detail).get("Value", "").rpartition(":")[2]
    message = text_of(response.find(f"{PROTOCOL}Status/{PROTOCOL}StatusMessage"))
    why = f"{status}: {message}" if message else status
    raise LoginRejected(f"the identity provider lets the user not in: {shown(why)}")


def _only_assertion(response: Element) -> Element:
    if next(response.iter(f"{ASSERTION}EncryptedAssertion"), None) is not None:
        raise LoginRejected("the answer's assertion is encrypted, for which there is no key here")
    assertions = list(response.iter(f"{ASSERTION}Assertion"))
    if len(assertions) != 1 or assertions[0].getparent() is not response:
        raise LoginRejected(f"the answer has {len(assertions)} assertions instead of its own one")
    return assertions[0]


def _check_identifiers(response: Element) -> None:
    """Whatever reader takes whichever attribute for an identifier: it finds one element by it."""
    identifiers = Counter(
        value
        for element in response.iter("*")
        for name, value in element.attrib.items()
        if str(name).rpartition("}")[2].lower() == "id"
    )
    twice = [identifier for identifier, count in identifiers.items() if count > 1]
    if twice:
        raise LoginRejected(f"the answer has the identifier {shown(str(twice[0]))} twice")


def _check_signatures(answer: Answer) -> None:
    found = list(answer.response.iter(f"{SIGNATURE}Signature"))
    if not found:
        raise LoginRejected("neither the answer nor its assertion is signed")
    owners = []
    for signature in found:
        owner = signature.getparent()
        # Right behind the issuer, as the schemas have it: the first that any reader finds
        before = [each.tag for each in signature.itersiblings(preceding=True)]
        is_owner = owner is answer.response or owner is answer.assertion
        is_first = before in ([], [f"{ASSERTION}Issuer"])
        if owner is None or not is_owner or not is_first or owner in owners:
            raise LoginRejected("the answer has a signature where none belongs")
        owners.append(owner)
        _check_reference(signature, owner)
        _check_algorithms(signature)


def _check_reference(signature: Element, owner: Element) -> None:
    """A signature is over the element that it stands in, all of it, and over nothing else."""
    references = list(signature.iter(f"{SIGNATURE}Reference"))
    identifier = owner.get("ID", "")
    if len(references) != 1 or not identifier or references[0].get("URI") != f"#{identifier}":
        raise LoginRejected("the answer has a signature over something else")


def _check_algorithms(signature: Element) -> None:
    canonical = frozenset((_CANONICAL,))
    for name, allowed in (
        ("CanonicalizationMethod", canonical),
        ("Transform", canonical | {_ENVELOPED}),
        ("SignatureMethod", SIGNATURE_ALGORITHMS),
        ("DigestMethod", DIGEST_ALGORITHMS),
    ):
        used = [each.get("Algorithm", "") for each in signature.iter(f"{SIGNATURE}{name}")]
        unknown = [each for each in used if each not in allowed]
        if unknown or not used:
            short = shown(unknown[0].rpartition("#")[2]) if unknown and unknown[0] else f"no {name}"
            raise LoginRejected(f"the answer is signed with {short}, which is not accepted")


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
