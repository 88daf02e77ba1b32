"""Writes the files of a new set-up: all of them or none, and none over another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anyvpn.backends.authenticator_password_file import Settings
from anyvpn.backends.authenticator_password_file_users import FIRST_LINE
from anyvpn.cli.init_certificates import make_certificates
from anyvpn.cli.init_plan import Plan
from anyvpn.cli.users import UserFile, add_user
from anyvpn.errors import ConfigurationError
from anyvpn.model.client_profile import ClientProfileSettings, ServerEntry
from anyvpn.tap.config_write import write_configuration
from anyvpn.wire.client_profile import write_client_profile

# Ours
CONFIGURATION = "gateway.toml"
USERS = "users"
PROFILES = "profiles"
PROFILE = "anyvpn.xml"
FILES = (
    *("ca.pem", "ca-key.pem", "server.pem", "server-key.pem"),
    *(USERS, f"{PROFILES}/{PROFILE}", CONFIGURATION),
)
READABLE, SECRET = 0o644, 0o600
DIRECTORY = 0o700


def check_nothing_is_there(directory: Path) -> None:
    """Raises: ConfigurationError: one of the files that would be made is there already."""
    for name in FILES:
        if (path := directory / name).exists():
            raise ConfigurationError(f"{path}: is there already; nothing is overwritten")


def write_set_up(plan: Plan) -> None:
    """Make the directory and everything in it.

    Raises: ConfigurationError: something is there already, or cannot be written; nothing is
    left behind.
    """
    check_nothing_is_there(plan.directory)
    certificates = make_certificates(plan.name, plan.addresses)
    profile = write_client_profile(
        ClientProfileSettings(servers=(ServerEntry(plan.name, plan.host_and_port),))
    )
    with _all_or_nothing() as files:
        files.make_directory(plan.directory)
        files.make_directory(plan.directory / PROFILES)
        files.write(plan.directory / "ca.pem", certificates.ca, READABLE)
        files.write(plan.directory / "ca-key.pem", certificates.ca_key, SECRET)
        files.write(plan.directory / "server.pem", certificates.server, READABLE)
        files.write(plan.directory / "server-key.pem", certificates.server_key, SECRET)
        files.write(plan.directory / PROFILES / PROFILE, profile, READABLE)
        users = plan.directory / USERS
        files.write(users, f"{FIRST_LINE}\n".encode(), SECRET)
        add_user(UserFile(users, Settings(users).cost), plan.user, (), lambda: plan.password)
        configuration = write_configuration(configuration_of(plan))
        files.write(plan.directory / CONFIGURATION, configuration.encode(), READABLE)


def configuration_of(plan: Plan) -> dict[str, Any]:
    """What the configuration file sets; the rest stands in it as comments."""
    return {
        "gateway": {"name": plan.name, "listen": [each.text for each in plan.listen]},
        "tls": {"certificate": "server.pem", "key": "server-key.pem"},
        "dtls": {},
        "connection_profiles": [{"name": "default", "authenticator": "password"}],
        "authenticators": {"password": {"backend": "password_file", "file": USERS}},
        "authorizer": {"backend": "static", "policies": {"default": {}}},
        "addresses": {
            "backend": "pool",
            "pools": [
                {"name": f"ipv{each.version}", "network": str(each)} for each in plan.networks
            ],
        },
        "profiles": {"backend": "directory", "directory": PROFILES, "default_profile": PROFILE},
        "tun": {"backend": "linux"},
        "sessions": {"backend": "sqlite", "file": "sessions.sqlite"},
        "listeners": [{"backend": "log"}],
    }


class _Files:
    """Makes files and directories that are not there yet, and takes them away again."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def make_directory(self, path: Path) -> None:
        """A directory, with those above it; one that is there already is left as it is."""
        for each in (*reversed(path.parents), path):
            if not each.is_dir():
                each.mkdir(DIRECTORY if each == path else 0o755)
                self._made.append(each)

    def write(self, path: Path, content: bytes, mode: int) -> None:
        """A new file. Raises: FileExistsError."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            self._made.append(path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @property
    def newest(self) -> Path | None:
        """What was made last."""
        return self._made[-1] if self._made else None

    def remove(self) -> None:
        """Take everything away, newest first."""
        for path in reversed(self._made):
            with suppress(OSError):  # what somebody else has put there stays
                path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def _all_or_nothing() -> Iterator[_Files]:
    files = _Files()
    try:
        yield files
    except OSError as error:
        where = error.filename or files.newest  # only what opens a file says which
        files.remove()
        raise ConfigurationError(f"{where}: cannot be written: {error.strerror}") from error
    except BaseException:
        files.remove()
        raise
