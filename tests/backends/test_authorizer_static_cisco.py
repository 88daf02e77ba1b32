"""Cisco's access lists mean what they say, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.backends.authorizer_static_cisco import read_av_pairs


def rules(*lines: str) -> list[str]:
    """What lines of ip:inacl mean; the last rule of a list closes it."""
    found = read_av_pairs(f"ip:inacl#{number}={line}" for number, line in enumerate(lines))
    assert found is not None
    *others, last = map(str, found)
    assert last == "deny any"
    return others


class LineTests:
    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            ("permit tcp any host 10.1.1.1 eq 443", "allow tcp 10.1.1.1 port 443"),
            ("permit ip any any", "allow any"),
            ("PERMIT TCP ANY ANY EQ WWW", "allow tcp port 80"),
            ("deny udp any any log", "deny from_client udp"),
            ("permit udp any any log 7 interval 300", "allow udp"),
            ("permit tcp any any range 20 ftp", "allow tcp port 20-21"),
            ("permit tcp any any lt 1024", "allow tcp port 0-1023"),
            ("permit tcp any any gt 1023", "allow tcp port 1024-65535"),
            ("permit tcp any any neq 25", "allow tcp port 0-24,26-65535"),
            ("permit tcp any any neq 0", "allow tcp port 1-65535"),
            ("permit tcp any eq 5 any eq 80 443", "allow tcp port 80,443 source_port 5"),
            ("permit udp any any eq domain", "allow udp port 53"),
            ("permit icmp any any echo", "allow icmp type 8"),
            ("permit icmp any any 13 log", "allow icmp type 13"),
            ("permit icmp6 any any echo-request", "allow icmpv6 type 128"),
            ("permit 47 any host 10.0.0.1", "allow 47 10.0.0.1"),
            ("permit gre any host 10.0.0.1", "allow 47 10.0.0.1"),
            (
                "permit tcp 10.1.0.0 255.255.0.0 10.0.0.0 255.0.0.0",
                "allow tcp 10.0.0.0/8 client 10.1.0.0/16",
            ),
            (
                "permit ip 10.155.10.0 0.0.0.255 10.159.2.0 0.0.0.255",
                "allow any 10.159.2.0/24 client 10.155.10.0/24",
            ),
            ("permit ip any 10.1.2.3 255.0.0.0", "allow any 10.0.0.0/8"),
            ("permit ip any 10.1.2.3 0.0.0.0", "allow any 10.1.2.3"),
            ("permit ip any 10.1.2.3 255.255.255.255", "allow any 10.1.2.3"),
            ("permit ip any 0.0.0.0 255.255.255.255", "allow any 0.0.0.0/0"),
            ("permit ip any4 any", "allow any client 0.0.0.0/0"),
            ("permit ip any any6", "allow any ::/0"),
            ("permit tcp any host 2001:db8::1 eq https", "allow tcp 2001:db8::1 port 443"),
            ("permit tcp any 2001:db8::1/32", "allow tcp 2001:db8::/32"),
        ],
    )
    def test_lines_mean_rules(self, line: str, rule: str) -> None:
        assert rules(line) == [rule]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("", "permit or deny is missing"),
            ("allow ip any any", 'it begins with "allow"'),
            ("permit", "the protocol is missing"),
            ("permit tpc any any", '"tpc" is no protocol'),
            ("permit tcp any", "an address is missing"),
            ("permit ip host any", '"any" is no address'),
            ("permit ip host", "the address of the host is missing"),
            ("permit ip any server.example.com 0.0.0.0", "names are not looked up"),
            ("permit ip any object-group servers", "names are not looked up"),
            ("permit ip any 10.0.0.0", "the mask of 10.0.0.0 is missing"),
            ("permit ip any 10.0.0.0 0.255.0.255", "is no mask of a network"),
            ("permit ip any 10.0.0.0 fd00::", "fd00:: is no mask"),
            ("permit ip any fd00::", 'the length of "fd00::" is missing'),
            ("permit ip any 10.0.0.0/33", '"33" is no prefix'),
            ("permit ip any host fe80::1%eth0", "is no address"),
            ("permit tcp any any eq", "a port is missing"),
            ("permit tcp any any eq nosuch", '"nosuch" is no port'),
            ("permit tcp any any eq 65536", '"65536" is no port'),
            ("permit tcp any any range 5 4", "there is no such port"),
            ("permit tcp any any lt 0", "there is no such port"),
            ("permit tcp any any gt 65535", "there is no such port"),
            ("permit ip any any eq 80", '"eq 80" is not understood'),
            ("permit icmp any any 3 4", '"4" is not understood'),
            ("permit icmp any any packet-too-big", "is no ICMP type"),
            ("permit ip any any time-range office", '"time-range office" is not understood'),
            ("deny ip any any fragments", '"fragments" is not understood'),
            ("permit tcp any any dscp ef log", "is not understood"),
            ("deny tcp any any established", "cannot be kept to"),
            ("permit ip any any log time-range office", "is not understood"),
            ("permit ip any host 10.0.0.1 inactive", '"inactive" is not understood'),
            ("permit tcp any host 10.0.0.1, host 10.0.0.2", "is no address"),
            ("permit tcp any host 10.0.0.1 host 10.0.0.2", "is not understood"),
        ],
    )
    def test_what_is_not_understood_is_refused(self, line: str, words: str) -> None:
        with pytest.raises(ValueError) as caught:
            rules("permit ip any any", line)
        assert words in str(caught.value)
        assert f'"{line}":' in str(caught.value)

    @given(st.text())
    def test_anything_is_understood_or_refused(self, text: str) -> None:
        for each in (
            text,
            f"permit {text}",
            f"permit tcp any {text}",
            f"permit tcp any any {text}",
        ):
            try:
                assert len(rules(each)) <= 1
            except ValueError as error:
                assert len(str(error)) < 1000

    def test_answers_and_remarks_need_no_rule(self) -> None:
        assert rules("permit tcp any any established", "remark that was it") == []


class ListTests:
    def test_lines_come_in_the_order_of_their_numbers(self) -> None:
        found = read_av_pairs(
            (
                "shell:priv-lvl=15",
                "ip:inacl#100=permit ip any any",
                "ip:inacl#9=deny ip any host 10.0.0.9",
                "webvpn:inacl#1=permit url http://www.example.com",
            )
        )
        assert found is not None
        assert [str(each) for each in found] == [
            "deny from_client any 10.0.0.9",
            "allow any",
            "deny any",
        ]

    def test_outacl_is_about_what_comes_to_the_client(self) -> None:
        found = read_av_pairs(
            (
                "ip:outacl#1=permit tcp host 10.0.0.9 eq 1000 10.99.0.0 0.0.0.255 eq 22",
                "ip:inacl#1=permit tcp any host 10.0.0.1",
            )
        )
        assert found is not None
        assert [str(each) for each in found] == [
            "allow tcp 10.0.0.1",
            "allow to_client tcp 10.0.0.9 port 22 source_port 1000 client 10.99.0.0/24",
            "deny any",
        ]

    def test_each_version_has_its_own_list_where_both_are_given(self) -> None:
        found = read_av_pairs(
            ("ip:inacl#1=permit ip any any", "ipv6:inacl#1=permit icmp any host fd00::1")
        )
        assert found is not None
        assert [str(each) for each in found] == [
            "allow any 0.0.0.0/0 client 0.0.0.0/0",
            "allow icmpv6 fd00::1 client ::/0",
            "deny any",
        ]

    def test_other_pairs_say_nothing(self) -> None:
        for values in ((), ("shell:priv-lvl=15",), ("webvpn:inacl#1=deny url any",)):
            assert read_av_pairs(values) is None

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (("ip:inacl=101",), 'is not like "ip:inacl#1=permit ip any any"'),
            (("ip:inacl#=permit ip any any",), "is not like"),
            (("ip:inacl#1",), "is not like"),
            (("IP:InACL#1=permit ip any any",), "is not like"),
            (("ip:outacl#1=permit ip any any",), "there is outacl without inacl"),
            (
                ("ip:inacl#1=permit ip any any", "ip:inacl#1=deny ip any any"),
                "there are two lines ip:inacl#1",
            ),
            (("ACS:CiscoSecure-Defined-ACL=#ACSACL#-IP-staff-5f",), "is not like"),
        ],
    )
    def test_lists_that_cannot_be_kept_to_are_refused(
        self, values: tuple[str, ...], words: str
    ) -> None:
        with pytest.raises(ValueError) as caught:
            read_av_pairs(values)
        assert words in str(caught.value)
