"""A policy that makes no sense cannot be made."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from anyvpn.model.group_policy import PROXY_SETTINGS, GroupPolicy


class GroupPolicyTests:
    def test_defaults_are_allowed(self) -> None:
        assert GroupPolicy().ipv4 and GroupPolicy().ipv6

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"dpd_s": -1.0}, "dpd_s"),
            ({"rekey_s": float("nan")}, "rekey_s"),
            ({"idle_timeout_s": float("inf")}, "idle_timeout_s"),
            ({"mtu_bytes": 575}, "mtu_bytes"),
            ({"mtu_bytes": 9001}, "mtu_bytes"),
            ({"ipv4": False, "ipv6": False}, "IPv4 or IPv6"),
            ({"compression": ("lzs", "lz4")}, "'lz4' is not one of oc-lz4, lzs, deflate"),
            ({"proxy": MappingProxyType({"Proxy": "x"})}, "'Proxy' is not one of"),
        ],
    )
    def test_impossible_value_is_named(self, wrong: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            GroupPolicy(**wrong)  # type: ignore[arg-type]

    def test_borders_are_allowed(self) -> None:
        for mtu_bytes in (0, 576, 9000):
            assert GroupPolicy(mtu_bytes=mtu_bytes).mtu_bytes == mtu_bytes
        GroupPolicy(proxy=MappingProxyType(dict.fromkeys(PROXY_SETTINGS, "x")))
