"""Client profiles on disk, by gateway, and the servers that they name.

Source: protocol reference, sections 6 and 7.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from anyvpn.errors import PeerError, ProfileUnavailable
from anyvpn.model.client_profile import ClientProfile, ClientProfileSettings, ServerEntry
from anyvpn.wire.client_profile import read_client_profile

log = Logger()

_NAME = re.compile(r"(?!\.)[A-Za-z0-9_. @+-]{1,100}")
_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]")

# Ours
_LARGEST_PROFILE_BYTES = 256 * 1024


def default_directory() -> Path:
    """The place of the XDG base directory specification: data of one user."""
    home = os.environ.get("XDG_DATA_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "share"
    return base / "anyvpn" / "profiles"


class ProfileStore:
    """One folder for each gateway below `directory`; without a directory nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(self, host: str, name: str) -> ClientProfile | None:
        """The stored profile of that name, if there is one."""
        path = self.path_of(host, name)
        try:
            return None if path is None else ClientProfile(name, path.read_bytes())
        except OSError:
            return None

    def store(self, host: str, profile: ClientProfile) -> Path | None:
        """Keep a profile, in place of the one before; gives where it is.

        Raises: ProfileUnavailable: it cannot be written.
        """
        path = self.path_of(host, profile.name)
        if path is None:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                try:
                    file.write(profile.content)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ProfileUnavailable(
                f"the profile {profile.name} cannot be kept: {error.filename or path.parent}: "
                f"{error.strerror}"
            ) from None
        return path

    def servers(self) -> tuple[ServerEntry, ...]:
        """All servers that the stored profiles name, in the order of gateways and profiles."""
        return tuple(
            server for _, settings in self._all_with_folders() for server in settings.servers
        )

    def find_server(self, name: str) -> ServerEntry | None:
        """The server that a user calls by this name, with the profile's own backups after its.

        What may be the address of a host is no name of another: no gateway's profile says where
        another gateway is.
        """
        wanted = name.casefold()
        is_address = any(each in name for each in ".:/")
        for folder, settings in self._all_with_folders():
            for server in settings.servers:
                is_own = folder == _folder(wanted) or _host_of(server.address) == wanted
                if server.name.casefold() == wanted and (is_own or not is_address):
                    backups = server.backup_addresses + tuple(
                        each
                        for each in settings.backup_addresses
                        if each not in server.backup_addresses
                    )
                    return ServerEntry(
                        server.name,
                        server.address,
                        server.user_group,
                        server.primary_protocol,
                        backups,
                    )
        return None

    def _all_with_folders(self) -> Iterator[tuple[str, ClientProfileSettings]]:
        if self._directory is None:
            return
        try:
            folders = sorted(self._directory.iterdir()) if self._directory.is_dir() else []
        except OSError as error:
            log.warn("{path} is passed over: {why}", path=str(self._directory), why=error)
            return
        for folder in folders:
            for settings in self._read(folder):
                yield folder.name, settings

    @staticmethod
    def _read(folder: Path) -> Iterator[ClientProfileSettings]:
        for path in sorted(folder.glob("*.xml")):
            try:
                with path.open("rb") as file:
                    content = file.read(_LARGEST_PROFILE_BYTES + 1)
                yield read_client_profile(content)
            except (OSError, PeerError) as error:
                log.warn("{path} is passed over: {why}", path=str(path), why=error)

    def path_of(self, host: str, name: str) -> Path | None:
        """Where the profile is or would be; None when nothing is kept.

        Raises: ProfileUnavailable: no file should have that name.
        """
        if self._directory is None:
            return None
        if _NAME.fullmatch(name) is None:
            raise ProfileUnavailable("the gateway gives a profile a name that no file should have")
        file_name = name if name.lower().endswith(".xml") else f"{name}.xml"
        return self._directory / _folder(host) / file_name


def _folder(host: str) -> str:
    return _FOLDER_CHARACTERS.sub("_", host.lower()).lstrip(".") or "_"


def _host_of(address: str) -> str:
    return address.partition("/")[0].partition(":")[0].casefold()
