from __future__ import annotations

import unittest
from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from twisted.trial.unittest import TestCase

from anyvpn.backends.authorizer_static import PolicySettings, Settings, build
from anyvpn.errors import AccessDenied
from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.testing.authorizer_contract import AuthorizerContract
from anyvpn.testing.dialogue import A_REQUEST
from anyvpn.testing.outcomes import completed


def policy_of(
    settings: Settings, user: str = "alice", *groups: str, profile: str = "staff"
) -> GroupPolicy:
    request = replace(A_REQUEST, profile=profile)
    return completed(build(settings, None).authorize(Identity(user, frozenset(groups)), request))


class StaticAuthorizerContractTests(AuthorizerContract, TestCase):
    policies = MappingProxyType(
        {
            Identity("alice"): "default",
            Identity("root"): "admins",
            Identity("bob", frozenset(("lab",))): "lab",
        }
    )
    denied = (Identity("mallory"), Identity("eve", frozenset(("left",))))

    def make_authorizer(self) -> IAuthorizer:
        return build(
            Settings(
                policies={"admins": PolicySettings(), "lab": PolicySettings()},
                by_user={"root": "admins", "mallory": "deny"},
                by_group={"left": "deny", "lab": "lab"},
            ),
            None,
        )


class PrecedenceTests(unittest.TestCase):
    def setUp(self) -> None:
        self.settings = Settings(
            policies={name: PolicySettings() for name in ("u", "g1", "g2", "p", "d")},
            default="d",
            by_profile={"staff": "p"},
            by_group={"second": "g2", "first": "g1"},
            by_user={"root": "u"},
        )

    def test_user_goes_before_group(self) -> None:
        assert policy_of(self.settings, "root", "first").name == "u"

    def test_first_group_of_the_file_goes_before_the_next(self) -> None:
        assert policy_of(self.settings, "alice", "first", "second").name == "g2"

    def test_group_goes_before_profile(self) -> None:
        assert policy_of(self.settings, "alice", "first").name == "g1"

    def test_profile_goes_before_default(self) -> None:
        assert policy_of(self.settings).name == "p"
        assert policy_of(self.settings, profile="guests").name == "d"

    def test_deny_of_a_user_says_where_it_stands(self) -> None:
        settings = Settings(by_group={"left": "deny"})
        with pytest.raises(AccessDenied, match="alice is denied by by_group of left"):
            policy_of(settings, "alice", "left")

    def test_default_may_deny(self) -> None:
        settings = Settings(default="deny", by_user={"root": "default"})
        assert policy_of(settings, "root").name == "default"
        with pytest.raises(AccessDenied, match="denied by default"):
            policy_of(settings)


class InheritanceTests(unittest.TestCase):
    def test_nothing_configured_gives_the_model_s_defaults(self) -> None:
        assert policy_of(Settings()) == GroupPolicy()

    def test_values_come_from_self_then_base_then_default(self) -> None:
        settings = Settings(
            policies={
                "base": PolicySettings(
                    dns=(ip_address("10.0.0.53"),), dpd_s=5.0, banner="hello", dtls=False
                ),
                "middle": PolicySettings(based_on="base", dpd_s=7.0, split_dns=("a.example",)),
                "top": PolicySettings(based_on="middle", banner="", dtls=True),
            },
            default="top",
        )
        assert policy_of(settings) == GroupPolicy(
            name="top",
            dns=(ip_address("10.0.0.53"),),
            dpd_s=7.0,
            split_dns=("a.example",),
            banner="",
            dtls=True,
        )

    def test_default_policy_can_be_a_base_without_a_table(self) -> None:
        settings = Settings(
            policies={"a": PolicySettings(based_on="default", rekey_s=0.0)}, default="a"
        )
        assert policy_of(settings).rekey_s == 0.0

    def test_every_field_of_a_policy_can_be_set(self) -> None:
        values = {
            "address_pools": ("a",),
            "dns": (ip_address("::1"),),
            "nbns": (ip_address("10.0.0.1"),),
            "split_include": (ip_network("10.0.0.0/8"),),
            "split_exclude": (ip_network("10.1.0.0/16"),),
            "compression": ("lzs",),
            "proxy": {"MSIE-Proxy-Server": "proxy.example:3128"},
        }
        names = [each.name for each in fields(GroupPolicy) if each.name != "name"]
        assert {each.name for each in attrs.fields(PolicySettings)} == {*names, "based_on"}
        for name in names:
            default = getattr(GroupPolicy(), name)
            match default:
                case _ if name in values:
                    value: Any = values[name]
                case bool():
                    value = not default
                case float():
                    value = default + 1
                case int():
                    value = 1400
                case str():
                    value = "text"
                case _:
                    value = ("a.example",)
            settings = Settings({"p": PolicySettings(**{name: value})}, default="p")
            got = getattr(policy_of(settings), name)
            assert got == value, name
            assert got != default, name


class RefusalTests(unittest.TestCase):
    def refusal(self, **settings: object) -> str:
        with pytest.raises(ValueError) as caught:
            Settings(**settings)  # type: ignore[arg-type]
        return str(caught.value)

    def test_loop_is_refused(self) -> None:
        policies = {
            "a": PolicySettings(based_on="b"),
            "b": PolicySettings(based_on="a"),
            "c": PolicySettings(based_on="a"),
            "d": PolicySettings(based_on="d"),
        }
        text = self.refusal(policies=policies)
        assert "a is based on b is based on a: a loop" in text
        assert "d is based on d: a loop" in text
        assert "c is based on" not in text

    def test_unknown_policies_are_told_all_at_once_with_the_likely_one(self) -> None:
        text = self.refusal(
            policies={"engineering": PolicySettings(based_on="deny")},
            default="defualt",
            by_profile={"staff": "x"},
            by_group={"dev": "enginering"},
            by_user={"bob": "y"},
        )
        assert 'default: there is no policy "defualt", did you mean "default"?' in text
        assert 'by_profile of staff: there is no policy "x"' in text
        assert 'by_group of dev: there is no policy "enginering", did you mean "engin' in text
        assert 'by_user of bob: there is no policy "y"' in text
        assert 'based_on of engineering: there is no policy "deny"' in text

    def test_no_policy_may_be_called_deny(self) -> None:
        assert "cannot be the name" in self.refusal(policies={"deny": PolicySettings()})

    def test_bad_values_are_refused_where_they_stand(self) -> None:
        for values, words in (
            ({"dpd_s": -1.0}, "dpd_s must lie between"),
            ({"mtu_bytes": 100}, "mtu_bytes must be 0 or lie between"),
            ({"ipv4": False, "ipv6": False}, "must allow IPv4 or IPv6"),
            ({"max_sessions_per_user": -1}, "must not be negative"),
        ):
            with pytest.raises(ValueError, match=words):
                PolicySettings(**values)

    def test_values_that_clash_with_inherited_ones_are_refused(self) -> None:
        text = self.refusal(
            policies={
                "six": PolicySettings(ipv4=False),
                "none": PolicySettings(based_on="six", ipv6=False),
            }
        )
        assert "policies.none: a policy must allow IPv4 or IPv6" in text
