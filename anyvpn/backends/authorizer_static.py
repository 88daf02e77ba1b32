"""Group policies from the configuration, by connection profile, group, user and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
from zope.interface import implementer

from anyvpn.backends.authorizer_static_attributes import READERS, Given, attribute_layers, values_of
from anyvpn.backends.authorizer_static_hours import AccessHours, seconds_left
from anyvpn.backends.authorizer_static_policies import PolicySettings
from anyvpn.backends.authorizer_static_radius import policy_named_by, radius_values
from anyvpn.errors import AccessDenied
from anyvpn.interfaces import ILayeredAuthorizer
from anyvpn.model.authentication import Identity, LoginRequest
from anyvpn.model.credentials import folded_name
from anyvpn.model.group_policy import GroupPolicy, PolicyLayer, merge
from anyvpn.model.packet_filter import check_rules, read_rules

# Ours
DENY = "deny"
"""The name that stands for "no session at all" wherever a policy is named."""
DEFAULT_POLICY = "default"
MOST_MERGED = 10_000


@attrs.frozen
class Settings:
    """Named policies and who gets which; each rule lays its policy over that of the ones before."""

    policies: dict[str, PolicySettings] = attrs.field(
        factory=dict, metadata={"help": "The group policies, by name."}
    )
    default: str = attrs.field(
        default=DEFAULT_POLICY,
        metadata={"help": 'Policy of everybody; "deny" refuses whom no other rule lets in.'},
    )
    by_profile: dict[str, str] = attrs.field(
        factory=dict, metadata={"help": 'Connection profile to policy, or to "deny".'}
    )
    by_group: dict[str, str] = attrs.field(
        factory=dict,
        metadata={"help": 'Group to policy, or to "deny"; the first that a user is in counts.'},
    )
    by_attribute: dict[str, dict[str, str]] = attrs.field(
        factory=dict,
        metadata={"help": 'Attribute to value to policy, or to "deny"; the first that fits.'},
    )
    by_user: dict[str, str] = attrs.field(
        factory=dict,
        metadata={"help": 'User to policy, or to "deny"; names without regard to case.'},
    )
    attribute_map: dict[str, str] = attrs.field(
        factory=dict,
        metadata={"help": "Attribute to the key of the policy that its values give."},
    )
    filter_lists: dict[str, tuple[str, ...]] = attrs.field(
        factory=dict,
        metadata={"help": "Lists of filter rules that RADIUS's Filter-Id may name."},
    )
    radius_attributes: bool = attrs.field(
        default=True,
        metadata={"help": "Whether RADIUS reply attributes give what they always mean."},
    )
    time_zone: str = attrs.field(
        default="",
        metadata={"help": 'Of access_hours, such as "Europe/Berlin"; empty: the system\'s.'},
    )

    def __attrs_post_init__(self) -> None:
        problems = [
            *self._wrong_names(),
            *self._loops(),
            *self._wrong_keys(),
            *self._wrong_filters(),
        ]
        if not problems:
            problems = [*self._wrong_values()]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def policy_names(self) -> frozenset[str]:
        """Every policy there is; the default one needs no table of its own."""
        return frozenset((*self.policies, DEFAULT_POLICY))

    def resolved(self) -> dict[str, GroupPolicy]:
        """Every policy by itself, with all that it inherits. Raises ValueError."""
        return {name: merge(name, self.layers_of(name, "")) for name in sorted(self.policy_names)}

    def layers_of(self, name: str, origin: str) -> tuple[PolicyLayer, ...]:
        """What a policy sets: first what it is based on, then itself."""
        settings = self.policies.get(name)
        if settings is None:
            return ()
        where = f"{origin}: policy {name}" if origin else f"policy {name}"
        own = PolicyLayer(where, settings.given())
        if not settings.based_on:
            return (own,)
        return (*self.layers_of(settings.based_on, where + ", based on"), own)

    def hours_of(self, name: str) -> tuple[str, ...] | None:
        """The access hours of a policy, or of the one that it is based on; None: not set."""
        settings = self.policies.get(name)
        if settings is None:
            return None
        if settings.access_hours is None and settings.based_on:
            return self.hours_of(settings.based_on)
        return settings.access_hours

    def _wrong_names(self) -> Iterator[str]:
        users: dict[str, str] = {}
        for user in self.by_user:
            same = users.setdefault(folded_name(user), user)
            if same != user:
                yield f"by_user: {same} and {user} are the same user"
        if DENY in self.policies:
            yield f'policies: "{DENY}" stands for refusal and cannot be the name of a policy'
        named: list[tuple[str, Mapping[str, str], frozenset[str]]] = [
            ("by_profile", self.by_profile, frozenset((DENY,))),
            ("by_group", self.by_group, frozenset((DENY,))),
            ("by_user", self.by_user, frozenset((DENY,))),
            *(
                (f"by_attribute.{name}", values, frozenset((DENY,)))
                for name, values in self.by_attribute.items()
            ),
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

    def _wrong_keys(self) -> Iterator[str]:
        for name, key in self.attribute_map.items():
            if key not in READERS:
                close = get_close_matches(key, READERS, n=1)
                hint = f', did you mean "{close[0]}"?' if close else ""
                yield (
                    f'attribute_map of {name}: no key of a policy is "{key}"{hint} '
                    f"There are {', '.join(READERS)}"
                )
        if self.time_zone:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                yield f'time_zone: there is no "{self.time_zone}"; one is "Europe/Berlin"'

    def _wrong_filters(self) -> Iterator[str]:
        for name, texts in self.filter_lists.items():
            try:
                check_rules(read_rules(texts))
            except ValueError as error:
                yield f"filter_lists.{name}: {error}"

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
                merge(name, self.layers_of(name, ""))
            except ValueError as error:
                yield f"policies.{name}: {error}"


def build(settings: Settings, reactor: object) -> StaticAuthorizer:  # noqa: ARG001 - no clock needed
    """What the configuration `backend = "static"` makes."""
    return StaticAuthorizer(settings)


@implementer(ILayeredAuthorizer)
class StaticAuthorizer:
    """Lays policies over each other, in the order that the rules have in `_rules`."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] | None = None) -> None:
        self._settings = settings
        zone = ZoneInfo(settings.time_zone) if settings.time_zone else None
        self._now = now or (lambda: datetime.now(zone))
        self._filter_lists = {
            name: read_rules(texts) for name, texts in settings.filter_lists.items()
        }
        self._users = {folded_name(user): user for user in settings.by_user}
        self._merged: dict[tuple[str, ...], GroupPolicy] = {}

    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        """The policy that all rules make together.

        Raises: AccessDenied: the strongest rule that names a policy says "deny", it is not the
            time for it, or an attribute cannot be read.
        """
        name, layers = await self.layers(identity, request)
        key = (name, *(each.origin for each in layers))
        if any(each.origin.startswith(("attribute ", "access_hours")) for each in layers):
            return self._merge(name, layers)
        # Sessions of the same rules share one policy: there are thousands of them
        if key not in self._merged:
            if len(self._merged) >= MOST_MERGED:
                self._merged.clear()
            self._merged[key] = self._merge(name, layers)
        return self._merged[key]

    async def layers(
        self, identity: Identity, request: LoginRequest
    ) -> tuple[str, tuple[PolicyLayer, ...]]:
        """Which policies, and which attributes; the strongest is last. Raises: AccessDenied."""
        settings = self._settings
        layers: list[PolicyLayer] = []
        name, because = settings.default, "default"
        hours: tuple[str, ...] | None = None
        for policy, origin in self._rules(identity, request):
            name, because = policy, origin
            layers += settings.layers_of(policy, origin)
            own = settings.hours_of(policy)
            hours = hours if own is None else own
        if name == DENY:
            raise AccessDenied(f"{identity.user} is denied by {because}")
        layers += attribute_layers(self._given_by(identity))
        return name, (*layers, *self._until_the_end_of(hours, layers))

    def _rules(self, identity: Identity, request: LoginRequest) -> Iterator[tuple[str, str]]:
        """The policies that are named for this user, and by which rule; the strongest is last."""
        settings = self._settings
        yield settings.default, "default"
        if request.profile in settings.by_profile:
            yield settings.by_profile[request.profile], f"by_profile of {request.profile}"
        for group, name in settings.by_group.items():
            if group in identity.groups:
                yield name, f"by_group of {group}"
                break
        for attribute, values in settings.by_attribute.items():
            found = next(
                (each for each in identity.attributes.get(attribute, ()) if each in values), None
            )
            if found is not None:
                yield values[found], f"by_attribute of {attribute}"
                break
        named = policy_named_by(identity.attributes) if settings.radius_attributes else None
        if named is not None:
            # Class may be anything; only the name of a policy of ours means one
            if named[0] in settings.policies:
                yield named[0], f"attribute {named[1]}"
            elif named[1] != "Class":
                raise AccessDenied(f"attribute {named[1]} names no policy of ours: {named[0]}")
        user = self._users.get(folded_name(identity.user))
        if user is not None:
            yield settings.by_user[user], f"by_user of {user}"

    def _given_by(self, identity: Identity) -> Iterator[Given]:
        settings = self._settings
        if settings.radius_attributes:
            others = {*settings.by_attribute.get("Filter-Id", ()), *identity.groups}
            yield from radius_values(identity.attributes, self._filter_lists, others)
        yield from values_of(identity.attributes, settings.attribute_map)

    def _until_the_end_of(
        self, hours: tuple[str, ...] | None, layers: list[PolicyLayer]
    ) -> tuple[PolicyLayer, ...]:
        if not hours:
            return ()
        left_s = seconds_left(map(AccessHours.read, hours), self._now())
        if not left_s:
            raise AccessDenied(f"it is outside of the access hours {', '.join(hours)}")
        given = {key: value for each in layers for key, value in each.values.items()}
        longest = given.get("session_timeout_s", 0.0)
        if left_s == float("inf") or (isinstance(longest, float) and 0 < longest <= left_s):
            return ()
        return (PolicyLayer("access_hours", {"session_timeout_s": max(1.0, left_s)}),)

    @staticmethod
    def _merge(name: str, layers: tuple[PolicyLayer, ...]) -> GroupPolicy:
        try:
            return merge(name, layers)
        except ValueError as error:
            raise AccessDenied(f"the policy {name} cannot be: {error}") from None
