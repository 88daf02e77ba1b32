"""Answers that are right, and the ways in which one is forged, late or for somebody else."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from anyvpn.backends.authenticator_saml_documents import LARGEST_BYTES, read_answer
from anyvpn.backends.authenticator_saml_metadata import IdentityProvider
from anyvpn.backends.authenticator_saml_service import ServiceProvider
from anyvpn.backends.authenticator_saml_statements import Expected, Statement, read_statement
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from tests.backends import saml_answers as saml
from tests.backends.saml_answers import Draft, answer, certificate_text, encoded, moment, provider

PROVIDER = IdentityProvider(
    saml.ISSUER, saml.LOGIN_URL, (certificate_text(provider()), certificate_text(provider("ec")))
)
EXPECTED = Expected(
    request_id=saml.REQUEST_ID,
    issuer=saml.ISSUER,
    audience=saml.AUDIENCE,
    recipient=saml.RECIPIENT,
    asked_at_s=saml.NOW_S - 10,
    now_s=saml.NOW_S,
    skew_s=30,
)


def service(xmlsec1: str = "/usr/bin/xmlsec1", time_s: float = 10.0) -> ServiceProvider:
    return ServiceProvider(
        Path(xmlsec1),
        entity_id=saml.AUDIENCE,
        acs_url=saml.RECIPIENT,
        keys=None,
        name_id_format="",
        force_authn=False,
        time_s=time_s,
    )


SERVICE = service()


def read(text: str, expected: Expected = EXPECTED) -> Statement:
    """All that becomes of an answer."""
    found = read_answer(text)
    SERVICE.check_signatures(found, PROVIDER)
    return read_statement(found, expected)


def rejection(document: str | bytes, expected: Expected = EXPECTED) -> str:
    """Why it is not believed."""
    with pytest.raises(LoginRejected) as caught:
        read(encoded(document), expected)
    said = str(caught.value)
    assert len(said) < 600
    assert said.isprintable()
    return said


class BelievedTests:
    @pytest.mark.parametrize("signs", [["Assertion"], ["Response"], ["Assertion", "Response"]])
    def test_the_assertion_or_what_is_around_it_is_signed(self, signs: list[str]) -> None:
        draft = Draft(attributes={"groups": ["staff", "vpn"], "mail": ["alice@example.com"]})
        found = read(encoded(answer(draft, signs=signs)))
        assert (found.name_id, found.assertion_id) == ("alice", "_assertion")
        assert found.attributes["groups"] == ("staff", "vpn") == found.attributes["urn:groups"]
        assert found.attributes["mail"] == ("alice@example.com",)
        assert found.good_until_s == saml.NOW_S + 330
        assert found.ends_at_s is None

    def test_elliptic_curves_and_the_second_certificate_do(self) -> None:
        document = answer(holder=provider("ec"), algorithm=saml.ECDSA_SHA384)
        assert read(encoded(document)).name_id == "alice"

    def test_what_other_providers_write_is_read(self) -> None:
        """Okta and Entra ID name prefixes to keep, Keycloak types and key names."""
        transforms = (
            f'<d:Transform Algorithm="{saml.ENVELOPED}"/><d:Transform Algorithm="{saml.CANONICAL}">'
            f'<e:InclusiveNamespaces xmlns:e="{saml.CANONICAL}" PrefixList="xs"/></d:Transform>'
        )
        value = (
            '<a:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi='
            '"http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">staff'
        )
        document = saml.answer(
            Draft(attributes={"groups": ["staff"]}),
            signs=("Assertion", "Response"),
            transforms=transforms,
            change=lambda text: text.replace("<a:AttributeValue>staff", value).replace(
                "</d:Signature>", "<d:KeyInfo><d:KeyName>k1</d:KeyName></d:KeyInfo></d:Signature>"
            ),
        )
        assert "xs:string" in document
        assert document.count("<d:KeyName>k1<") == 2
        assert read(encoded(document)).attributes["groups"] == ("staff",)

    def test_the_response_needs_no_issuer_of_its_own(self) -> None:
        assert read(encoded(answer(Draft(response_issuer=None)))).name_id == "alice"

    def test_the_session_s_end_is_told(self) -> None:
        draft = Draft(session=f'SessionNotOnOrAfter="{moment(3600)}"')
        assert read(encoded(answer(draft))).ends_at_s == saml.NOW_S + 3600

    def test_a_name_is_read_whole_however_it_is_written(self) -> None:
        draft = Draft(name_id="J&#xF6;rg &amp; <![CDATA[Söhne]]>")
        assert read(encoded(answer(draft))).name_id == "Jörg & Söhne"

    def test_values_that_are_no_text_are_left_out(self) -> None:
        values = ["<a:NameID>x</a:NameID>", " vpn ", "", "a\u202eb"]
        found = read(encoded(answer(Draft(attributes={"groups": values}))))
        assert found.attributes["groups"] == ("vpn",)
        mixed = read_answer(encoded(answer(Draft(attributes={"groups": ["staff<x/>"]}))))
        assert read_statement(mixed, EXPECTED).attributes == {}

    def test_what_is_no_saml_is_told_with_the_reason(self) -> None:
        said = rejection(answer(Draft(attributes={"groups": ["staff<x/>"]})))
        assert said == (
            "the assertion does not fit SAML's schema: "
            "a simple content element can't have child elements"
        )

    def test_lines_and_white_space_of_the_form_do_no_harm(self) -> None:
        text = base64.encodebytes(answer().encode("utf-8")).decode("ascii")
        assert read(f"\r\n{text}").name_id == "alice"

    @pytest.mark.parametrize(
        "draft",
        [
            Draft(begins_at=moment(29)),
            Draft(ends_at=moment(-29)),
            Draft(confirmed_until=moment(-29)),
            Draft(logged_in_at=moment(29)),
            Draft(session=f'SessionNotOnOrAfter="{moment(-29)}"'),
        ],
    )
    def test_clocks_may_be_apart(self, draft: Draft) -> None:
        assert read(encoded(answer(draft))).name_id == "alice"

    def test_times_may_have_fractions_and_no_zone(self) -> None:
        draft = Draft(begins_at="2027-01-15T08:00:00.123456789Z", ends_at="2027-01-15T08:05:00")
        assert read(encoded(answer(draft))).good_until_s == saml.NOW_S + 330


class ForSomebodyElseTests:
    @pytest.mark.parametrize(
        ("draft", "why"),
        [
            (
                Draft(audience="https://other.test/"),
                "the assertion is for https://other.test/, not",
            ),
            (Draft(conditions="<a:Conditions/>"), "does not say for whom it is"),
            (Draft(conditions=""), "the assertion has 0 Conditions instead of one"),
            (Draft(destination="https://other.test/acs"), "is for the address https://other.test"),
            (Draft(destination=""), "is for the address nobody knows what, not https://vpn.test"),
            (Draft(recipient="https://other.test/acs"), "is for the address https://other.test"),
            (Draft(request_id="_another"), "the answer is to the request _another, not _request"),
            (
                Draft(request_id="_another", confirmed_request_id="_request"),
                "the answer is to the request _another, not _request",
            ),
            (Draft(confirmed_request_id="_another"), "the answer is to the request _another"),
            (Draft(issuer="https://evil.test"), "the answer is by https://evil.test, not https://"),
            (Draft(response_issuer="https://evil.test"), "the answer is by https://evil.test, not"),
            (Draft(method="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"), "whoever bears it"),
            (Draft(statement=""), "the assertion has 0 AuthnStatement instead of one"),
        ],
    )
    def test_it_is_rejected(self, draft: Draft, why: str) -> None:
        assert why in rejection(answer(draft))

    def test_every_restriction_of_the_audience_counts(self) -> None:
        both = "".join(
            f"<a:AudienceRestriction><a:Audience>{each}</a:Audience></a:AudienceRestriction>"
            for each in (saml.AUDIENCE, "https://other.test/")
        )
        document = answer(Draft(conditions=f"<a:Conditions>{both}</a:Conditions>"))
        assert "the assertion is for https://other.test/" in rejection(document)

    def test_conditions_that_nobody_knows_are_not_met(self) -> None:
        known = (
            f"<a:AudienceRestriction><a:Audience>{saml.AUDIENCE}</a:Audience>"
            "</a:AudienceRestriction><a:OneTimeUse/>"
        )
        found = read(encoded(answer(Draft(conditions=f"<a:Conditions>{known}</a:Conditions>"))))
        assert found.name_id == "alice"
        for name in ("a:Condition", "x", "a:Audience"):
            draft = Draft(conditions=f"<a:Conditions>{known}<{name}/></a:Conditions>")
            with pytest.raises(LoginRejected, match="a condition that is not known: "):
                read_statement(read_answer(encoded(answer(draft))), EXPECTED)


class AtAnotherTimeTests:
    @pytest.mark.parametrize(
        ("draft", "why"),
        [
            (Draft(begins_at=moment(31)), "the assertion is not good before 31 s from now"),
            (Draft(ends_at=moment(-30)), "the assertion has expired 30 s ago"),
            (Draft(confirmed_until=moment(-30)), "the assertion has expired 30 s ago"),
            (Draft(logged_in_at=moment(31)), "the assertion is of a login in the future"),
            (Draft(session=f'SessionNotOnOrAfter="{moment(-30)}"'), "session at the identity"),
            (Draft(ends_at="0001-01-01T00:00:00Z"), "the assertion has expired"),
        ],
    )
    def test_it_is_rejected(self, draft: Draft, why: str) -> None:
        assert why in rejection(answer(draft))

    def test_a_confirmation_without_end_is_none(self) -> None:
        document = answer(signs=()).replace(f'NotOnOrAfter="{moment(300)}"/>', "/>")
        document = document.replace("</a:Issuer><a:Subject>", "</a:Issuer>{}<a:Subject>")
        document = saml.signed(
            document.format(saml.template("_assertion")), "_assertion", "Assertion", provider()
        )
        assert "does not say until when it is good" in rejection(document)

    def test_whoever_must_log_in_anew_has_done_so(self) -> None:
        fresh = replace(EXPECTED, fresh=True)
        assert read(encoded(answer()), fresh).name_id == "alice"
        document = answer(Draft(logged_in_at=moment(-41)))
        assert "did not ask the user to log in again" in rejection(document, fresh)
        assert read(encoded(document)).name_id == "alice"


class ForgedTests:
    def test_what_is_not_signed_is_not_believed(self) -> None:
        assert rejection(answer(signs=())) == "neither the answer nor its assertion is signed"

    def test_another_key_is_not_believed(self) -> None:
        document = answer(holder=provider("weak"))
        assert "signature fits no certificate of the identity provider" in rejection(document)

    @pytest.mark.parametrize("kind", ["X509Data", "KeyValue"])
    def test_a_key_that_the_answer_brings_is_not_looked_at(self, kind: str) -> None:
        own = provider("weak")
        key = own.key.public_key()
        assert isinstance(key, RSAPublicKey)
        numbers = (number.to_bytes(128, "big") for number in (key.public_numbers().n, 65537))
        modulus, exponent = (base64.b64encode(each).decode() for each in numbers)
        info = {
            "X509Data": f"<d:X509Certificate>{certificate_text(own)}</d:X509Certificate>",
            "KeyValue": f"<d:RSAKeyValue><d:Modulus>{modulus}</d:Modulus>"
            f"<d:Exponent>{exponent}</d:Exponent></d:RSAKeyValue>",
        }[kind]
        key_info = f"<d:KeyInfo><d:{kind}>{info}</d:{kind}></d:KeyInfo></d:Signature>"
        forged = answer(holder=own).replace("</d:Signature>", key_info)
        assert "signature fits no certificate" in rejection(forged)
        good = answer().replace("</d:Signature>", key_info)
        assert read(encoded(good)).name_id == "alice"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("alice", "admin"),
            (saml.AUDIENCE, "https://other.test/"),
            (moment(300), moment(3000)),
            ("_request", "_another"),
        ],
    )
    def test_what_is_changed_is_not_believed(self, old: str, new: str) -> None:
        document = answer(signs=("Response",)).replace(old, new)
        assert "the answer's signature fits no certificate" in rejection(document)

    def test_one_good_signature_does_not_excuse_a_bad_one(self) -> None:
        document = answer(signs=("Assertion", "Response"))
        outer = document.index("<d:SignatureValue>")
        spoilt = document[: outer + 30] + "AAAA" + document[outer + 34 :]
        assert "the answer's signature fits no certificate" in rejection(spoilt)

    @pytest.mark.parametrize(
        ("algorithm", "digest", "name"),
        [
            (saml.RSA_SHA1, saml.SHA256, "rsa-sha1"),
            (saml.RSA_SHA256, saml.SHA1, "sha1"),
        ],
    )
    def test_sha1_is_not_accepted(self, algorithm: str, digest: str, name: str) -> None:
        document = answer(algorithm=algorithm, digest=digest)
        assert rejection(document) == f"the answer is signed with {name}, which is not accepted"

    def test_keyed_hashes_are_not_accepted(self) -> None:
        """Their key would be the certificate that everybody knows."""
        document = answer().replace("rsa-sha256", "hmac-sha256")
        assert "hmac-sha256, which is not accepted" in rejection(document)

    @pytest.mark.parametrize(
        "transform",
        [
            '<d:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>',
            '<d:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116">'
            "<d:XPath>not(ancestor-or-self::a:NameID)</d:XPath></d:Transform>",
        ],
    )
    def test_a_signature_over_a_part_is_not_accepted(self, transform: str) -> None:
        document = answer(Draft(), signs=("Assertion",)).replace("<d:Transforms>", "{}")
        document = document.format(f"<d:Transforms>{transform}")
        assert "which is not accepted" in rejection(document)

    @pytest.mark.parametrize(
        "reference", ["", "#_response", "#", "https://evil.test/", "#xpointer(/)"]
    )
    def test_a_signature_over_something_else_is_not_accepted(self, reference: str) -> None:
        document = answer().replace('URI="#_assertion"', f'URI="{reference}"')
        assert rejection(document) == "the answer has a signature over something else"

    def test_a_second_reference_is_not_accepted(self) -> None:
        document = answer()
        reference = document[document.index("<d:Reference") : document.index("</d:SignedInfo>")]
        assert "signature over something else" in rejection(
            document.replace("</d:SignedInfo>", f"{reference}</d:SignedInfo>")
        )

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("</d:Signature>", "<d:Object>evil</d:Object></d:Signature>"),
            ("<d:SignedInfo>", "<d:SignedInfo/><d:SignedInfo>"),
            ("<d:DigestValue>", "<d:DigestValue/><d:DigestValue>"),
            ("<d:Transforms>", "<d:Transforms/><d:Transforms>"),
            ("<a:NameID>alice</a:NameID>", "<a:NameID>al<x>ice</x></a:NameID>"),
        ],
    )
    def test_signatures_of_another_form_are_not_accepted(self, old: str, new: str) -> None:
        assert rejection(answer().replace(old, new))


def _wrapped(document: str, evil: str, how: str) -> str:
    """Known ways to have a good signature found, and something else read (XSW)."""
    start, end = document.index("<a:Assertion"), document.index("</p:Response>")
    good = document[start:end]
    signature = good[good.index("<d:Signature>") : good.index("</d:Signature>") + 14]
    bare = good.replace(signature, "")
    inside = evil.replace("</a:Issuer>", "</a:Issuer>{}", 1)
    bodies = {
        "before": evil + good,
        "after": good + evil,
        "good in evil": evil.replace("</a:Assertion>", f"{good}</a:Assertion>"),
        "good in evil's signature": inside.format(
            signature.replace("</d:Signature>", f"<d:Object>{bare}</d:Object></d:Signature>")
        ),
        "good in evil's advice": evil.replace(
            "<a:AuthnStatement", f"<a:Advice>{good}</a:Advice><a:AuthnStatement"
        ),
        "signature moved to evil": inside.format(signature) + bare,
        "good in extensions": f"<p:Extensions>{good}</p:Extensions>{evil}",
        "evil in good's signature": good.replace(
            "</d:Signature>", f"<d:Object>{evil}</d:Object></d:Signature>"
        ),
    }
    return document[:start] + bodies[how] + document[end:]


class WrappedTests:
    @pytest.mark.parametrize("identifier", ["_evil", "_assertion"])
    @pytest.mark.parametrize(
        "how",
        [
            "before",
            "after",
            "good in evil",
            "good in evil's signature",
            "good in evil's advice",
            "signature moved to evil",
            "good in extensions",
            "evil in good's signature",
        ],
    )
    def test_only_what_is_signed_is_read(self, how: str, identifier: str) -> None:
        evil = Draft(name_id="admin", assertion_id=identifier).assertion()
        assert "the answer has 2 assertions" in rejection(_wrapped(answer(), evil, how))

    def test_a_response_around_the_signed_one_is_not_read(self) -> None:
        good = answer(signs=("Response",))
        evil = Draft(name_id="admin", response_id="_evil", assertion_id="_bad")
        for inner in (good, f"<p:Extensions>{good}</p:Extensions>"):
            document = evil.response(evil.assertion(), "").replace(
                "<p:Status>", f"{inner}<p:Status>"
            )
            assert "the answer has 2 assertions" in rejection(document)
        signature = good[good.index("<d:Signature>") : good.index("</d:Signature>") + 14]
        bare = good.replace(signature, "")
        holder = signature.replace("</d:Signature>", f"<d:Object>{bare}</d:Object></d:Signature>")
        assert "the answer has 2 assertions" in rejection(evil.response(evil.assertion(), holder))

    def test_identifiers_are_there_once(self) -> None:
        for spelling in ("ID", "Id", "id", "xml:id"):
            document = answer().replace("<p:Status>", f'<p:Status {spelling}="_assertion">')
            assert "the identifier _assertion twice" in rejection(document)

    def test_a_signature_elsewhere_is_not_looked_for(self) -> None:
        document = answer()
        start, end = document.index("<d:Signature>"), document.index("</d:Signature>") + 14
        signature, bare = document[start:end], document[:start] + document[end:]
        for place in ("<p:Status>", "<a:Subject>", "</a:Subject>", "</a:Assertion>"):
            moved = bare.replace(place, place + signature)
            assert rejection(moved) == "the answer has a signature where none belongs"
        twice = document.replace("</d:Signature>", f"</d:Signature>{signature}")
        assert rejection(twice) == "the answer has a signature where none belongs"


class TrickTests:
    @pytest.mark.parametrize("signs", [["Assertion"], ["Response"]])
    def test_a_comment_does_not_cut_a_name_short(self, signs: list[str]) -> None:
        """Comments are not signed: admin<!---->.evil.test stays good, and some read "admin"."""
        document = answer(Draft(name_id="admin.evil.test"), signs=signs)
        document = document.replace("admin.evil", "admin<!---->.evil")
        assert rejection(document) == "the answer has a comment in it"

    def test_processing_instructions_are_refused(self) -> None:
        document = answer().replace("alice", "al<?x y?>ice")
        assert rejection(document) == "the answer has a processing instruction in it"

    @pytest.mark.parametrize(
        "doctype",
        [
            "<!DOCTYPE x>",
            '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
            '<!DOCTYPE x [<!ENTITY e "admin">]>',
            '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
            '<!DOCTYPE x [<!ATTLIST a:Assertion ID ID "_assertion">]>',
        ],
    )
    def test_doctypes_and_entities_are_refused(self, doctype: str) -> None:
        document = doctype + answer().replace("alice", "&e;")
        assert rejection(document) == "the answer has a DOCTYPE"

    def test_an_entity_without_a_doctype_is_none(self) -> None:
        assert "no readable XML" in rejection(answer().replace("alice", "&e;"))

    def test_another_encoding_is_not_read_as_it(self) -> None:
        document = f'<?xml version="1.0" encoding="UTF-7"?>{answer()}'
        assert read(encoded(document)).name_id == "alice"
        assert "no readable XML" in rejection(answer().encode("utf-16"))


class SizeTests:
    def test_large_answers_are_refused_unread(self) -> None:
        padding = " " * LARGEST_BYTES
        assert "larger than" in rejection(answer(Draft(after_assertion=padding)))
        with pytest.raises(LoginRejected, match="larger than"):
            read("A" * 10_000_000)

    @pytest.mark.parametrize(
        ("extra", "why"),
        [
            ("<x>" * 40 + "</x>" * 40, "nested too deeply"),
            ("<x/>" * 5000, "too many elements"),
            (
                "<x " + " ".join(f"a{n}=''" for n in range(40)) + "/>",
                "too many elements or attributes",
            ),
        ],
    )
    def test_deep_and_wide_ones_too(self, extra: str, why: str) -> None:
        assert why in rejection(answer(Draft(after_assertion=extra)))

    @pytest.mark.parametrize("document", ["", "x", "<p:Response>", "<x/>", "\0", "<p:Response/>"])
    def test_rubbish_is_refused(self, document: str) -> None:
        assert rejection(document)

    @pytest.mark.parametrize("text", ["", "%%%", "QQ", "äöü", "QUJD" * 9])
    def test_rubbish_instead_of_base64_is_refused(self, text: str) -> None:
        with pytest.raises(LoginRejected):
            read(text)

    def test_a_document_that_ends_anywhere_is_refused(self) -> None:
        document = answer()
        for end in range(0, len(document) - 1, 97):
            assert rejection(document[:end])


class RefusedTests:
    def test_the_identity_provider_s_reason_is_told(self) -> None:
        status = (
            '<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder">'
            '<p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></p:StatusCode>'
            "<p:StatusMessage>locked\x85 until monday\u202e</p:StatusMessage>"
        )
        document = Draft(status=status).response("")
        assert rejection(document) == (
            "the identity provider lets the user not in: AuthnFailed: locked? until monday?"
        )

    def test_an_answer_without_status_or_assertion_is_none(self) -> None:
        assert rejection(Draft(status="").response("")) == "the answer has no status"
        assert "0 assertions" in rejection(Draft().response(""))
        assert "encrypted" in rejection(Draft().response("<a:EncryptedAssertion/>"))

    def test_older_versions_are_not_read(self) -> None:
        assert "SAML 1.1, not 2.0" in rejection(answer(Draft(version="1.1")))


class ProgramTests:
    def program(self, directory: Path, script: str) -> str:
        path = directory / "xmlsec1"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def check(self, directory: Path, script: str, time_s: float = 10.0) -> None:
        version = 'test "$1" = --version && echo "xmlsec1 1.2.37 (openssl)" && exit\n'
        made = service(self.program(directory, version + script), time_s)
        made.check_signatures(read_answer(encoded(answer())), PROVIDER)

    def test_one_that_hangs_is_ended(self, tmp_path: Path) -> None:
        with pytest.raises(BackendFailed, match=r"xmlsec1 has not ended in 0\.2 s"):
            self.check(tmp_path, "exec sleep 60", 0.2)

    @pytest.mark.parametrize("script", ["exit 0", "echo OK", "echo OK >&2; exit 1", "kill -9 $$"])
    def test_one_that_does_not_say_yes_clearly_has_said_no(
        self, tmp_path: Path, script: str
    ) -> None:
        with pytest.raises(LoginRejected, match="fits no certificate"):
            self.check(tmp_path, script)

    def test_one_of_version_1_3_is_told_to_use_our_keys(self, tmp_path: Path) -> None:
        script = 'echo "xmlsec1 1.3.7 (openssl)"; echo "$@" >>"$0.log"; cat >/dev/null\n'
        script += "echo 'Verification status: OK' >&2"
        made = service(self.program(tmp_path, script))
        made.check_signatures(read_answer(encoded(answer())), PROVIDER)
        assert "--lax-key-search" in (tmp_path / "xmlsec1.log").read_text()

    @pytest.mark.parametrize("script", ["", "echo nonsense"])
    def test_one_that_does_not_work_is_found_at_the_start(
        self, tmp_path: Path, script: str
    ) -> None:
        with pytest.raises(ConfigurationError, match="does not say which version it is"):
            service(self.program(tmp_path, script))

    def test_one_that_is_not_there_is_found_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be run: No such file"):
            service(str(tmp_path / "xmlsec1"))
