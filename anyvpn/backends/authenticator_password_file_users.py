"""The user file: names, argon2id hashes and groups, one user a line; passwords and their cost.

A line is `name:hash` or `name:hash:group,group`; lines that begin with # are comments.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import tempfile
import unicodedata
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes

from argon2.exceptions import Argon2Error, VerifyMismatchError
from argon2.low_level import Type, hash_secret, verify_secret

from anyvpn.errors import BackendFailed, ConfigurationError

# From the protocol: RFC 9106, section 3.1
LEAST_KIB_PER_LANE = 8

# Ours
LARGEST_MEMORY_KIB = 4 * 1024 * 1024
MOST_PASSES = 1000
MOST_LANES = 64
SALT_BYTES = 16
HASH_BYTES = 32
MOST_HASH_BYTES = 64
LONGEST_NAME = 256
LONGEST_PASSWORD = 1024
FIRST_LINE = "# name:argon2id hash:group,group (edited by `anyvpn user`)"

_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,8}),p=(\d{1,8})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


@dataclass(frozen=True, slots=True, order=True)
class HashCost:
    """What one hash costs: memory in KiB, passes over it, lanes computed at a time."""

    memory_kib: int
    passes: int
    lanes: int

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= MOST_LANES:
            raise ValueError(f"lanes must lie between 1 and {MOST_LANES}")
        if not 1 <= self.passes <= MOST_PASSES:
            raise ValueError(f"passes must lie between 1 and {MOST_PASSES}")
        least_kib = LEAST_KIB_PER_LANE * self.lanes
        if not least_kib <= self.memory_kib <= LARGEST_MEMORY_KIB:
            raise ValueError(f"memory_kib must lie between {least_kib} and {LARGEST_MEMORY_KIB}")

    def is_weaker_than(self, other: HashCost) -> bool:
        """Whether guessing is cheaper: less memory, or fewer passes over it."""
        return self.memory_kib < other.memory_kib or self.passes < other.passes


@dataclass(frozen=True, slots=True)
class StoredUser:
    """One line of the file."""

    name: str
    password_hash: str = field(repr=False)
    groups: tuple[str, ...] = ()


# --- passwords -----------------------------------------------------------------------------


def hash_password(password: str, cost: HashCost) -> str:
    """The hash to store for a password. Raises ValueError: it cannot be used as a password."""
    if not is_usable(password):
        raise ValueError(
            f"a password must have 1 to {LONGEST_PASSWORD} characters and no NUL among them"
        )
    return hash_secret(
        _as_bytes(password),
        token_bytes(SALT_BYTES),
        time_cost=cost.passes,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=HASH_BYTES,
        type=Type.ID,
    ).decode("ascii")


def is_usable(password: str) -> bool:
    """Whether it can be a password at all."""
    return (
        0 < len(password) <= LONGEST_PASSWORD
        and "\0" not in password
        and not any("\ud800" <= character <= "\udfff" for character in password)
    )


def _as_bytes(password: str) -> bytes:
    # the same letters in another composition are the same password (RFC 8265, section 4.2)
    return unicodedata.normalize("NFC", password).encode("utf-8")


def matches(password_hash: str, password: str) -> bool:
    """Whether it is the password of this hash; blocks. Raises BackendFailed: out of memory."""
    try:
        return verify_secret(password_hash.encode("ascii"), _as_bytes(password), Type.ID)
    except VerifyMismatchError:
        return False
    except Argon2Error as error:
        raise BackendFailed(f"a password cannot be checked: {error}") from error


def cost_of(password_hash: str) -> HashCost:
    """What a hash costs. Raises ValueError: not an argon2id hash, or one of absurd cost."""
    found = _HASH.fullmatch(password_hash)
    if found is None:
        raise ValueError("is not an argon2id hash ($argon2id$v=19$m=...,t=...,p=...$salt$hash)")
    memory_kib, passes, lanes, salt, result = found.groups()
    for text, least_bytes in ((salt, 8), (result, 16)):
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except Base64Error as error:
            raise ValueError("is damaged: salt or hash is not Base64") from error
        if _base64(content) != text:  # argon2 refuses what has bits to spare
            raise ValueError("is damaged: salt or hash is cut off")
        if not least_bytes <= len(content) <= MOST_HASH_BYTES:
            raise ValueError("is damaged: salt or hash is too short or too long")
    return HashCost(int(memory_kib), int(passes), int(lanes))


def hash_of_nothing(cost: HashCost) -> str:
    """A hash that no password matches and that takes its time nevertheless."""
    parameters = f"m={cost.memory_kib},t={cost.passes},p={cost.lanes}"
    salt, result = _base64(token_bytes(SALT_BYTES)), _base64(token_bytes(HASH_BYTES))
    return f"$argon2id$v=19${parameters}${salt}${result}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).rstrip(b"=").decode("ascii")


# --- the file ------------------------------------------------------------------------------


def check_name(name: str, what: str = "user name") -> str:
    """The name of a user or group as it is stored. Raises ValueError: it cannot be one."""
    name = unicodedata.normalize("NFC", name)
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"a {what} must have 1 to {LONGEST_NAME} characters")
    if not name.isprintable() or set(name) & set(" :,#"):
        raise ValueError(
            f"a {what} must have no space, colon, comma, number sign nor control character"
        )
    return name


def read_users(path: Path) -> dict[str, StoredUser]:
    """The users of a file, by name and in its order.

    Raises: ConfigurationError: it cannot be read, or has bad lines: one problem for each.
    """
    problems: list[str] = []
    users: dict[str, StoredUser] = {}
    for number, line in enumerate(_read_lines(path), 1):
        if not _holds_user(line):
            continue
        try:
            user = _parse(line)
            if user.name in users:
                raise ValueError(f'has the user "{user.name}" again: remove one of the two')
            users[user.name] = user
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise ConfigurationError(*problems)
    return users


def write_users(path: Path, users: Mapping[str, StoredUser]) -> None:
    """Replace the users of a file in one step; comments and order stay, owner and group too.

    A new file is readable by its owner alone. Raises: ConfigurationError: it cannot be written.
    """
    with _locked(path) as directory:
        _replace(path, users, directory)


@contextmanager
def edit_users(path: Path) -> Iterator[dict[str, StoredUser]]:
    """The users of a file, to be changed in place and written at the end; none if it is new.

    No other process edits the file meanwhile. Nothing is written when the block raises.
    Raises: ConfigurationError: the file cannot be read or written.
    """
    with _locked(path) as directory:
        users = {} if _is_new(path) else read_users(path)
        yield users
        _replace(path, users, directory)


def _parse(line: str) -> StoredUser:
    parts = line.strip().split(":")
    if len(parts) not in (2, 3):
        raise ValueError("must be name:hash or name:hash:group,group")
    name = check_name(parts[0])
    try:
        cost_of(parts[1])
    except ValueError as error:
        raise ValueError(f'the hash of "{name}" {error}') from error
    groups = parts[2].split(",") if len(parts) == 3 and parts[2] else []
    return StoredUser(name, parts[1], tuple(check_name(each, "group name") for each in groups))


def _format(user: StoredUser) -> str:
    groups = ",".join(check_name(each, "group name") for each in user.groups)
    return f"{check_name(user.name)}:{user.password_hash}" + (f":{groups}" if groups else "")


def _holds_user(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _is_new(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # reading it will say what is wrong
    return False


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: does not exist; `anyvpn user add` makes it with its first user"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error


def _replace(path: Path, users: Mapping[str, StoredUser], directory: int) -> None:
    left = dict(users)
    lines = []
    for line in [FIRST_LINE] if _is_new(path) else _read_lines(path):
        if not _holds_user(line):
            lines.append(line)
        elif (user := left.pop(line.strip().partition(":")[0], None)) is not None:
            lines.append(_format(user))
    while lines and not lines[-1]:
        lines.pop()
    lines += map(_format, left.values())
    try:
        _write_atomically(path.resolve(), "\n".join([*lines, ""]))
        os.fsync(directory)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error


def _write_atomically(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if path.exists():
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), before.st_mode & 0o660)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Keep other editors out; the directory is locked, since the file itself is replaced."""
    try:
        descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
