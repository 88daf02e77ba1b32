"""CONNECT: what clients offer, and what a client of ours writes."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.model.authentication import ClientDescription
from anyvpn.model.tunnel_settings import TunnelOffer
from anyvpn.wire.tunnel_settings import read_offer, write_offer
from tests.wire.captured_tunnels import CASES, read_tunnel

NAMES = st.lists(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), max_size=4, unique=True)
NAMES_OF_HEADERS = (
    *("Cookie", "X-CSTP-Hostname", "X-CSTP-Base-MTU", "X-CSTP-MTU", "X-CSTP-Address-Type"),
    *("X-CSTP-Address", "X-CSTP-Accept-Encoding", "X-DTLS-Master-Secret", "X-CSTP-License"),
    *("X-DTLS-CipherSuite", "X-DTLS12-CipherSuite", "X-DTLS-Accept-Encoding", "User-Agent"),
)
OFFERS = st.builds(
    TunnelOffer,
    token=st.from_regex(r"[A-Za-z0-9_=/+-]{1,60}", fullmatch=True),
    hostname=st.from_regex(r"[A-Za-z0-9.-]{0,40}", fullmatch=True),
    client=st.builds(ClientDescription, user_agent=st.sampled_from(["AnyConnect Linux 5", "oc"])),
    encodings=NAMES.map(tuple),
    dtls_encodings=NAMES.map(tuple),
    base_mtu_bytes=st.integers(576, 9000) | st.just(0),
    mtu_bytes=st.integers(576, 9000) | st.just(0),
    address_families=st.frozensets(st.sampled_from([4, 6])),
    full_ipv6=st.booleans(),
    wished_addresses=st.sampled_from([(), (ip_address("10.1.2.3"),), (ip_address("fd00::3"),)]),
    dtls_master_secret=st.just(b"") | st.binary(min_size=48, max_size=48),
    dtls_suites=NAMES.map(tuple),
    dtls12_suites=NAMES.map(tuple),
    mobile_licence=st.booleans(),
)


def offer_of(**headers: str) -> TunnelOffer:
    """What these headers offer; underscores stand for hyphens."""
    return read_offer(
        [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    )


class ReadOfferTests:
    def test_captured_request_is_understood(self) -> None:
        offer = read_offer(read_tunnel("01_password_psk_dtls").requests[0])
        assert offer.token == "AMUr3X1V4xyK/ZaWCq/fGEBzb0UazuHu/gqm7ZLOdSQ="
        assert offer.hostname == "vm"
        assert offer.client.user_agent == "Open AnyConnect VPN Agent v9.01-3"
        assert offer.encodings == offer.dtls_encodings == ("oc-lz4", "lzs")
        assert (offer.base_mtu_bytes, offer.mtu_bytes) == (1500, 1390)
        assert offer.address_families == {4, 6}
        assert offer.full_ipv6
        assert offer.dtls_master_secret.hex().upper().startswith("A523FE4E18967BC5")
        assert offer.dtls_suites[:2] == ("PSK-NEGOTIATE", "OC-DTLS1_2-AES256-GCM")
        assert offer.dtls12_suites[-1] == "AES128-SHA"

    @pytest.mark.parametrize("case", CASES)
    def test_every_captured_request_has_a_token_and_an_mtu(self, case: str) -> None:
        for request in read_tunnel(case).requests:
            offer = read_offer(request)
            assert offer.token and offer.mtu_bytes

    def test_phone_is_known_by_its_identifiers(self) -> None:
        offer = read_offer(read_tunnel("06b_anyconnect_mobile_agent").requests[0])
        assert offer.client.is_mobile

    def test_client_that_comes_back_wishes_for_its_addresses(self) -> None:
        offer = read_offer(read_tunnel("09_reconnect_usr2").requests[1])
        assert [str(each) for each in offer.wished_addresses] == ["192.168.77.50"]

    def test_names_are_compared_without_case(self) -> None:
        assert offer_of(x_cstp_mtu="1400").mtu_bytes == 1400

    def test_first_of_several_counts(self) -> None:
        headers = [(b"X-CSTP-MTU", b"1400"), (b"X-CSTP-MTU", b"1300")]
        assert read_offer(headers).mtu_bytes == 1400

    @pytest.mark.parametrize("value", ["", "0", "-1", "1e3", "99999999999", "575", "٣٠٠٠", "0x5dc"])
    def test_mtu_that_makes_no_sense_counts_as_absent(self, value: str) -> None:
        offer = offer_of(X_CSTP_MTU=value, X_CSTP_Base_MTU=value)
        assert (offer.mtu_bytes, offer.base_mtu_bytes) == (0, 0)

    @pytest.mark.parametrize("value", ["ab", "a" * 95, "g" * 96, "a" * 98])
    def test_master_secret_that_is_none_counts_as_absent(self, value: str) -> None:
        assert offer_of(X_DTLS_Master_Secret=value).dtls_master_secret == b""

    def test_hostname_with_anything_else_in_it_counts_as_absent(self) -> None:
        assert offer_of(X_CSTP_Hostname="a; rm -rf /").hostname == ""

    def test_one_wish_for_each_family_is_kept(self) -> None:
        headers = [
            (b"X-CSTP-Address", each)
            for each in (b"nonsense", b"127.0.0.1", b"10.0.0.1", b"10.0.0.2", b"fd00::1")
        ]
        wishes = read_offer(headers).wished_addresses
        assert wishes == (IPv4Address("10.0.0.1"), ip_address("fd00::1"))

    def test_more_headers_than_anyone_needs_are_refused(self) -> None:
        with pytest.raises(PeerError):
            read_offer([(b"X-CSTP-Address", b"10.0.0.1")] * 3000)

    @settings(max_examples=100)
    @given(st.lists(st.tuples(st.sampled_from(NAMES_OF_HEADERS), st.binary(max_size=80))))
    def test_nothing_but_a_peer_error_comes_of_any_value(
        self, headers: list[tuple[str, bytes]]
    ) -> None:
        try:
            offer = read_offer([(name.encode(), value) for name, value in headers])
        except PeerError:
            return
        assert len(offer.dtls_suites) <= 64


class WriteOfferTests:
    @settings(max_examples=100)
    @given(OFFERS)
    def test_what_is_written_is_read(self, offer: TunnelOffer) -> None:
        assert read_offer(write_offer(offer, "vpn.example.com")) == offer

    def test_no_value_begins_another_header(self) -> None:
        offer = TunnelOffer(token="t", client=ClientDescription(user_agent="a\r\nX-Evil: b"))
        assert all(
            b"\r" not in value and b"\n" not in value for _, value in write_offer(offer, "h")
        )

    def test_token_that_no_cookie_can_carry_is_refused(self) -> None:
        with pytest.raises(MalformedMessage):
            write_offer(TunnelOffer(token="a; b=c"), "vpn.example.com")
