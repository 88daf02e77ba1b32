from __future__ import annotations

import unittest
from dataclasses import fields, replace
from datetime import datetime
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from twisted.trial.unittest import TestCase

from anyvpn.backends.authorizer_static import Settings, StaticAuthorizer, build
from anyvpn.backends.authorizer_static_policies import PolicySettings
from anyvpn.errors import AccessDenied
from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy, origins
from anyvpn.testing.authorizer_contract import LayeredAuthorizerContract
from anyvpn.testing.dialogue import A_REQUEST
from anyvpn.testing.outcomes import completed


def policy_of(
    settings: Settings, user: str = "alice", *groups: str, profile: str = "staff"
) -> GroupPolicy:
    request = replace(A_REQUEST, profile=profile)
    return completed(build(settings, None).authorize(Identity(user, frozenset(groups)), request))


class StaticAuthorizerContractTests(LayeredAuthorizerContract, TestCase):
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

    def test_however_a_user_s_name_is_written_it_is_one(self) -> None:
        """Servers that know no case let Mallory in as "MALLORY"."""
        settings = Settings(by_user={"Mallory": "deny"})
        for name in ("mallory", "MALLORY", "mallory "):
            with pytest.raises(AccessDenied, match="is denied by by_user of Mallory"):
                policy_of(settings, name)

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
            "ipv4_address": ip_address("10.0.0.7"),
            "ipv6_address": ip_address("fd00::7"),
            "dns": (ip_address("::1"),),
            "nbns": (ip_address("10.0.0.1"),),
            "split_include": (ip_network("10.0.0.0/8"),),
            "split_exclude": (ip_network("10.1.0.0/16"),),
            "compression": ("lzs",),
            "proxy": {"MSIE-Proxy-Server": "proxy.example:3128"},
            "client_networks": (ip_network("10.5.0.0/16"),),
            "filters": ("allow tcp 10.0.0.0/8 port 443",),
        }
        names = [each.name for each in fields(GroupPolicy) if each.name != "name"]
        assert {each.name for each in attrs.fields(PolicySettings)} == {
            *(*names, "based_on", "access_hours")
        }
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
            assert (tuple(map(str, got)) if name == "filters" else got) == value, name
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

    def test_two_spellings_of_a_user_are_told(self) -> None:
        text = self.refusal(by_user={"bob": "default", "Bob": "deny"})
        assert text == "by_user: bob and Bob are the same user"

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


class LayerTests(unittest.TestCase):
    """The one order: default, profile, group, attribute, user, and single attributes on top."""

    def setUp(self) -> None:
        self.settings = Settings(
            policies={
                "all": PolicySettings(dpd_s=1.0, keepalive_s=1.0, rekey_s=1.0, idle_timeout_s=1.0),
                "p": PolicySettings(keepalive_s=2.0, rekey_s=2.0, idle_timeout_s=2.0),
                "g": PolicySettings(rekey_s=3.0, idle_timeout_s=3.0, banner="group"),
                "a": PolicySettings(idle_timeout_s=4.0, banner="attribute"),
                "u": PolicySettings(banner="user"),
            },
            default="all",
            by_profile={"staff": "p"},
            by_group={"lab": "g"},
            by_attribute={"department": {"7": "a", "8": "deny"}},
            by_user={"alice": "u", "bob": "g"},
            attribute_map={"banner": "banner", "routes": "split_include"},
        )

    def authorize(self, user: str, *groups: str, **attributes: tuple[str, ...]) -> GroupPolicy:
        names = {key.replace("_", "-"): values for key, values in attributes.items()}
        identity = Identity(user, frozenset(groups), MappingProxyType(names))
        return completed(build(self.settings, None).authorize(identity, A_REQUEST))

    def test_each_rule_lays_its_policy_over_those_before(self) -> None:
        policy = self.authorize("alice", "lab", department=("7",))
        assert policy == GroupPolicy(
            "u", dpd_s=1.0, keepalive_s=2.0, rekey_s=3.0, idle_timeout_s=4.0, banner="user"
        )

    def test_single_attributes_are_on_top(self) -> None:
        policy = self.authorize(
            "alice", "lab", banner=("hello",), routes=("10.0.0.0/8", "fd00::/8")
        )
        assert policy.banner == "hello"
        assert policy.split_include == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
        assert policy.name == "u"

    def test_the_strongest_rule_decides_about_deny(self) -> None:
        with pytest.raises(AccessDenied, match="denied by by_attribute of department"):
            self.authorize("carol", "lab", department=("8",))
        assert self.authorize("alice", department=("8",)).name == "u"

    def test_what_each_rule_gives_is_told(self) -> None:
        identity = Identity("alice", frozenset(("lab",)), MappingProxyType({"banner": ("x",)}))
        name, layers = completed(build(self.settings, None).layers(identity, A_REQUEST))
        assert name == "u"
        assert origins(layers) == {
            "dpd_s": "default: policy all",
            "keepalive_s": "by_profile of staff: policy p",
            "rekey_s": "by_group of lab: policy g",
            "idle_timeout_s": "by_group of lab: policy g",
            "banner": "attribute banner",
        }

    def test_sessions_of_the_same_rules_share_a_policy(self) -> None:
        made = build(self.settings, None)
        first, second = (
            completed(made.authorize(Identity(user, frozenset(("lab",))), A_REQUEST))
            for user in ("carol", "dora")
        )
        assert first is second
        other = completed(made.authorize(Identity("carol"), A_REQUEST))
        assert other is not first and other.name == "p"

    def test_values_that_cannot_be_are_denied(self) -> None:
        with pytest.raises(AccessDenied, match="attribute routes cannot be split_include"):
            self.authorize("alice", routes=("all of it",))


class RADIUSTests(unittest.TestCase):
    def authorize(self, settings: Settings, attributes: dict[str, tuple[str, ...]]) -> GroupPolicy:
        identity = Identity("alice", attributes=MappingProxyType(attributes))
        return completed(build(settings, None).authorize(identity, A_REQUEST))

    def test_reply_attributes_mean_what_they_always_mean(self) -> None:
        policy = self.authorize(
            Settings(),
            {
                "Framed-IP-Address": ("10.77.0.9",),
                "Framed-IPv6-Address": ("fd77::9",),
                "Framed-Route": ("10.1.0.0/16 0.0.0.0 1", "10.2.3.4/16"),
                "Framed-IPv6-Route": ("fd01::/16 :: 1",),
                "Session-Timeout": ("3600",),
                "Idle-Timeout": ("60",),
                "MS-Primary-DNS-Server": ("10.0.0.1",),
                "MS-Secondary-DNS-Server": ("10.0.0.2",),
                "ASA-Banner1": ("Hello",),
                "Reply-Message": ("welcome",),
            },
        )
        assert policy == GroupPolicy(
            "default",
            ipv4_address=ip_address("10.77.0.9"),  # type: ignore[arg-type]
            ipv6_address=ip_address("fd77::9"),  # type: ignore[arg-type]
            split_include=tuple(map(ip_network, ("10.1.0.0/16", "10.2.0.0/16", "fd01::/16"))),
            session_timeout_s=3600.0,
            idle_timeout_s=60.0,
            dns=(ip_address("10.0.0.1"), ip_address("10.0.0.2")),
            banner="Hello",
        )

    def test_a_route_by_the_user_s_own_address_lies_behind_it(self) -> None:
        given = {
            "Framed-IP-Address": ("10.77.0.9",),
            "Framed-IPv6-Address": ("fd77::9",),
            "Framed-Route": ("10.5.0.0/16 10.77.0.9 1", "10.1.0.0/16", "10.2.0.0/16 10.77.0.1"),
            "Framed-IPv6-Route": ("fd05::/48 fd77:0::9", "fd01::/48 ::"),
            "Delegated-IPv6-Prefix": ("fd06::/48",),
        }
        policy = self.authorize(Settings(), given)
        behind = ("10.5.0.0/16", "fd05::/48", "fd06::/48")
        assert set(policy.client_networks) == set(map(ip_network, behind))
        include = ("10.1.0.0/16", "10.2.0.0/16", "fd01::/48")
        assert policy.split_include == tuple(map(ip_network, include))
        del given["Framed-IP-Address"]
        assert ip_network("10.5.0.0/16") in self.authorize(Settings(), given).split_include

    def test_a_prefix_is_an_address_when_it_is_whole(self) -> None:
        identifier = "0x" + bytes((0, 1, 0, 2, 0, 3, 0, 4)).hex()
        for given, address, networks in (
            ({"Framed-IPv6-Prefix": ("fd77::9/128",)}, "fd77::9", ()),
            (
                {"Framed-IPv6-Prefix": ("fd77::/64",), "Framed-Interface-Id": (identifier,)},
                "fd77::1:2:3:4",
                (),
            ),
            (
                {
                    "Framed-IPv6-Prefix": ("fd07::/64", "fd77::9/128"),
                    "Framed-IPv6-Address": ("fd77::8",),
                },
                "fd77::8",
                ("fd07::/64",),
            ),
        ):
            policy = self.authorize(Settings(), given)
            assert policy.ipv6_address == ip_address(address)
            assert policy.client_networks == tuple(map(ip_network, networks))

    def test_addresses_that_are_left_to_us_are_none(self) -> None:
        for text in ("255.255.255.254", "255.255.255.255"):
            assert self.authorize(Settings(), {"Framed-IP-Address": (text,)}).ipv4_address is None

    def test_class_names_a_policy_when_there_is_one(self) -> None:
        settings = Settings(policies={"vip": PolicySettings(banner="vip")})
        for value in ("OU=vip;", "ou=vip", "0x" + b"OU=vip;".hex()):
            assert self.authorize(settings, {"Class": (value,)}).banner == "vip"
        for value in ("OU=other;", "vip", "0xff", ""):
            assert self.authorize(settings, {"Class": (value,)}).name == "default"
        assert self.authorize(settings, {"ASA-Group-Policy": ("vip",)}).name == "vip"
        with pytest.raises(AccessDenied, match="ASA-Group-Policy names no policy of ours: other"):
            self.authorize(settings, {"ASA-Group-Policy": ("other",)})

    def test_they_mean_nothing_when_they_shall_not(self) -> None:
        settings = Settings(policies={"vip": PolicySettings()}, radius_attributes=False)
        given = {"Class": ("OU=vip",), "Session-Timeout": ("60",)}
        assert self.authorize(settings, given) == GroupPolicy()

    def test_hostile_values_are_denied(self) -> None:
        for name, text in (
            ("Framed-IP-Address", "10.0.0.300"),
            ("Framed-Route", ""),
            ("Framed-Route", "0.0.0.0/33"),
            ("Session-Timeout", "soon"),
            ("Session-Timeout", "-1"),
            ("Session-Timeout", "nan"),
            ("MS-Primary-DNS-Server", "dns.example.com"),
            ("Framed-IPv6-Prefix", "fd00::/129"),
            ("Delegated-IPv6-Prefix", "::/0"),
            ("Delegated-IPv6-Prefix", "0x00"),
        ):
            with pytest.raises(AccessDenied):
                self.authorize(Settings(), {name: (text,)})
        for given in (
            {"Framed-IPv6-Prefix": ("fd00::/64", "fd01::/64"), "Framed-Interface-Id": ("0x01",)},
            {"Framed-IPv6-Prefix": ("fd00::1/128", "fd00::2/128")},
            {"Framed-IPv6-Prefix": ("fd00::/72",), "Framed-Interface-Id": ("0x" + "00" * 8,)},
        ):
            with pytest.raises(AccessDenied, match="attribute Framed-I"):
                self.authorize(Settings(), given)
        with pytest.raises(AccessDenied, match="there are 2 values"):
            self.authorize(Settings(), {"Session-Timeout": ("1", "2")})


class FilterTests(unittest.TestCase):
    def filters(self, settings: Settings, **attributes: tuple[str, ...]) -> list[str]:
        names = {key.replace("_", "-"): values for key, values in attributes.items()}
        identity = Identity("alice", attributes=MappingProxyType(names))
        policy = completed(build(settings, None).authorize(identity, A_REQUEST))
        return [str(each) for each in policy.filters]

    def refusal(self, settings: Settings, **attributes: tuple[str, ...]) -> str:
        with pytest.raises(AccessDenied) as caught:
            self.filters(settings, **attributes)
        return str(caught.value)

    def test_rules_of_a_policy_that_are_wrong_name_what_would_be_right(self) -> None:
        with pytest.raises(ValueError, match='filters: "allow tpc any": "tpc" is no protocol'):
            PolicySettings(filters=("allow tcp any", "allow tpc any"))
        with pytest.raises(ValueError, match=r'filter_lists\.web: "open": a rule'):
            Settings(filter_lists={"web": ("open",)})

    def test_a_policy_may_take_the_rules_of_another_away(self) -> None:
        settings = Settings(
            policies={
                "closed": PolicySettings(filters=("deny any",)),
                "open": PolicySettings(based_on="closed", filters=()),
            },
            default="closed",
            by_attribute={"department": {"7": "open"}},
        )
        assert self.filters(settings) == ["deny any"]
        assert self.filters(settings, department=("7",)) == []

    def test_cisco_s_lists_are_rules(self) -> None:
        lines = ("ip:inacl#2=permit tcp any host 10.1.1.1 eq 443", "shell:priv-lvl=1")
        assert self.filters(Settings(), Cisco_AVPair=lines) == [
            "allow tcp 10.1.1.1 port 443",
            "deny any",
        ]
        assert self.filters(Settings(), Cisco_AVPair=("shell:priv-lvl=1",)) == []
        text = self.refusal(Settings(), Cisco_AVPair=("ip:inacl#2=permit http any any",))
        assert text == (
            'attribute Cisco-AVPair cannot be filters: "permit http any any": "http" is no protocol'
        )

    def test_filter_id_names_a_list(self) -> None:
        settings = Settings(
            policies={"vip": PolicySettings(banner="vip")},
            filter_lists={"web": ("allow tcp any port 80", "deny any"), "dns": ("allow udp any",)},
            by_attribute={"Filter-Id": {"vip": "vip"}},
        )
        web = ["allow tcp port 80", "deny any"]
        assert self.filters(settings, Filter_Id=("web",)) == web
        assert self.filters(settings, Filter_Id=("web.in", "vip")) == web
        assert self.filters(settings, Filter_Id=("vip",)) == []
        for values, words in (
            (("wbe",), 'there is no list "wbe" in filter_lists'),
            (("web.out",), 'there is no list "web.out"'),
            (("web", "dns"), "it names more than one list"),
        ):
            assert words in self.refusal(settings, Filter_Id=values)

    def test_filter_id_may_be_what_the_groups_come_from(self) -> None:
        identity = Identity(
            "alice", frozenset(("staff",)), MappingProxyType({"Filter-Id": ("staff",)})
        )
        policy = completed(build(Settings(), None).authorize(identity, A_REQUEST))
        assert policy.filters == ()

    def test_two_attributes_that_say_what_passes_are_one_too_many(self) -> None:
        settings = Settings(
            filter_lists={"web": ("allow tcp any",)}, attribute_map={"a": "filters"}
        )
        pairs = ("ip:inacl#1=permit ip any any",)
        text = self.refusal(settings, Filter_Id=("web",), Cisco_AVPair=pairs)
        assert text == "attributes Cisco-AVPair and Filter-Id both say what passes"
        text = self.refusal(settings, Filter_Id=("web",), a=("allow any",))
        assert text == "attributes Filter-Id and a both say what passes"

    def test_rules_of_nas_filter_rule_are_refused(self) -> None:
        text = self.refusal(Settings(), NAS_Filter_Rule=("permit in ip from any to any",))
        assert "only Cisco-AVPair and Filter-Id are understood" in text

    def test_they_mean_nothing_when_they_shall_not(self) -> None:
        settings = Settings(radius_attributes=False)
        assert self.filters(settings, Filter_Id=("web",), NAS_Filter_Rule=("x",)) == []

    def test_a_directory_s_values_are_rules(self) -> None:
        settings = Settings(attribute_map={"vpnFilter": "filters"})
        rules = ["allow tcp 10.0.0.0/8 port 443", "deny any"]
        assert self.filters(settings, vpnFilter=("; ".join(rules),)) == rules
        assert self.filters(settings, vpnFilter=("\n".join(rules),)) == rules
        both = ("allow tcp 10.0.0.0/8", "allow udp 10.0.0.0/8; allow icmp 10.0.0.0/8")
        assert len(self.filters(settings, vpnFilter=both)) == 3
        cisco = ("ip:inacl#2=permit ip any any", "ip:inacl#1=deny ip any host 10.0.0.9")
        assert self.filters(settings, vpnFilter=cisco)[:1] == ["deny from_client any 10.0.0.9"]

    def test_a_directory_s_values_have_no_order(self) -> None:
        settings = Settings(attribute_map={"vpnFilter": "filters"})
        for values, words in (
            (("allow any", "deny tcp any"), "belong into one value, with ; between"),
            (("allow tpc any",), '"tpc" is no protocol'),
            (("",), "there is no rule"),
            ((" ; ",), "there is no rule"),
            (("ip:inacl#1=open",), 'it begins with "open"'),
        ):
            text = self.refusal(settings, vpnFilter=values)
            assert text.startswith("attribute vpnFilter cannot be filters: ")
            assert words in text


class AccessHoursTests(unittest.TestCase):
    def authorize(self, now: datetime, **policy: Any) -> GroupPolicy:
        settings = Settings(policies={"default": PolicySettings(**policy)})
        authorizer = StaticAuthorizer(settings, lambda: now)
        return completed(authorizer.authorize(Identity("alice"), A_REQUEST))

    def test_a_session_ends_with_the_hours(self) -> None:
        monday = datetime(2026, 11, 23, 18, 30)
        office = ("Mon-Fri 07:00-19:00",)
        assert self.authorize(monday, access_hours=office).session_timeout_s == 1800.0
        shorter = self.authorize(monday, access_hours=office, session_timeout_s=600.0)
        assert shorter.session_timeout_s == 600.0

    def test_outside_of_them_nobody_gets_in(self) -> None:
        sunday = datetime(2026, 11, 22, 12, 0)
        with pytest.raises(AccessDenied, match="outside of the access hours Mon-Fri"):
            self.authorize(sunday, access_hours=("Mon-Fri 07:00-19:00",))
        assert self.authorize(sunday, access_hours=()) == GroupPolicy()

    def test_a_stronger_policy_has_its_own_hours(self) -> None:
        settings = Settings(
            policies={
                "default": PolicySettings(access_hours=("Mon 00:00-00:01",)),
                "admins": PolicySettings(access_hours=()),
            },
            by_user={"root": "admins"},
        )
        authorizer = StaticAuthorizer(settings, lambda: datetime(2026, 11, 22, 12, 0))
        assert completed(authorizer.authorize(Identity("root"), A_REQUEST)).name == "admins"
