"""One-time codes of users: how they are made, and which of them are good (RFC 4226, RFC 6238)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode
from dataclasses import dataclass, field, replace
from typing import Literal

import pyotp

Kind = Literal["totp", "hotp"]

# From the protocol: RFC 4226, section 4 (a secret of 128 bits at least), and RFC 6238
SMALLEST_SECRET_BYTES = 16
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}

# Ours
LARGEST_SECRET_BYTES = 128
LARGEST_COUNTER = 2**53  # which every store keeps exactly


@dataclass(frozen=True, slots=True)
class CodeMaker:
    """A user's device: its secret, how it makes codes of it, and which ones are used up.

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
    failures: int = 0
    """Wrong codes in a row, the first of them at `failing_since_s`."""
    failing_since_s: float = 0.0

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
        if not 0 <= self.next_counter <= LARGEST_COUNTER:
            raise ValueError(f"next_counter must lie between 0 and {LARGEST_COUNTER}")

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


def judge(
    maker: CodeMaker, codes: tuple[str, ...], guessing: Guessing, *, window: int, now_s: float
) -> tuple[CodeMaker, str]:
    """What the device is after codes that follow one another, and what is wrong with them.

    `window` is how many periods a clock may be off, or how many codes of a counter may have been
    skipped. Nothing is wrong, the text is empty then, if the codes may pass once the device is
    what it is to be.
    """
    failures = maker.failures
    if now_s - maker.failing_since_s >= guessing.lock_time_s:
        failures = 0
    if failures >= guessing.most_failures:
        return maker, f"{maker.user} has given {failures} wrong codes and must wait"
    counter = _following(maker, codes, _counters(maker, window, now_s))
    if counter is not None and counter >= maker.next_counter:
        return replace(maker, next_counter=counter + len(codes), failures=0), ""
    since_s = maker.failing_since_s if failures else now_s
    problem = "the code was used before" if counter is not None else "the code is wrong"
    return replace(maker, failures=failures + 1, failing_since_s=since_s), problem


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
