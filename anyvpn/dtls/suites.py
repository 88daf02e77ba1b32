"""Cipher suites and versions: what the two headers offer, and what the gateway takes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from anyvpn.model.channels import Suite

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DTLS12_HEADER",
    "DTLS_HEADER",
    "OFFERS",
    "PSK_NAME",
    "PSK_SUITES",
    "Choice",
    "Mode",
    "Suite",
    "Version",
    "choose_suite",
]

# From the protocol (protocol reference, sections 12.0 and 12.2)
DTLS_HEADER: Final = "X-DTLS-CipherSuite"
DTLS12_HEADER: Final = "X-DTLS12-CipherSuite"
PSK_NAME: Final = "PSK-NEGOTIATE"


class Version(Enum):
    """The protocol versions we speak, by the bytes that records and hellos carry."""

    DTLS12 = b"\xfe\xfd"
    BAD_VER = b"\x01\x00"  # Cisco's, from before the RFC; OpenSSL gave it this name


class Mode(Enum):
    """How the two sides come to keys."""

    PSK = "psk"
    RESUMPTION = "resumption"


def _gcm(name: str, code: int, key_bytes: int, hash_name: str) -> Suite:
    return Suite(name, code, f"AES-{key_bytes * 8}-GCM", hash_name, key_bytes, fixed_iv_bytes=4)


def _cbc(name: str, code: int, key_bytes: int, hash_name: str) -> Suite:
    cipher = f"AES-{key_bytes * 8}-CBC"
    return Suite(name, code, cipher, hash_name, key_bytes, fixed_iv_bytes=0, mac_key_bytes=20)


PSK_SUITES: Final = (
    _gcm("TLS_PSK_WITH_AES_256_GCM_SHA384", 0x00A9, 32, "sha384"),
    _gcm("TLS_PSK_WITH_AES_128_GCM_SHA256", 0x00A8, 16, "sha256"),
)
_RSA_AES256_GCM = _gcm("TLS_RSA_WITH_AES_256_GCM_SHA384", 0x009D, 32, "sha384")
_RSA_AES128_GCM = _gcm("TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009C, 16, "sha256")
_ECDHE_AES256_GCM = _gcm("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xC030, 32, "sha384")
_ECDHE_AES128_GCM = _gcm("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xC02F, 16, "sha256")


def _cbc_offers(version: Version, hash_name: str) -> dict[str, tuple[Version, Suite]]:
    suites = {
        "DHE-RSA-AES256-SHA": _cbc("TLS_DHE_RSA_WITH_AES_256_CBC_SHA", 0x0039, 32, hash_name),
        "AES256-SHA": _cbc("TLS_RSA_WITH_AES_256_CBC_SHA", 0x0035, 32, hash_name),
        "DHE-RSA-AES128-SHA": _cbc("TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0033, 16, hash_name),
        "AES128-SHA": _cbc("TLS_RSA_WITH_AES_128_CBC_SHA", 0x002F, 16, hash_name),
    }
    return {name: (version, suite) for name, suite in suites.items()}


OFFERS: Final[Mapping[str, Mapping[str, tuple[Version, Suite]]]] = MappingProxyType(
    {
        DTLS12_HEADER: MappingProxyType(
            {
                "ECDHE-RSA-AES256-GCM-SHA384": (Version.DTLS12, _ECDHE_AES256_GCM),
                "ECDHE-RSA-AES128-GCM-SHA256": (Version.DTLS12, _ECDHE_AES128_GCM),
                "AES256-GCM-SHA384": (Version.DTLS12, _RSA_AES256_GCM),
                "AES128-GCM-SHA256": (Version.DTLS12, _RSA_AES128_GCM),
                **_cbc_offers(Version.DTLS12, "sha256"),
            }
        ),
        DTLS_HEADER: MappingProxyType(
            {
                "OC-DTLS1_2-AES256-GCM": (Version.DTLS12, _RSA_AES256_GCM),
                "OC-DTLS1_2-AES128-GCM": (Version.DTLS12, _RSA_AES128_GCM),
                **_cbc_offers(Version.BAD_VER, "md5-sha1"),
            }
        ),
    }
)
"""By header, then by name, best first: what a name means for a resumption."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the gateway answers: `name` goes into `header`; `suite` is None when PSK will tell."""

    mode: Mode
    version: Version
    suite: Suite | None
    header: str
    name: str


def choose_suite(
    dtls12_names: tuple[str, ...], dtls_names: tuple[str, ...], *, psk: bool, legacy: bool
) -> Choice | None:
    """Take the best of what a client offers in its two headers, or nothing.

    `legacy` allows CBC suites, which version 0x0100 has nothing but.
    Source: protocol reference, section 12.0.
    """
    offered = {DTLS_HEADER: dtls_names, DTLS12_HEADER: dtls12_names}
    if psk:
        for header, names in offered.items():
            if PSK_NAME in names:
                return Choice(Mode.PSK, Version.DTLS12, None, header, PSK_NAME)
    for cbc in (False, True) if legacy else (False,):
        for header, meanings in OFFERS.items():
            for name, (version, suite) in meanings.items():
                if bool(suite.mac_key_bytes) is cbc and name in offered[header]:
                    return Choice(Mode.RESUMPTION, version, suite, header, name)
    return None
