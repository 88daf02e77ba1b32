"""Gives clients AnyConnect profiles from a directory of XML files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
from lxml import etree
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IProfileProvider
from anyvpn.model.authentication import Identity
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.group_policy import GroupPolicy

log = Logger()

# From the protocol
ROOT_ELEMENT = "AnyConnectProfile"  # protocol reference, section 7

# Ours
LARGEST_PROFILE_BYTES = 1_000_000
READING_TRIES = 3  # a file that changes while it is read is read again
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")  # goes into URIs and cookies as it is


@attrs.frozen
class Settings:
    """Where profiles are, and who gets which; the group decides before policy and default."""

    directory: Path | None = attrs.field(
        default=None, metadata={"help": "Directory of AnyConnect profiles; none are given without."}
    )
    default_profile: str = attrs.field(
        default="", metadata={"help": "File name of the profile of everybody else; empty: none."}
    )
    by_policy: dict[str, str] = attrs.field(
        factory=dict, metadata={"help": "Group policy to the file name of its profile."}
    )
    by_group: dict[str, str] = attrs.field(
        factory=dict,
        metadata={
            "help": "Group to file name of its profile; the first that a user is in decides."
        },
    )

    def __attrs_post_init__(self) -> None:
        for name in sorted(self.file_names):
            if not SAFE_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} must be a file name of letters, digits, dots, dashes and underscores"
                )
        if self.file_names and self.directory is None:
            raise ValueError("directory must be given when profiles are named")

    @property
    def file_names(self) -> frozenset[str]:
        """Every file that somebody gets."""
        named = {self.default_profile, *self.by_policy.values(), *self.by_group.values()}
        return frozenset(named - {""})


def build(settings: Settings, reactor: object) -> ProfileDirectory:  # noqa: ARG001 - no clock needed
    """What the configuration `backend = "directory"` makes. Raises ConfigurationError."""
    return ProfileDirectory(settings)


@implementer(IProfileProvider)
class ProfileDirectory:
    """Profiles as they are on the disk; a changed file is read again at the next login.

    Reading is done on the reactor's thread: one look at a file's times for each login, and a
    local file of at most 1 MB when it has changed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: Mapping[str, _ProfileFile] = {}
        if settings.directory is None:
            return
        problems: list[str] = []
        files = {}
        for name in sorted(settings.file_names):
            try:
                files[name] = _ProfileFile(settings.directory / name)
            except _BadProfile as error:
                problems.append(str(error))
        if problems:
            raise ConfigurationError(*problems)
        self._files = files

    async def profiles_for(
        self, identity: Identity, policy: GroupPolicy
    ) -> tuple[ClientProfile, ...]:
        """The one profile of this user, or none."""
        name = self._name_for(identity, policy)
        return (self._files[name].current(),) if name else ()

    def _name_for(self, identity: Identity, policy: GroupPolicy) -> str:
        for group, name in self._settings.by_group.items():
            if group in identity.groups:
                return name
        return self._settings.by_policy.get(policy.name, self._settings.default_profile)


class _BadProfile(Exception):
    """A profile that cannot be given to clients; the text names file and line."""


class _ProfileFile:
    """One file, and its content as it was when it was last whole and well-formed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp, content = _read(path)
        _check(path, content)
        self._profile = ClientProfile(path.name, content)

    def current(self) -> ClientProfile:
        """The profile as it is now; when the file has become unusable, as it was before."""
        try:
            stamp = _stamp(self._path.stat())
        except OSError as error:
            stamp = (str(error),)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._stamp, content = _read(self._path)
                _check(self._path, content)
                self._profile = ClientProfile(self._path.name, content)
                log.info("Client profile {name} has changed", name=self._path.name)
            except _BadProfile as error:
                log.error(
                    "{problem}; clients are given the profile as it was before", problem=str(error)
                )
        return self._profile


_Stamp = tuple[int | str, ...]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: Path) -> tuple[_Stamp, bytes]:
    try:
        for _ in range(READING_TRIES):
            with path.open("rb") as file:
                before = _stamp(os.fstat(file.fileno()))
                content = file.read(LARGEST_PROFILE_BYTES + 1)
                after = _stamp(os.fstat(file.fileno()))
            if len(content) > LARGEST_PROFILE_BYTES:
                raise _BadProfile(f"{path}: is larger than {LARGEST_PROFILE_BYTES} bytes")
            if before == after:
                return after, content
    except OSError as error:
        raise _BadProfile(f"{path}: cannot be read: {error.strerror}") from error
    raise _BadProfile(f"{path}: changes while it is read")


def _check(path: Path, content: bytes) -> None:
    parser = etree.XMLParser(  # type: ignore[call-overload]  # lxml does without comment() etc.
        target=_RootCheck(),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise _BadProfile(f"{path}:{line}: is not well-formed XML: {error.msg}") from error
    except _BadProfile as error:
        raise _BadProfile(f"{path}: {error}") from error


class _RootCheck:
    """A parser's target that builds nothing."""

    def __init__(self) -> None:
        self._depth = 0

    def doctype(self, name: str, public_id: str | None, system_url: str | None) -> None:  # noqa: ARG002
        """Profiles have none, and clients need not meet one."""
        raise _BadProfile("must not have a DOCTYPE")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:  # noqa: ARG002
        """An element begins."""
        if not self._depth and tag.rpartition("}")[2] != ROOT_ELEMENT:
            raise _BadProfile(f"must have the root element {ROOT_ELEMENT}")
        self._depth += 1

    def end(self, tag: str) -> None:  # noqa: ARG002
        """An element ends."""
        self._depth -= 1

    def close(self) -> None:
        """The document ends."""
