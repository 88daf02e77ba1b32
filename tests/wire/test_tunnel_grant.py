"""The answer to CONNECT: what a gateway writes is what a client reads."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_network,
)
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.model.tunnel_settings import (
    DTLS12_SUITE_HEADER,
    DTLS_SUITE_HEADER,
    DTLSGrant,
    Lease,
    TunnelSettings,
)
from anyvpn.wire.tunnel_settings import read_settings, write_settings
from tests.wire.captured_tunnels import CASES, Headers, read_tunnel

LEASE = Lease(IPv4Interface("10.9.8.7/24"), IPv6Interface("fd09::7/128"))
PSK = DTLSGrant(443, DTLS_SUITE_HEADER, "PSK-NEGOTIATE", app_id=b"\x01" * 32)
RESUMED = DTLSGrant(
    4443,
    DTLS12_SUITE_HEADER,
    "AES256-GCM-SHA384",
    session_id=b"\x02" * 32,
    mtu_bytes=1434,
    dpd_s=30,
    keepalive_s=20,
    encoding="lzs",
)
WHOLE = TunnelSettings(
    lease=LEASE,
    mtu_bytes=1434,
    base_mtu_bytes=1500,
    hostname="laptop",
    dns=(ip_address("10.0.0.53"), ip_address("fd00::53")),
    nbns=(IPv4Address("10.0.0.54"),),
    default_domain="corp.example",
    split_dns=("corp.example", "lab.example"),
    split_include=(ip_network("10.20.0.0/16"), ip_network("fd00:20::/48")),
    split_exclude=(ip_network("10.20.30.0/24"), ip_network("fd00:20:0:30::/64")),
    exclude_local_lan=True,
    tunnel_all_dns=False,
    client_bypass_protocol=True,
    keepalive_s=20,
    dpd_s=30,
    idle_timeout_s=600,
    session_timeout_s=3600,
    session_timeout_remaining_s=1800,
    disconnected_timeout_s=900,
    rekey_s=86400,
    banner="Authorised use only",
    encoding="oc-lz4",
    dynamic_dns=True,
    proxy=MappingProxyType({"MSIE-Proxy-PAC-URL": "http://wpad/wpad.dat"}),
    dynamic_split_include=("in.example",),
    dynamic_split_exclude=("out.example",),
    dtls=RESUMED,
)

NETWORKS = st.lists(
    st.sampled_from([ip_network("10.0.0.0/8"), ip_network("10.1.2.3/32"), ip_network("fd01::/16")]),
    max_size=3,
    unique=True,
).map(lambda found: tuple(sorted(found, key=lambda each: each.version)))
TIMES = st.integers(0, 10**6)
SETTINGS = st.builds(
    TunnelSettings,
    lease=st.sampled_from([LEASE, Lease(LEASE.ipv4), Lease(ipv6=LEASE.ipv6)]),
    mtu_bytes=st.integers(576, 9000),
    base_mtu_bytes=st.integers(0, 9000),
    split_include=NETWORKS,
    split_exclude=NETWORKS,
    keepalive_s=TIMES,
    dpd_s=TIMES,
    idle_timeout_s=TIMES,
    session_timeout_s=TIMES,
    disconnected_timeout_s=TIMES,
    rekey_s=st.integers(1, 10**6),
    encoding=st.sampled_from(["", "lzs", "deflate"]),
    dtls=st.sampled_from([None, PSK, RESUMED]),
)


def values(headers: Headers, name: str) -> list[str]:
    """The values of all headers of exactly this name."""
    return [value.decode() for key, value in headers if key == name.encode()]


class WriteSettingsTests:
    def test_everything_that_is_granted_is_read(self) -> None:
        read = read_settings(write_settings(WHOLE))
        assert replace(read, post_auth_xml="") == WHOLE
        assert read.other_headers == ()

    @settings(max_examples=100)
    @given(SETTINGS)
    def test_what_is_written_is_read(self, granted: TunnelSettings) -> None:
        assert read_settings(write_settings(granted)) == granted

    def test_ipv4_comes_first_and_with_masks(self) -> None:
        headers = write_settings(WHOLE)
        names = [name for name, _ in headers]
        assert names.index(b"X-CSTP-Address") < names.index(b"X-CSTP-Address-IP6")
        assert values(headers, "X-CSTP-Netmask") == ["255.255.255.0"]
        assert values(headers, "X-CSTP-Split-Include") == ["10.20.0.0/255.255.0.0"]
        assert values(headers, "X-CSTP-Split-Include-IP6") == ["fd00:20::/48"]
        excluded = values(headers, "X-CSTP-Split-Exclude")
        assert excluded == ["0.0.0.0/255.255.255.255", "10.20.30.0/255.255.255.0"]

    def test_names_have_the_case_that_openconnect_compares(self) -> None:
        captured = {name for name, _ in read_tunnel("01_password_psk_dtls").answers[0]}
        ours = {name for name, _ in write_settings(replace(WHOLE, dtls=PSK))}
        assert captured - ours == {
            b"X-DTLS-Rekey-Time",
            b"X-DTLS-Rekey-Method",
            b"X-DTLS-DPD",
            b"X-DTLS-Keepalive",
        }
        assert b"X-CSTP-MSIE-Proxy-PAC-URL" in ours

    def test_old_client_gets_ipv6_in_the_old_form(self) -> None:
        headers = write_settings(replace(WHOLE, full_ipv6=False))
        assert values(headers, "X-CSTP-Address") == ["10.9.8.7", "fd09::7"]
        assert values(headers, "X-CSTP-Netmask") == ["255.255.255.0", "fd09::7/128"]
        assert not any(name.endswith(b"-IP6") for name, _ in headers)
        assert values(headers, "X-CSTP-DNS") == ["10.0.0.53"]

    def test_routes_that_a_client_cannot_be_told_of_do_not_become_all_routes(self) -> None:
        only_ipv6 = replace(WHOLE, full_ipv6=False, split_include=(ip_network("fd00:20::/48"),))
        assert values(write_settings(only_ipv6), "X-CSTP-Split-Include") == [
            "10.9.8.7/255.255.255.255"
        ]

    def test_cisco_gets_ipv6_resolvers_in_its_own_header_too(self) -> None:
        assert values(write_settings(WHOLE, anyconnect=True), "X-CSTP-DNS-IP6") == ["fd00::53"]
        assert values(write_settings(WHOLE), "X-CSTP-DNS-IP6") == []

    def test_times_that_are_off_say_so(self) -> None:
        headers = write_settings(TunnelSettings(LEASE, 1400))
        for name in ("Idle-Timeout", "Session-Timeout", "Disconnected-Timeout", "Rekey-Method"):
            assert values(headers, f"X-CSTP-{name}") == ["none"], name
        assert values(headers, "X-CSTP-DPD") == []

    def test_no_text_of_a_policy_begins_another_header(self) -> None:
        evil = "line\r\nX-Evil: yes\x00\u2028end"
        headers = write_settings(replace(WHOLE, banner=evil, default_domain=evil, hostname=evil))
        for _, value in headers:
            assert not set(value) & {0, 10, 13}
        assert values(headers, "X-CSTP-Banner") == ["line X-Evil: yes end"]

    def test_post_auth_document_is_one_line_with_the_dynamic_split(self) -> None:
        [document] = values(write_settings(WHOLE), "X-CSTP-Post-Auth-XML")
        assert document.startswith("<?xml") and "\n" not in document
        assert "<dynamic-split-exclude-domains><![CDATA[out.example,]]>" in document

    def test_psk_has_an_app_id_and_resumption_a_session_id(self) -> None:
        psk = write_settings(replace(WHOLE, dtls=PSK))
        assert values(psk, "X-DTLS-App-ID") == ["01" * 32]
        assert values(psk, "X-DTLS-Session-ID") == []
        resumed = write_settings(WHOLE)
        assert values(resumed, "X-DTLS-Session-ID") == ["02" * 32]
        assert values(resumed, "X-DTLS12-CipherSuite") == ["AES256-GCM-SHA384"]
        assert values(resumed, "X-DTLS-MTU") == ["1434"]


class ReadSettingsTests:
    @pytest.mark.parametrize("case", CASES)
    def test_every_captured_answer_is_read(self, case: str) -> None:
        for answer in read_tunnel(case).answers:
            read = read_settings(answer)
            assert read.lease.ipv4 is not None
            assert 1000 < read.mtu_bytes <= 1472
            assert read.server_name == "ocserv 1.1.6"

    def test_captured_answer_is_understood(self) -> None:
        read = read_settings(read_tunnel("01_password_psk_dtls").answers[0])
        assert str(read.lease.ipv4) == "192.168.77.50/24"
        assert str(read.lease.ipv6) == "fd00:77::9a7c:c09f:b76e:58ef/128"
        assert read.split_dns == ("corp.example.test", "lab.example.test")
        assert [str(each) for each in read.split_exclude] == ["10.20.30.0/24", "fd00:20:0:30::/64"]
        assert read.rekey_method == "ssl" and read.disconnected_timeout_s == 0
        assert read.dtls is not None
        assert (read.dtls.suite, read.dtls.port) == ("PSK-NEGOTIATE", 4443)
        assert read.dtls.app_id.hex().startswith("1fa0eb29e80027e0")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-CSTP-Address", "not-an-address"),
            ("X-CSTP-Address", "127.0.0.1"),
            ("X-CSTP-Address-IP6", "fd00::1/129"),
            ("X-CSTP-Netmask", "255.0.255.0"),
            ("X-CSTP-MTU", "0x500"),
            ("X-CSTP-MTU", "70000"),
            ("X-CSTP-MTU", "100"),
            ("X-CSTP-Split-Include", "10.0.0.0/33"),
            ("X-CSTP-Split-Include", "10.0.0.0; rm -rf"),
            ("X-CSTP-Split-Exclude-IP6", "fd00::%eth0/64"),
            ("X-CSTP-DNS", "evil$(id)"),
            ("X-CSTP-Content-Encoding", "brotli"),
            ("X-DTLS-Session-ID", "zz"),
            ("X-DTLS-Session-ID", "00" * 31),
            ("X-DTLS-App-ID", "00" * 33),
            ("X-DTLS-Port", "65536"),
        ],
    )
    def test_impossible_value_is_refused(self, name: str, value: str) -> None:
        headers = [each for each in write_settings(WHOLE) if each[0] != name.encode()]
        with pytest.raises(MalformedMessage):
            read_settings([*headers, (name.encode(), value.encode())])

    def test_answer_without_address_or_mtu_is_refused(self) -> None:
        headers = write_settings(TunnelSettings(LEASE, 1400))
        for gone in (b"X-CSTP-Address", b"X-CSTP-MTU"):
            with pytest.raises(MalformedMessage):
                read_settings([each for each in headers if not each[0].startswith(gone)])

    def test_unknown_headers_are_reported_and_not_applied(self) -> None:
        headers = [*write_settings(WHOLE), (b"X-CSTP-Quux", b"1"), (b"Server", b"x")]
        assert read_settings(headers).other_headers == (("X-CSTP-Quux", "1"),)

    def test_dtls_without_a_port_is_no_dtls(self) -> None:
        headers = [each for each in write_settings(WHOLE) if each[0] != b"X-DTLS-Port"]
        assert read_settings(headers).dtls is None

    @settings(max_examples=100)
    @given(st.data())
    def test_nothing_but_a_peer_error_comes_of_any_value(self, data: st.DataObject) -> None:
        headers = write_settings(WHOLE)
        at = data.draw(st.integers(0, len(headers) - 1))
        headers[at] = (headers[at][0], data.draw(st.binary(max_size=60)))
        try:
            read_settings(headers)
        except PeerError:
            return
