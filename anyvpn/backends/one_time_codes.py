"""One-time codes of users: their secrets, and which codes are used up (RFC 4226, RFC 6238).

Secrets and counters stand in one SQLite file, in which a code is looked at and used up in one
transaction: so it is good once, whichever gateway on this file sees it, before a restart or after.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from base64 import b32encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyotp

from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected

Kind = Literal["totp", "hotp"]

# From the protocol: RFC 4226, section 4 (a secret of 128 bits at least), and RFC 6238
SMALLEST_SECRET_BYTES = 16
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}

# Ours
LARGEST_SECRET_BYTES = 128
BUSY_TIME_S = 5.0  # another gateway may be writing
APPLICATION_ID = 0x4156504F  # "AVPO": tells our files from those of other programs
_CREATE = """
CREATE TABLE IF NOT EXISTS codes (
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    secret BLOB NOT NULL,
    algorithm TEXT NOT NULL,
    digits INTEGER NOT NULL,
    period_s INTEGER NOT NULL,
    next_counter INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (user, kind)
)"""
_COLUMNS = "user, kind, secret, algorithm, digits, period_s, next_counter"
_FIND = (
    f"SELECT {_COLUMNS}, failures, failing_since_s FROM codes "  # noqa: S608 - our own columns
    "WHERE user = ? AND kind = ?"
)


@dataclass(frozen=True, slots=True)
class CodeMaker:
    """A user's device: its secret and how it makes codes of it.

    Raises: ValueError: no device does it so.
    """

    user: str
    kind: Kind
    secret: bytes = field(repr=False)
    algorithm: str = "sha1"
    digits: int = 6
    period_s: int = 30
    next_counter: int = 0
    """The lowest counter whose code is still good; of a time-based code it is the period."""

    def __post_init__(self) -> None:
        if not SMALLEST_SECRET_BYTES <= len(self.secret) <= LARGEST_SECRET_BYTES:
            raise ValueError(
                f"a secret has {SMALLEST_SECRET_BYTES} to {LARGEST_SECRET_BYTES} bytes, "
                f"not {len(self.secret)}"
            )
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}")
        if self.digits not in (6, 7, 8):
            raise ValueError("digits must be 6, 7 or 8")
        if not 1 <= self.period_s <= 3600:
            raise ValueError("period_s must lie between 1 and 3600")

    def code(self, counter: int) -> str:
        """The code of a counter, or of the period of that number."""
        return self._generator().at(counter)

    def address(self, issuer: str) -> str:
        """The otpauth:// address by which applications on phones take the secret over."""
        if self.kind == "hotp":
            return self._generator().provisioning_uri(
                name=self.user, issuer_name=issuer, initial_count=self.next_counter
            )
        text = b32encode(self.secret).decode("ascii")
        digest = ALGORITHMS[self.algorithm]
        made = pyotp.TOTP(text, digits=self.digits, digest=digest, interval=self.period_s)
        return made.provisioning_uri(name=self.user, issuer_name=issuer)

    def find(self, code: str, counters: range) -> int | None:
        """The first of these counters that the code is of."""
        given = code.encode("utf-8")
        return next(
            (each for each in counters if hmac.compare_digest(self.code(each).encode(), given)),
            None,
        )

    def _generator(self) -> pyotp.HOTP:
        text = b32encode(self.secret).decode("ascii")
        return pyotp.HOTP(text, digits=self.digits, digest=ALGORITHMS[self.algorithm])


@dataclass(frozen=True, slots=True)
class Guessing:
    """How many wrong codes in a row a user may give, and for how long more are refused then."""

    most_failures: int = 10
    lock_time_s: float = 300.0


GUESSING = Guessing()


class CodeFile:
    """The file; opened for each piece of work, which may take place in any thread."""

    def __init__(self, path: Path, guessing: Guessing = GUESSING) -> None:
        self.path = path
        self._guessing = guessing

    def check(self) -> None:
        """Raises: ConfigurationError: it cannot hold codes; that it is not there yet is no harm."""
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                f"file: {self.path}: the directory {self.path.parent} does not exist"
            )
        if self.path.exists():
            try:
                self.users()
            except BackendFailed as error:
                raise ConfigurationError(f"file: {error}") from None

    def users(self) -> tuple[CodeMaker, ...]:
        """All devices. Raises: BackendFailed."""
        if not self.path.exists():
            return ()
        with self._transaction("DEFERRED") as rows:
            found = rows.execute(f"SELECT {_COLUMNS} FROM codes ORDER BY user, kind").fetchall()  # noqa: S608
        return tuple(CodeMaker(*each) for each in found)

    def find(self, user: str, kind: Kind) -> CodeMaker | None:
        """A user's device, if it has one. Raises: BackendFailed."""
        if not self.path.exists():
            return None
        with self._transaction("DEFERRED") as rows:
            found = rows.execute(_FIND, (user, kind)).fetchone()
        return None if found is None else CodeMaker(*found[:-2])

    def put(self, maker: CodeMaker) -> None:
        """Give a user this device, in the place of the one before. Raises: BackendFailed."""
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        values = (
            *(maker.user, maker.kind, maker.secret, maker.algorithm, maker.digits),
            *(maker.period_s, maker.next_counter),
        )
        with self._transaction() as rows:
            rows.execute(
                f"INSERT OR REPLACE INTO codes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                values,
            )

    def remove(self, user: str, kind: Kind) -> bool:
        """Forget a user's device; gives whether there was one. Raises: BackendFailed."""
        if not self.path.exists():
            return False
        with self._transaction() as rows:
            done = rows.execute("DELETE FROM codes WHERE user = ? AND kind = ?", (user, kind))
            return done.rowcount > 0

    def use_up(
        self,
        user: str,
        kind: Kind,
        codes: tuple[str, ...],
        *,
        window: int,
        now_s: float,
    ) -> None:
        """Let codes that follow one another pass, once.

        `window` is how many periods a clock may be off, or how many codes of a counter may have
        been skipped.

        Raises: LoginRejected: wrong, used, too many wrong ones before, or no such device.
        Raises: BackendFailed.
        """
        if not self.path.exists():
            raise LoginRejected(f"{user} has no {kind.upper()} device")
        with self._transaction() as rows:
            problem = self._use_up(rows, user, kind, codes, window=window, now_s=now_s)
        if problem:
            raise LoginRejected(problem)

    def _use_up(
        self,
        rows: sqlite3.Connection,
        user: str,
        kind: Kind,
        codes: tuple[str, ...],
        *,
        window: int,
        now_s: float,
    ) -> str:
        found = rows.execute(_FIND, (user, kind)).fetchone()
        if found is None:
            return f"{user} has no {kind.upper()} device"
        *columns, failures, failing_since_s = found
        maker = CodeMaker(*columns)
        if now_s - failing_since_s >= self._guessing.lock_time_s:
            failures = 0
        if failures >= self._guessing.most_failures:
            return f"{user} has given {failures} wrong codes and must wait"
        counters = _counters(maker, window, now_s)
        counter = _following(maker, codes, counters)
        if counter is not None and counter >= maker.next_counter:
            rows.execute(
                "UPDATE codes SET next_counter = ?, failures = 0 WHERE user = ? AND kind = ?",
                (counter + len(codes), user, kind),
            )
            return ""
        since_s = failing_since_s if failures else now_s
        rows.execute(
            "UPDATE codes SET failures = ?, failing_since_s = ? WHERE user = ? AND kind = ?",
            (failures + 1, since_s, user, kind),
        )
        return "the code was used before" if counter is not None else "the code is wrong"

    @contextmanager
    def _transaction(self, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_TIME_S, isolation_level=None)
            ) as connection:
                self._check_kind(connection)
                connection.execute(f"BEGIN {how}")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise BackendFailed(f"{self.path} cannot be used for codes: {error}") from None

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA application_id").fetchone()
        if found == APPLICATION_ID:
            return
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise BackendFailed(f"{self.path} is a file of another program")
        connection.execute(_CREATE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _counters(maker: CodeMaker, window: int, now_s: float) -> range:
    """Those whose codes may be given now; the used ones among them, to tell them by name."""
    if maker.kind == "hotp":
        return range(maker.next_counter, maker.next_counter + window + 1)
    period = int(now_s // maker.period_s)
    return range(max(0, period - window), period + window + 1)


def _following(maker: CodeMaker, codes: tuple[str, ...], counters: range) -> int | None:
    """The counter of the first code, when each of the others is the one after it."""
    first, *others = codes
    found = [each for each in counters if maker.find(first, range(each, each + 1)) is not None]
    for counter in sorted(found, key=lambda each: each < maker.next_counter):
        if all(
            maker.find(code, range(counter + number, counter + number + 1)) is not None
            for number, code in enumerate(others, 1)
        ):
            return counter
    return None
