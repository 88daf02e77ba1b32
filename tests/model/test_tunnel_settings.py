"""Leases, offers and grants that make no sense cannot be made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from anyvpn.model.tunnel_settings import (
    DTLS12_SUITE_HEADER,
    DTLSGrant,
    Lease,
    TunnelOffer,
    TunnelSettings,
)

LEASE = Lease(IPv4Interface("10.9.8.7/24"), IPv6Interface("fd09::7/128"))
SETTINGS = TunnelSettings(LEASE, 1400)
GRANT = DTLSGrant(443, DTLS12_SUITE_HEADER, "AES256-GCM-SHA384", session_id=bytes(32))


class LeaseTests:
    def test_addresses_come_ipv4_first(self) -> None:
        assert [str(each) for each in LEASE.addresses] == ["10.9.8.7", "fd09::7"]

    def test_lease_of_nothing_cannot_be(self) -> None:
        with pytest.raises(ValueError, match="needs an address"):
            Lease()


class TunnelOfferTests:
    def test_client_that_names_a_suite_wants_dtls(self) -> None:
        assert not TunnelOffer().wants_dtls
        assert TunnelOffer(dtls_suites=("PSK-NEGOTIATE",)).wants_dtls
        assert TunnelOffer(dtls12_suites=("AES128-GCM-SHA256",)).wants_dtls

    @pytest.mark.parametrize(
        "wrong",
        [
            {"dtls_master_secret": bytes(47)},
            {"base_mtu_bytes": -1},
            {"mtu_bytes": -1},
            {"address_families": frozenset({5})},
        ],
    )
    def test_impossible_offer_cannot_be(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            TunnelOffer(**wrong)  # type: ignore[arg-type]

    def test_secrets_are_not_shown(self) -> None:
        offer = TunnelOffer(token="hidden-token", dtls_master_secret=b"s" * 48)
        assert "hidden-token" not in repr(offer) and "sss" not in repr(offer)


class GrantTests:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"port": 0},
            {"port": 65536},
            {"header": "X-DTLS-Suite"},
            {"suite": ""},
            {"app_id": b"1"},
            {"session_id": b""},
            {"session_id": bytes(31)},
            {"session_id": b"", "app_id": bytes(33)},
            {"mtu_bytes": 16377},
            {"rekey_method": "dance"},
            {"dpd_s": -1},
        ],
    )
    def test_impossible_dtls_channel_cannot_be(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            replace(GRANT, **wrong)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"mtu_bytes": 575},
            {"mtu_bytes": 16377},
            {"base_mtu_bytes": -1},
            {"rekey_method": ""},
            {"keepalive_s": -1},
            {"session_timeout_remaining_s": -1},
        ],
    )
    def test_impossible_tunnel_cannot_be(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            replace(SETTINGS, **wrong)

    def test_identifiers_and_documents_are_not_shown(self) -> None:
        assert "session_id" not in repr(GRANT)
        assert "token" not in repr(replace(SETTINGS, post_auth_xml="<token/>"))
