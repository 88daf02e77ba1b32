"""Group policies from the configuration, chosen by user, group and connection profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from ipaddress import IPv4Address
from types import MappingProxyType

import attrs
from zope.interface import implementer

from anyvpn.errors import AccessDenied
from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity, LoginRequest
from anyvpn.model.group_policy import Address, GroupPolicy, Network

# Ours
DENY = "deny"
"""The name that stands for "no session at all" wherever a policy is named."""
DEFAULT_POLICY = "default"

_DEFAULTS = GroupPolicy()


def _help(field_name: str, text: str) -> dict[str, object]:
    default = getattr(_DEFAULTS, field_name)
    if isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, (int, float)):
        shown = f"{default:g}"
    else:
        shown = "none"
    return {"help": f"{text} (default: {shown}).", "default": default}


@attrs.frozen
class PolicySettings:
    """One group policy; what is not given comes from `based_on`, or else is the default."""

    based_on: str = attrs.field(
        default="", metadata={"help": "The policy that gives what is not set here."}
    )
    address_pools: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("address_pools", "Pools of [addresses] to lend from; none: all of them"),
    )
    ipv4: bool | None = attrs.field(
        default=None, metadata=_help("ipv4", "Whether clients get an IPv4 address")
    )
    ipv6: bool | None = attrs.field(
        default=None, metadata=_help("ipv6", "Whether clients get an IPv6 address")
    )
    dns: tuple[Address, ...] | None = attrs.field(
        default=None, metadata=_help("dns", "Addresses of the DNS servers for clients")
    )
    nbns: tuple[IPv4Address, ...] | None = attrs.field(
        default=None, metadata=_help("nbns", "Addresses of the NetBIOS name servers for clients")
    )
    default_domain: str | None = attrs.field(
        default=None, metadata=_help("default_domain", "Domain that clients append to short names")
    )
    split_dns: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("split_dns", "Domains resolved through the tunnel; none: all of them"),
    )
    split_include: tuple[Network, ...] | None = attrs.field(
        default=None,
        metadata=_help("split_include", "Networks reached through the tunnel; none: everything"),
    )
    split_exclude: tuple[Network, ...] | None = attrs.field(
        default=None, metadata=_help("split_exclude", "Networks not reached through the tunnel")
    )
    exclude_local_lan: bool | None = attrs.field(
        default=None,
        metadata=_help("exclude_local_lan", "Whether the client's own network stays reachable"),
    )
    client_bypass_protocol: bool | None = attrs.field(
        default=None,
        metadata=_help(
            "client_bypass_protocol",
            "Whether an IP version without an address goes past the tunnel instead of nowhere",
        ),
    )
    banner: str | None = attrs.field(
        default=None, metadata=_help("banner", "Text shown to the user at every connection")
    )
    mtu_bytes: int | None = attrs.field(
        default=None,
        metadata=_help("mtu_bytes", "Largest outer packet, in bytes; 0: what the path allows"),
    )
    dtls: bool | None = attrs.field(
        default=None, metadata=_help("dtls", "Whether clients may use DTLS (UDP)")
    )
    compression: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help(
            "compression", "Compressions that clients may use, best first: oc-lz4, lzs, deflate"
        ),
    )
    dpd_s: float | None = attrs.field(
        default=None,
        metadata=_help("dpd_s", "Seconds of silence until a dead peer is probed for; 0: never"),
    )
    mobile_dpd_s: float | None = attrs.field(
        default=None, metadata=_help("mobile_dpd_s", "The same for phones and tablets, in seconds")
    )
    keepalive_s: float | None = attrs.field(
        default=None,
        metadata=_help("keepalive_s", "Seconds between a client's keepalives; 0: none"),
    )
    rekey_s: float | None = attrs.field(
        default=None, metadata=_help("rekey_s", "Seconds until keys are made anew; 0: never")
    )
    idle_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help("idle_timeout_s", "Seconds without data until a session ends; 0: never"),
    )
    session_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help("session_timeout_s", "Seconds after its login a session ends; 0: never"),
    )
    disconnected_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help(
            "disconnected_timeout_s", "Seconds that a client may be away and keep its session"
        ),
    )
    max_sessions_per_user: int | None = attrs.field(
        default=None,
        metadata=_help("max_sessions_per_user", "Sessions of one user at a time; 0: no limit"),
    )
    proxy: dict[str, str] | None = attrs.field(
        default=None,
        metadata=_help("proxy", "Proxy settings for the client's browser, by header name"),
    )
    dynamic_split_include: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("dynamic_split_include", "Domains whose addresses go through the tunnel"),
    )
    dynamic_split_exclude: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("dynamic_split_exclude", "Domains whose addresses go past the tunnel"),
    )

    def __attrs_post_init__(self) -> None:
        if self.max_sessions_per_user is not None and self.max_sessions_per_user < 0:
            raise ValueError("max_sessions_per_user must not be negative")
        self.laid_over(_DEFAULTS, _DEFAULTS.name)

    def laid_over(self, base: GroupPolicy, name: str) -> GroupPolicy:
        """The policy `name`: what is set here, the rest as in `base`. Raises ValueError."""
        given = {
            each.name: getattr(self, each.name)
            for each in fields(GroupPolicy)
            if each.name != "name" and getattr(self, each.name) is not None
        }
        if "proxy" in given:
            given["proxy"] = MappingProxyType(dict(given["proxy"]))
        return replace(base, name=name, **given)


@attrs.frozen
class Settings:
    """Named policies and who gets which; the user decides before group, profile and default."""

    policies: dict[str, PolicySettings] = attrs.field(
        factory=dict, metadata={"help": "The group policies, by name."}
    )
    default: str = attrs.field(
        default=DEFAULT_POLICY,
        metadata={"help": 'Policy of everybody else; "deny" refuses them.'},
    )
    by_profile: dict[str, str] = attrs.field(
        factory=dict, metadata={"help": 'Connection profile to policy, or to "deny".'}
    )
    by_group: dict[str, str] = attrs.field(
        factory=dict,
        metadata={"help": 'Group to policy, or to "deny"; the first that a user is in decides.'},
    )
    by_user: dict[str, str] = attrs.field(
        factory=dict, metadata={"help": 'User to policy, or to "deny".'}
    )

    def __attrs_post_init__(self) -> None:
        problems = [*self._wrong_names(), *self._loops()]
        if not problems:
            problems = [*self._wrong_values()]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def policy_names(self) -> frozenset[str]:
        """Every policy there is; the default one needs no table of its own."""
        return frozenset((*self.policies, DEFAULT_POLICY))

    def resolved(self) -> dict[str, GroupPolicy]:
        """Every policy with all that it inherits. Raises ValueError."""
        return {name: self._resolve(name) for name in sorted(self.policy_names)}

    def _resolve(self, name: str) -> GroupPolicy:
        settings = self.policies.get(name)
        if settings is None:
            return replace(_DEFAULTS, name=name)
        base = self._resolve(settings.based_on) if settings.based_on else _DEFAULTS
        return settings.laid_over(base, name)

    def _wrong_names(self) -> Iterator[str]:
        if DENY in self.policies:
            yield f'policies: "{DENY}" stands for refusal and cannot be the name of a policy'
        named: list[tuple[str, Mapping[str, str], frozenset[str]]] = [
            ("by_profile", self.by_profile, frozenset((DENY,))),
            ("by_group", self.by_group, frozenset((DENY,))),
            ("by_user", self.by_user, frozenset((DENY,))),
            ("default", {"": self.default}, frozenset((DENY,))),
            (
                "based_on",
                {name: each.based_on for name, each in self.policies.items() if each.based_on},
                frozenset(),
            ),
        ]
        for key, mapping, also in named:
            for owner, policy in mapping.items():
                if policy not in self.policy_names | also:
                    close = get_close_matches(policy, self.policy_names, n=1)
                    hint = f', did you mean "{close[0]}"?' if close else ""
                    whose = f"{key} of {owner}" if owner else key
                    yield f'{whose}: there is no policy "{policy}"{hint}'

    def _loops(self) -> Iterator[str]:
        for start in self.policies:
            seen = [start]
            while (base := self._base_of(seen[-1])) and base not in seen:
                seen.append(base)
            if base == start:
                yield f"policies: {' is based on '.join([*seen, start])}: a loop"

    def _base_of(self, name: str) -> str:
        settings = self.policies.get(name)
        return settings.based_on if settings is not None else ""

    def _wrong_values(self) -> Iterator[str]:
        for name in self.policies:
            try:
                self._resolve(name)
            except ValueError as error:
                yield f"policies.{name}: {error}"


def build(settings: Settings, reactor: object) -> StaticAuthorizer:  # noqa: ARG001 - no clock needed
    """What the configuration `backend = "static"` makes."""
    return StaticAuthorizer(settings)


@implementer(IAuthorizer)
class StaticAuthorizer:
    """Looks policies up; all of them are made once, at the start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policies = settings.resolved()

    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        """The policy of user, first matching group, profile or everybody, in this order.

        Raises: AccessDenied: what decides says "deny".
        """
        name, because = self._decide(identity, request)
        if name == DENY:
            raise AccessDenied(f"{identity.user} is denied by {because}")
        return self._policies[name]

    def _decide(self, identity: Identity, request: LoginRequest) -> tuple[str, str]:
        settings = self._settings
        if identity.user in settings.by_user:
            return settings.by_user[identity.user], "by_user"
        for group, name in settings.by_group.items():
            if group in identity.groups:
                return name, f"by_group of {group}"
        if request.profile in settings.by_profile:
            return settings.by_profile[request.profile], f"by_profile of {request.profile}"
        return settings.default, "default"
