from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.packet_filter import (
    ICMP,
    ICMPV6,
    MOST_RANGES,
    MOST_RULES,
    TCP,
    UDP,
    Direction,
    FilterRule,
)

ranges = st.tuples(st.integers(0, 200), st.integers(200, 255)).map(lambda ends: (ends,))
networks = st.sampled_from(
    [None, IPv4Network("10.0.0.0/8"), IPv4Network("10.1.2.3/32"), IPv4Network("0.0.0.0/0")]
)
rules = st.one_of(
    st.builds(
        FilterRule,
        st.booleans(),
        st.sampled_from(Direction),
        st.one_of(st.none(), st.integers(0, 255)),
        networks,
        client_network=networks,
    ),
    st.builds(
        FilterRule,
        st.booleans(),
        st.sampled_from(Direction),
        st.sampled_from([TCP, UDP]),
        networks,
        ranges,
        ranges,
        networks,
    ),
    st.builds(
        FilterRule,
        st.booleans(),
        st.just(Direction.BOTH),
        st.sampled_from([ICMP, ICMPV6]),
        networks,
        ranges,
    ),
)


class RuleTextTests:
    @given(rules)
    def test_what_is_written_is_read(self, rule: FilterRule) -> None:
        assert FilterRule.read(str(rule)) == rule

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            (
                "allow tcp 10.0.0.0/8 port 443",
                FilterRule(
                    True, protocol=TCP, network=IPv4Network("10.0.0.0/8"), ports=((443, 443),)
                ),
            ),
            ("deny any", FilterRule(False, Direction.BOTH)),
            ("deny from_client any", FilterRule(False, Direction.FROM_CLIENT)),
            ("allow 47 any", FilterRule(True, protocol=47)),
            (
                "  allow   both icmp  any type 8,0 ",
                FilterRule(True, Direction.BOTH, ICMP, None, ((8, 8), (0, 0))),
            ),
            (
                "allow to_client udp fd00::1 port 1-2,7 source_port 5 client fd01::/64",
                FilterRule(
                    True,
                    Direction.TO_CLIENT,
                    UDP,
                    IPv6Network("fd00::1/128"),
                    ((1, 2), (7, 7)),
                    ((5, 5),),
                    IPv6Network("fd01::/64"),
                ),
            ),
            ("allow icmpv6", FilterRule(True, protocol=ICMPV6)),
        ],
    )
    def test_texts_mean_rules(self, text: str, rule: FilterRule) -> None:
        assert FilterRule.read(text) == rule

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "begins with allow or deny"),
            ("permit tcp any", 'such as "allow tcp 10.0.0.0/8 port 443"'),
            ("ALLOW tcp any", "begins with allow or deny"),
            ("allow", "its protocol is missing"),
            ("allow both", "its protocol is missing"),
            ("allow tpc any", '"tpc" is no protocol: there are any, tcp, udp, icmp, icmpv6 and'),
            ("allow 10.0.0.0/8", '"10.0.0.0/8" is no protocol'),
            ("allow 256 any", "between 0 and 255"),
            ("allow tcp 10.0.0.1/8 port 1", '10.0.0.1/8 has host bits set; use "10.0.0.0/8"'),
            ("allow tcp example.com", '"example.com" is no network, such as'),
            ("allow tcp fe80::1%eth0", "is no network"),
            ("allow tcp any port", 'nothing follows "port"'),
            ("allow tcp any port http", '"http" is no number and no range'),
            ("allow tcp any port 1-2-3", "is no number and no range"),
            ("allow tcp any port 1,", '"" is no number'),
            ("allow tcp any port 9-8", "9-8 is no range within 0-65535"),
            ("allow tcp any port 65536", "65536-65536 is no range"),
            ("allow tcp any port ٣", "is no number"),
            ("allow icmp any type 256", "within 0-255"),
            ("allow icmp any port 8", '"port" is not understood; after the network come type'),
            ("allow any any port 8", "only tcp and udp have ports"),
            ("allow icmp any source_port 8", "only tcp and udp have source ports"),
            ("allow tcp any source_port 8 port 9", '"port" is not understood'),
            ("allow tcp any 10.0.0.0/8", '"10.0.0.0/8" is not understood'),
            ("allow tcp 10.0.0.0/8 client fd00::/8", "of one IP version"),
            ("allow tcp any port " + ",".join("1" * (MOST_RANGES + 1)), "at most 32 ranges"),
        ],
    )
    def test_mistakes_are_named(self, text: str, words: str) -> None:
        with pytest.raises(ValueError) as caught:
            FilterRule.read(text)
        assert words in str(caught.value)
        assert f'"{text[:50]}' in str(caught.value)

    @given(st.text())
    def test_anything_else_is_a_mistake(self, text: str) -> None:
        for each in (text, f"allow tcp {text}", f"deny {text}"):
            try:
                FilterRule.read(each)
            except ValueError as error:
                assert len(str(error)) < 1000

    def test_a_policy_has_so_many_rules(self) -> None:
        rule = FilterRule(True)
        GroupPolicy(filters=(rule,) * MOST_RULES)
        with pytest.raises(ValueError, match="filters: 1001 rules are more than 1000"):
            GroupPolicy(filters=(rule,) * (MOST_RULES + 1))

    def test_a_policy_has_no_texts_for_rules(self) -> None:
        texts: tuple[Any, ...] = ("allow any",)
        with pytest.raises(ValueError, match="filters: each must be a FilterRule"):
            GroupPolicy(filters=texts)
