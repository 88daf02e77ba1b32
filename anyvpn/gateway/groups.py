"""Which connection profile a login is for: by name, by URL, or the default one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from anyvpn.errors import MalformedMessage
from anyvpn.gateway.settings import ProfileBinding
from anyvpn.model.authentication import GroupList, Option
from anyvpn.wire.downloads import read_path

# From the protocol (protocol reference, section 3.3): they select no group
_PATHS_OF_NO_GROUP = frozenset({"/", "/auth", "/+webvpn+/index.html", "/+CSCOE+/logon.html"})


class Groups:
    """The connection profiles of a gateway; clients call them groups.

    `config_hash` is decimal text that changes with the list of profiles.
    """

    def __init__(self, bindings: Sequence[ProfileBinding], default: str) -> None:
        self._bindings = tuple(bindings)
        self._listed = [each for each in bindings if each.profile.listed]
        self.default = next(each for each in bindings if each.profile.name == default)
        self._by_url = {
            _key(*_split_url(url)): each for each in bindings for url in each.profile.group_urls
        }
        facts = "\n".join(repr(each.profile) for each in bindings)
        digest = hashlib.sha256(facts.encode()).digest()
        self.config_hash = str(int.from_bytes(digest[:6], "big"))

    def by_name(self, name: str) -> ProfileBinding | None:
        """The listed profile with this alias or name; hidden ones have no name for clients."""
        return next((each for each in self._listed if each.profile.answers_to(name)), None)

    def by_url(self, host: str, group_access: str, path: str) -> ProfileBinding | None:
        """The profile of the URL that the user typed, which `group_access` repeats.

        `path` is where the request went: it counts for clients that send no `group-access`.
        """
        return self._by_place(*_place(group_access, host)) or self._by_place(host, path)

    def is_login_path(self, host: str, path: str) -> bool:
        """Whether logins begin there."""
        return path in _PATHS_OF_NO_GROUP or self._by_place(host, path) is not None

    def listing(self, selected: ProfileBinding) -> GroupList | None:
        """The choice that goes with a profile's form; a hidden or a lone profile offers none."""
        if not selected.profile.listed or len(self._listed) < 2:
            return None
        others = [each for each in self._listed if each is not selected]
        return GroupList(
            tuple(
                Option(each.profile.alias, each.profile.alias, selected=each is selected)
                for each in (selected, *others)
            )
        )

    def _by_place(self, host: str, path: str) -> ProfileBinding | None:
        if path in _PATHS_OF_NO_GROUP:
            return self._by_url.get(_key(host, "/")) if host else None
        return self._by_url.get(_key(host, path)) or self._by_url.get(_key("", path))


def _place(group_access: str, host: str) -> tuple[str, str]:
    """Host and path of a `group-access` URL; the root of `host` when it makes no sense."""
    if not group_access:
        return host, "/"
    try:
        parts = urlsplit(group_access)
        return parts.hostname or host, read_path(parts.path or "/")
    except (ValueError, MalformedMessage):
        return host, "/"


def _split_url(url: str) -> tuple[str, str]:
    """Host and path of a group URL; its port, if it names one, is the gateway's own."""
    host, slash, path = url.partition("/")
    if host.startswith("["):
        return host[1:].partition("]")[0], slash + path
    return host.partition(":")[0], slash + path


def _key(host: str, path: str) -> str:
    return host.casefold() + path.casefold().rstrip("/")
