"""Finds users in a directory, checks their passwords, and reads what it knows of them.

Everything here blocks, so it runs in the backend's own threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from anyvpn.backends.authenticator_ldap_connection import Connection, Reply
from anyvpn.backends.authenticator_ldap_policy import (
    POLICY_REQUEST,
    REASONS,
    PasswordState,
    refusal_reason,
)
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import Credentials, folded_name, read_name

# From the protocol: RFC 4511, appendix A
_SUCCESS = 0
_SIZE_LIMIT = 4
_NO_SUCH_OBJECT = 32
_REFUSALS = frozenset(
    (
        19,  # constraintViolation, as of locked accounts
        48,  # inappropriateAuthentication
        49,  # invalidCredentials
        50,  # insufficientAccessRights
        53,  # unwillingToPerform
    )
)

# RFC 4514, section 2.4
_FIRST_VALUE = re.compile(r"[^=,+]+=((?:\\.|[^\\,+;])*)")
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_NAMED_BY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)={user}")

# Ours
MOST_NESTED_GROUPS = 1000
DEEPEST_NESTING = 10
MOST_VALUES = 1000
LONGEST_VALUE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Where users and groups stand in the tree.

    Either `user_template` is the user's DN with {user} in it, or the one entry below `base` that
    fits `user_filter` is the user's. The user's name stands in `user_attribute`, or else in the
    attribute by which the entry is found. Groups are the values of `groups_attribute`, and the
    entries below `group_base` that fit `group_filter` with {dn} or {user} in it.
    """

    user_template: str = ""
    base: str = ""
    user_filter: str = "(uid={user})"
    user_attribute: str = ""
    attributes: tuple[str, ...] = ()
    groups_attribute: str = ""
    group_base: str = ""
    group_filter: str = "(&(objectClass=groupOfNames)(member={dn}))"
    group_name_attribute: str = "cn"
    nested_groups: bool = False

    @property
    def name_attribute(self) -> str:
        """Where the user's name stands; empty: nothing tells it but what was typed."""
        found = _NAMED_BY.search(self.user_template or self.user_filter)
        return self.user_attribute or (found[1] if found is not None else "")


@dataclass(frozen=True, slots=True)
class Entry:
    """A user's entry: its name in the tree and its attributes, by lower-case name."""

    dn: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A user with the right password; with `must_change` it is good for a change alone."""

    identity: Identity
    dn: str
    must_change: bool


class Directory:
    """The tree of one organisation."""

    def __init__(self, layout: Layout, *, binds: bool) -> None:
        """`binds` says that there is a service account, or that nobody in particular may search."""
        self._layout = layout
        self._binds = binds

    def identify(self, connection: Connection, said: Credentials) -> Found:
        """Who it is. Raises: LoginRejected, BackendFailed, ServerFailed."""
        entry = self._find(connection, said.username)
        # Whoever is not there costs as much time as whoever has another password
        dn = entry.dn if entry is not None else self._layout.base or "cn=nobody"
        reply = connection.bind(dn, said.password, POLICY_REQUEST)
        if entry is None:
            raise LoginRejected("the directory does not know this user")
        state = PasswordState(reply.controls)
        if reply.code in _REFUSALS or (reply.code == _NO_SUCH_OBJECT):
            raise LoginRejected(refusal_reason(state, reply.message))
        if reply.code != _SUCCESS:
            raise _failure("check a password", reply)
        if state.must_change:
            return Found(Identity(said.username), entry.dn, must_change=True)
        if self._binds:
            connection.bind_as_service()
        if not entry.attributes:
            entry = self._read(connection, entry.dn)
        user = self._name(entry, said.username)
        groups = self._groups(connection, entry, user)
        return Found(self._identity(user, entry, groups), entry.dn, must_change=False)

    def change_password(self, connection: Connection, dn: str, old: str, new: str) -> str:
        """Give a user another password; why the directory does not accept it, or nothing.

        Raises: LoginRejected, BackendFailed, ServerFailed.
        """
        reply = connection.bind(dn, old, POLICY_REQUEST)
        if reply.code in _REFUSALS:
            raise LoginRejected(refusal_reason(PasswordState(reply.controls), reply.message))
        if reply.code != _SUCCESS:
            raise _failure("change a password", reply)
        reply = connection.change_password(dn, old, new, POLICY_REQUEST)
        if reply.code == _SUCCESS:
            return ""
        if reply.code not in _REFUSALS:
            raise _failure("change a password", reply)
        error = PasswordState(reply.controls).error
        return REASONS[error] if error is not None else "the directory does not accept it"

    # --- the user's entry ---------------------------------------------------------------------

    def _find(self, connection: Connection, user: str) -> Entry | None:
        own = self._layout
        if own.user_template:
            return Entry(own.user_template.replace("{user}", escape_rdn(user)))
        connection.bind_as_service()
        wanted = _filled(own.user_filter, user=user)
        reply = connection.search(own.base, wanted, self._wanted_attributes())
        if reply.code not in (_SUCCESS, _SIZE_LIMIT):
            raise _failure("search for a user", reply)
        if len(reply.entries) > 1 or reply.code == _SIZE_LIMIT:
            raise LoginRejected(f"{len(reply.entries)} entries of the directory fit this user")
        return _entry(reply.entries[0]) if reply.entries else None

    def _read(self, connection: Connection, dn: str) -> Entry:
        reply = connection.search(dn, "(objectClass=*)", self._wanted_attributes(), only_base=True)
        if reply.code != _SUCCESS or not reply.entries:
            raise _failure("read a user's entry", reply)
        return _entry(reply.entries[0])

    def _wanted_attributes(self) -> list[str]:
        own = self._layout
        wanted = {*own.attributes, own.groups_attribute, own.name_attribute} - {""}
        # One attribute at least, so that an entry that was read is told from one that was not
        return sorted(wanted | {"objectClass"})

    def _name(self, entry: Entry, typed: str) -> str:
        own = self._layout
        if not own.name_attribute:
            return typed
        names = entry.attributes.get(own.name_attribute.lower(), ())
        same = [each for each in names if folded_name(each) == folded_name(typed)]
        if len(same) != 1 and len(names) != 1:
            raise LoginRejected(f"the user's entry has {len(names)} values of {own.name_attribute}")
        return read_name(same[0] if same else names[0])

    def _identity(self, user: str, entry: Entry, groups: Iterable[str]) -> Identity:
        kept = {
            name: entry.attributes[name.lower()]
            for name in self._layout.attributes
            if entry.attributes.get(name.lower())
        }
        return Identity(
            user,
            frozenset(each for each in groups if each.isprintable()),
            MappingProxyType({**kept, "dn": (entry.dn,)}),
        )

    # --- groups -------------------------------------------------------------------------------

    def _groups(self, connection: Connection, entry: Entry, user: str) -> set[str]:
        own = self._layout
        names: set[str] = set()
        if own.groups_attribute:
            names.update(
                _name_in(each) for each in entry.attributes.get(own.groups_attribute.lower(), ())
            )
        if own.group_base:
            names |= self._search_groups(connection, entry.dn, user)
        return names

    def _search_groups(self, connection: Connection, dn: str, user: str) -> set[str]:
        own = self._layout
        names: set[str] = set()
        seen: set[str] = set()
        members = [dn]
        for _ in range(DEEPEST_NESTING if own.nested_groups else 1):
            above: list[str] = []
            for member in members:
                wanted = _filled(own.group_filter, dn=member, user=user)
                reply = connection.search(own.group_base, wanted, [own.group_name_attribute])
                if reply.code != _SUCCESS:
                    raise _failure("search for groups", reply)
                for group in map(_entry, reply.entries):
                    if group.dn.casefold() in seen:
                        continue
                    seen.add(group.dn.casefold())
                    names.update(group.attributes.get(own.group_name_attribute.lower(), ())[:1])
                    above.append(group.dn)
            if len(seen) > MOST_NESTED_GROUPS:
                raise BackendFailed(f"a user is in more than {MOST_NESTED_GROUPS} groups")
            members = above
            if not members:
                break
        return names


def _entry(raw: Mapping[str, Any]) -> Entry:
    attributes = {
        name.lower(): tuple(_texts(name, values))
        for name, values in (raw.get("raw_attributes") or {}).items()
    }
    return Entry(str(raw["dn"]), attributes)


def _texts(name: str, values: Sequence[object]) -> Iterator[str]:
    # Active Directory gives the first of many as "memberOf;range=0-1499"
    if len(values) > MOST_VALUES or ";range=" in name:
        raise BackendFailed(f"an entry has more than {MOST_VALUES} values of {name.lower()}")
    for each in values:
        if isinstance(each, bytes) and len(each) <= LONGEST_VALUE_CHARACTERS:
            try:
                yield each.decode("utf-8")
            except UnicodeDecodeError:
                continue  # a picture or a key, which no rule could speak of


def _name_in(group: str) -> str:
    """The name of a group that is told by its DN: the value of its first part."""
    found = _FIRST_VALUE.match(group)
    if found is None:
        return group
    octets = _ESCAPE.sub(
        lambda each: bytes.fromhex(each[1].decode()) if len(each[1]) == 2 else each[1],
        found[1].encode("utf-8"),
    )
    return octets.decode("utf-8", "replace")


def _filled(template: str, **values: str) -> str:
    """A filter with {name} replaced, each once: a value may itself look like a name in braces."""
    return re.sub(
        r"\{(dn|user)\}",
        lambda found: escape_filter_chars(values[found[1]]) if found[1] in values else found[0],
        template,
    )


def _failure(what: str, reply: Reply) -> BackendFailed:
    said = f"{reply.description} {reply.message}".rstrip()
    return BackendFailed(f"the directory cannot {what}: {said}")
