"""Answers of an identity provider, right ones and any kind of wrong ones, signed by xmlsec1."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.backends.certificates import Holder, issue

# What both sides are called
ISSUER = "https://idp.test/metadata"
LOGIN_URL = "https://idp.test/login?tenant=1"
ORIGIN = "https://vpn.test:4443"
AUDIENCE = f"{ORIGIN}/+CSCOE+/saml/sp/metadata"
RECIPIENT = f"{ORIGIN}/+CSCOE+/saml/sp/acs"
NOW_S = 1_800_000_000.0
REQUEST_ID = "_request"

RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
RSA_SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
CANONICAL = "http://www.w3.org/2001/10/xml-exc-c14n#"

NAMESPACES = (
    'xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" '
    'xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion" '
    'xmlns:d="http://www.w3.org/2000/09/xmldsig#"'
)


def provider(kind: str = "rsa") -> Holder:
    """The certificate and key of an identity provider, one for each kind: "rsa", "ec", "weak"."""
    return _provider(kind)


@cache
def _provider(kind: str) -> Holder:
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "ec":
        key = ec.generate_private_key(ec.SECP384R1())
    else:
        key = rsa.generate_private_key(65537, 1024 if kind == "weak" else 2048)
    return issue(None, f"CN=idp {kind}", key=key)


def private_key(holder: Holder) -> bytes:
    """As it stands in a file."""
    return holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate_text(holder: Holder) -> str:
    """As it stands in documents."""
    return base64.b64encode(holder.certificate.public_bytes(Encoding.DER)).decode("ascii")


def metadata(
    *holders: Holder,
    entity_id: str = ISSUER,
    login_url: str = LOGIN_URL,
    binding: str = "HTTP-Redirect",
    attributes: str = "",
    role_attributes: str = "",
) -> str:
    """What the operator gets from an identity provider."""
    keys = "".join(
        '<m:KeyDescriptor use="signing"><d:KeyInfo><d:X509Data><d:X509Certificate>'
        f"{certificate_text(each)}</d:X509Certificate></d:X509Data></d:KeyInfo></m:KeyDescriptor>"
        for each in holders or (provider(),)
    )
    return (
        f'<m:EntityDescriptor xmlns:m="urn:oasis:names:tc:SAML:2.0:metadata" {NAMESPACES} '
        f'entityID="{entity_id}" {attributes}><m:IDPSSODescriptor {role_attributes} '
        'protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        f"{keys}<m:SingleSignOnService "
        f'Binding="urn:oasis:names:tc:SAML:2.0:bindings:{binding}" Location="{login_url}"/>'
        "</m:IDPSSODescriptor></m:EntityDescriptor>"
    )


def moment(offset_s: float) -> str:
    """So many seconds from now, as SAML writes it."""
    return datetime.fromtimestamp(NOW_S + offset_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Draft:
    """An answer before it is signed; each part may be replaced. Nothing here is escaped."""

    name_id: str = "alice"
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    issuer: str = ISSUER
    response_issuer: str | None = ISSUER
    audience: str = AUDIENCE
    destination: str = RECIPIENT
    recipient: str = RECIPIENT
    request_id: str = REQUEST_ID
    confirmed_request_id: str | None = None
    method: str = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    begins_at: str = moment(-5)
    ends_at: str = moment(300)
    confirmed_until: str = moment(300)
    logged_in_at: str = moment(-5)
    session: str = ""
    conditions: str | None = None
    statement: str | None = None
    status: str = '<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/>'
    version: str = "2.0"
    response_id: str = "_response"
    assertion_id: str = "_assertion"
    after_assertion: str = ""

    def assertion(self, signature: str = "") -> str:
        """The assertion alone."""
        confirmed = self.confirmed_request_id
        attributes = "".join(
            f'<a:Attribute Name="urn:{name}" FriendlyName="{name}">'
            + "".join(f"<a:AttributeValue>{value}</a:AttributeValue>" for value in values)
            + "</a:Attribute>"
            for name, values in self.attributes.items()
        )
        conditions = self.conditions
        if conditions is None:
            conditions = (
                f'<a:Conditions NotBefore="{self.begins_at}" NotOnOrAfter="{self.ends_at}">'
                f"<a:AudienceRestriction><a:Audience>{self.audience}</a:Audience>"
                "</a:AudienceRestriction></a:Conditions>"
            )
        statement = self.statement
        if statement is None:
            statement = (
                f'<a:AuthnStatement AuthnInstant="{self.logged_in_at}" {self.session}>'
                "<a:AuthnContext><a:AuthnContextClassRef>"
                "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"
                "</a:AuthnContextClassRef></a:AuthnContext></a:AuthnStatement>"
            )
        return (
            f'<a:Assertion {NAMESPACES} ID="{self.assertion_id}" Version="{self.version}" '
            f'IssueInstant="{moment(0)}"><a:Issuer>{self.issuer}</a:Issuer>{signature}'
            f"<a:Subject><a:NameID>{self.name_id}</a:NameID>"
            f'<a:SubjectConfirmation Method="{self.method}"><a:SubjectConfirmationData '
            f'InResponseTo="{self.request_id if confirmed is None else confirmed}" '
            f'Recipient="{self.recipient}" NotOnOrAfter="{self.confirmed_until}"/>'
            f"</a:SubjectConfirmation></a:Subject>{conditions}{statement}"
            + (f"<a:AttributeStatement>{attributes}</a:AttributeStatement>" if attributes else "")
            + "</a:Assertion>"
        )

    def response(self, assertion: str, signature: str = "") -> str:
        """The answer around an assertion."""
        issuer = self.response_issuer
        return (
            f'<p:Response {NAMESPACES} ID="{self.response_id}" Version="{self.version}" '
            f'IssueInstant="{moment(0)}" Destination="{self.destination}" '
            f'InResponseTo="{self.request_id}">'
            + ("" if issuer is None else f"<a:Issuer>{issuer}</a:Issuer>")
            + f"{signature}<p:Status>{self.status}</p:Status>{assertion}{self.after_assertion}"
            "</p:Response>"
        )


def template(
    identifier: str, algorithm: str = RSA_SHA256, digest: str = SHA256, transforms: str = ""
) -> str:
    """A signature that xmlsec1 is to fill in."""
    transforms = transforms or "".join(
        f'<d:Transform Algorithm="{each}"/>' for each in (ENVELOPED, CANONICAL)
    )
    return (
        f'<d:Signature><d:SignedInfo><d:CanonicalizationMethod Algorithm="{CANONICAL}"/>'
        f'<d:SignatureMethod Algorithm="{algorithm}"/><d:Reference URI="#{identifier}">'
        f'<d:Transforms>{transforms}</d:Transforms><d:DigestMethod Algorithm="{digest}"/>'
        "<d:DigestValue/></d:Reference></d:SignedInfo><d:SignatureValue/></d:Signature>"
    )


def signed(document: str, identifier: str, name: str, holder: Holder) -> str:
    """The document with its template at the element of that identifier filled in."""
    with TemporaryDirectory() as directory:
        key = Path(directory, "key.pem")
        key.write_bytes(private_key(holder))
        space = "protocol" if name == "Response" else "assertion"
        done = subprocess.run(
            [
                *("xmlsec1", "--sign", "--privkey-pem", str(key)),
                *("--id-attr:ID", f"urn:oasis:names:tc:SAML:2.0:{space}:{name}"),
                *("--node-id", identifier, "/dev/stdin"),
            ],
            input=document,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("?>")[2].strip()


def answer(
    draft: Draft | None = None,
    *,
    signs: Sequence[str] = ("Assertion",),
    holder: Holder | None = None,
    algorithm: str = RSA_SHA256,
    digest: str = SHA256,
    transforms: str = "",
    change: Callable[[str], str] = str,
) -> str:
    """A document with signatures by the identity provider; `change` comes before these."""
    draft = Draft() if draft is None else draft
    holder = provider() if holder is None else holder
    inner = outer = ""
    if "Assertion" in signs:
        inner = template(draft.assertion_id, algorithm, digest, transforms)
    if "Response" in signs:
        outer = template(draft.response_id, algorithm, digest, transforms)
    document = change(draft.response(draft.assertion(inner), outer))
    if inner:
        document = signed(document, draft.assertion_id, "Assertion", holder)
    if outer:
        document = signed(document, draft.response_id, "Response", holder)
    return document


def encoded(document: str | bytes) -> str:
    """As a browser brings it."""
    content = document.encode("utf-8") if isinstance(document, str) else document
    return base64.b64encode(content).decode("ascii")
