"""The identity provider's metadata, and what cannot be used of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyvpn.backends.authenticator_saml_metadata import WatchedProvider
from anyvpn.errors import ConfigurationError
from tests.backends import saml_answers as saml
from tests.backends.saml_answers import certificate_text, metadata, provider


def written(directory: Path, text: str) -> Path:
    path = directory / "idp.xml"
    path.write_text(text)
    return path


def read(directory: Path, text: str, entity_id: str = "", *, signs: bool = False) -> Any:
    return WatchedProvider(written(directory, text), entity_id, signs=signs).current()


def problem(directory: Path, text: str, entity_id: str = "") -> str:
    with pytest.raises(ConfigurationError, match=r"idp_metadata: \S+/idp.xml ") as caught:
        read(directory, text, entity_id)
    return str(caught.value)


def federation(*members: str, attributes: str = "") -> str:
    space = 'xmlns:m="urn:oasis:names:tc:SAML:2.0:metadata"'
    return f"<m:EntitiesDescriptor {space} {attributes}>{''.join(members)}</m:EntitiesDescriptor>"


class MetadataTests:
    def test_what_a_gateway_needs_is_read(self, tmp_path: Path) -> None:
        found = read(tmp_path, f"<?xml version='1.0'?><!-- ours -->{metadata()}")
        assert (found.entity_id, found.login_url) == (saml.ISSUER, saml.LOGIN_URL)
        assert found.certificates == (certificate_text(provider()),)
        assert not found.wants_signed_requests

    def test_all_signing_certificates_count_and_those_for_encryption_do_not(
        self, tmp_path: Path
    ) -> None:
        text = metadata(provider(), provider("ec"))
        assert len(read(tmp_path, text).certificates) == 2
        assert len(read(tmp_path, text.replace(' use="signing"', "", 1)).certificates) == 2
        text = text.replace('use="signing"', 'use="encryption"', 1)
        assert read(tmp_path, text).certificates == (certificate_text(provider("ec")),)

    def test_one_of_several_is_chosen_by_its_name(self, tmp_path: Path) -> None:
        service = metadata(entity_id="urn:sp").replace("IDPSSODescriptor", "SPSSODescriptor")
        one = federation(service, metadata())
        assert read(tmp_path, one).entity_id == saml.ISSUER
        two = federation(metadata(entity_id="urn:one"), federation(metadata()))
        assert read(tmp_path, two, saml.ISSUER).entity_id == saml.ISSUER
        assert "describes 2 identity providers: choose one by idp" in problem(tmp_path, two)
        assert "no identity provider urn:three" in problem(tmp_path, two, "urn:three")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "is no XML document"),
            ("<x/>", "describes no identity provider of SAML 2.0"),
            (metadata().replace("SAML:2.0:protocol", "SAML:1.1:protocol"), "describes no identity"),
            (metadata(binding="HTTP-POST"), "names no SingleSignOnService of the HTTP-Redirect"),
            (metadata(login_url="http://idp.test/"), "names an address that no browser should"),
            (metadata(login_url="javascript:x"), "names an address that no browser should"),
            (metadata().replace("X509C", "X509D"), "has no certificate to check signatures with"),
            (metadata().replace("Certificate>MII", "Certificate>AAA"), "that cannot be read"),
            (metadata(provider("weak")), "has an RSA key of less than 2048 bits"),
            (
                metadata(attributes='validUntil="2020-01-01T00:00:00Z"'),
                "was valid until 2020-01-01",
            ),
            (metadata(attributes='validUntil="soon"'), "has a validUntil that is no time: soon"),
            (federation(metadata(), attributes='validUntil="2020-01-01"'), "was valid until 2020"),
            (metadata(role_attributes='WantAuthnRequestsSigned="true"'), "wants signed requests"),
        ],
    )
    def test_what_cannot_be_used_is_told(self, tmp_path: Path, text: str, why: str) -> None:
        assert why in problem(tmp_path, text)

    def test_signed_requests_can_be_had(self, tmp_path: Path) -> None:
        text = metadata(role_attributes='WantAuthnRequestsSigned="true"')
        assert read(tmp_path, text, signs=True).wants_signed_requests

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"none\.xml cannot be read: No such file"):
            WatchedProvider(tmp_path / "none.xml", "", signs=False)


class ChangeTests:
    def test_it_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        path = written(tmp_path, metadata())
        watched = WatchedProvider(path, "", signs=False)
        path.write_text(metadata(provider("ec"), login_url="https://idp.test/new"))
        assert watched.current().login_url == "https://idp.test/new"
        assert watched.current().certificates == (certificate_text(provider("ec")),)

    def test_what_was_good_stays_when_it_is_good_no_more(self, tmp_path: Path) -> None:
        path = written(tmp_path, metadata())
        watched = WatchedProvider(path, "", signs=False)
        path.write_text("half a fi")
        assert watched.current().login_url == saml.LOGIN_URL
        path.unlink()
        assert watched.current().login_url == saml.LOGIN_URL
