"""What a certificate calls its owner: user and groups from any part of subject or SAN."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier
from pyasn1.codec.der import decoder
from pyasn1.error import PyAsn1Error
from pyasn1.type.char import UTF8String

from anyvpn.backends.authenticator_certificate_extensions import extension_in
from anyvpn.errors import LoginRejected
from anyvpn.model.credentials import read_name

# From the protocol: RFC 4519 and RFC 4514 (names of attributes), Microsoft's user principal name
_SUBJECT_PARTS = {
    "CN": NameOID.COMMON_NAME,
    "UID": NameOID.USER_ID,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "title": NameOID.TITLE,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
}
_USER_PRINCIPAL_NAME = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_OID = re.compile(r"\d+(\.\d+)+")

# Ours
LONGEST_NAME_CHARACTERS = 256

_Reader = Callable[[x509.Certificate], list[str]]


def name_reader(source: str) -> _Reader:
    """Reads all values of one source, such as "subject.CN" or "san.email".

    The reader raises: LoginRejected: the certificate cannot be read.
    Raises: ValueError: there is no such source; the text says which there are.
    """
    place, _, part = source.partition(".")
    if place == "subject" and part in _SUBJECT_PARTS:
        return _subject_reader(_SUBJECT_PARTS[part])
    if place == "subject" and _OID.fullmatch(part):
        try:
            return _subject_reader(ObjectIdentifier(part))
        except ValueError:
            raise ValueError(f'"{part}" is no object identifier') from None
    if place == "san" and part in _ALTERNATIVE_NAMES:
        return lambda certificate: _alternative_names(certificate, _ALTERNATIVE_NAMES[part])
    known = [
        *(f"subject.{each}" for each in _SUBJECT_PARTS),
        *(f"san.{each}" for each in _ALTERNATIVE_NAMES),
    ]
    close = get_close_matches(source, known, n=1)
    hint = f', did you mean "{close[0]}"?' if close else ""
    raise ValueError(
        f'"{source}" is no part of a certificate{hint} There are {", ".join(known)} and '
        "subject.OID with an object identifier in digits"
    )


class UserReader:
    """Reads the user's name; with a pattern it is the first group of the pattern, or all of it."""

    def __init__(self, source: str, pattern: re.Pattern[str] | None) -> None:
        self._source = source
        self._read = name_reader(source)
        self._pattern = pattern

    def __call__(self, certificate: x509.Certificate) -> str:
        """The name. Raises: LoginRejected: there is none, or more than one."""
        found = [name for name in self._read(certificate) if self._fits(name)]
        if len(found) != 1:
            there_are = f"{len(found)} names" if found else "no name"
            fitting = " that fits user_pattern" if self._pattern is not None else ""
            raise LoginRejected(f"the certificate has {there_are}{fitting} in {self._source}")
        if len(found[0]) > LONGEST_NAME_CHARACTERS:
            raise LoginRejected(f"the certificate has an endless name in {self._source}")
        return read_name(self._named(found[0]))

    def _fits(self, name: str) -> bool:
        return self._pattern is None or bool(self._pattern.fullmatch(name))

    def _named(self, name: str) -> str:
        match = self._pattern.fullmatch(name) if self._pattern is not None else None
        if match is None or not match.re.groups:
            return name
        return match[1] or ""


def _subject_reader(oid: ObjectIdentifier) -> _Reader:
    def read(certificate: x509.Certificate) -> list[str]:
        try:
            found = certificate.subject.get_attributes_for_oid(oid)
        except ValueError:
            raise LoginRejected("the certificate's subject cannot be read") from None
        return [each.value for each in found if isinstance(each.value, str)]

    return read


def _alternative_names(
    certificate: x509.Certificate, read: Callable[[x509.SubjectAlternativeName], list[str]]
) -> list[str]:
    try:
        found = extension_in(certificate, x509.SubjectAlternativeName)
        return [] if found is None else read(found)
    except (ValueError, PyAsn1Error):
        raise LoginRejected("the certificate's alternative names cannot be read") from None


def _principal_names(names: x509.SubjectAlternativeName) -> list[str]:
    found = names.get_values_for_type(x509.OtherName)
    return [
        str(decoder.decode(each.value, asn1Spec=UTF8String())[0])
        for each in found
        if each.type_id == _USER_PRINCIPAL_NAME
    ]


_ALTERNATIVE_NAMES: dict[str, Callable[[x509.SubjectAlternativeName], list[str]]] = {
    "email": lambda names: names.get_values_for_type(x509.RFC822Name),
    "dns": lambda names: names.get_values_for_type(x509.DNSName),
    "uri": lambda names: names.get_values_for_type(x509.UniformResourceIdentifier),
    "upn": _principal_names,
}
