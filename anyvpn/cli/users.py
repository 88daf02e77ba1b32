"""`anyvpn user`: the users of a password file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from anyvpn.backends.authenticator_password_file import Settings
from anyvpn.backends.authenticator_password_file_users import (
    HashCost,
    StoredUser,
    check_name,
    edit_users,
    hash_password,
    read_users,
)
from anyvpn.errors import ConfigurationError
from anyvpn.tap.config import read_section

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")


@dataclass(frozen=True, slots=True)
class UserFile:
    """A user file, and what a new hash in it costs."""

    path: Path
    cost: HashCost


def find_user_file(
    configuration: Path | None, file: Path | None, authenticator: str | None
) -> UserFile:
    """The user file that is meant. Raises: ConfigurationError: none, or no single one."""
    if file is not None:
        if configuration is not None or authenticator is not None:
            raise ConfigurationError("--file says it all: leave --config and --authenticator out")
        return UserFile(file, Settings(file).cost)
    configuration = configuration or DEFAULT_CONFIGURATION
    found = {
        str(path[-1]): chosen.settings
        for path, chosen in read_section(configuration, "authenticators").items()
        if isinstance(chosen.settings, Settings)
    }
    if authenticator is None and len(found) > 1:
        raise ConfigurationError(
            f"{configuration}: several authenticators have a user file: choose one of "
            f"{', '.join(found)} by --authenticator"
        )
    name = authenticator or next(iter(found), "")
    settings = found.get(name)
    if settings is None:
        which = f'authenticator "{name}"' if name else "authenticator"
        there_are = f"; there are {', '.join(found)}" if found else ""
        raise ConfigurationError(f"{configuration}: no {which} with a user file{there_are}")
    return UserFile(settings.file, settings.cost)


def add_user(
    users: UserFile, name: str, groups: tuple[str, ...], password: Callable[[], str]
) -> None:
    """A new user. Raises: ConfigurationError: it is there already, or cannot be one."""
    name, groups = _name(name), tuple(_name(each, "group name") for each in groups)
    if users.path.exists() and name in read_users(users.path):
        raise _there_already(users, name)
    stored = StoredUser(name, _hash(password(), users.cost), groups)
    with edit_users(users.path) as edited:
        if name in edited:
            raise _there_already(users, name)
        edited[name] = stored


def remove_user(users: UserFile, name: str) -> None:
    """Forget a user. Raises: ConfigurationError: there is no such user."""
    name = _name(name)
    _known(users, name, read_users(users.path))
    with edit_users(users.path) as edited:
        _known(users, name, edited)
        del edited[name]


def change_password(users: UserFile, name: str, password: Callable[[], str]) -> None:
    """A new password. Raises: ConfigurationError: there is no such user."""
    name = _name(name)
    _known(users, name, read_users(users.path))
    new = _hash(password(), users.cost)
    with edit_users(users.path) as edited:
        edited[name] = replace(_known(users, name, edited), password_hash=new)


def list_users(users: UserFile) -> Iterator[str]:
    """One line for each user: the name, and the groups behind it."""
    for user in read_users(users.path).values():
        yield f"{user.name}\t{','.join(user.groups)}".rstrip()


def _hash(password: str, cost: HashCost) -> str:
    try:
        return hash_password(password, cost)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _name(name: str, what: str = "user name") -> str:
    try:
        return check_name(name, what)
    except ValueError as error:
        raise ConfigurationError(f"{name!r}: {error}") from error


def _known(users: UserFile, name: str, stored: dict[str, StoredUser]) -> StoredUser:
    user = stored.get(name)
    if user is None:
        close = get_close_matches(name, stored, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ConfigurationError(f'{users.path}: has no user "{name}"{hint}')
    return user


def _there_already(users: UserFile, name: str) -> ConfigurationError:
    return ConfigurationError(
        f'{users.path}: has a user "{name}" already; `anyvpn user passwd` changes the password'
    )
