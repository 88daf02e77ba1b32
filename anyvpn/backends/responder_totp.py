"""Answers with time-based one-time codes (TOTP) of a secret."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from anyvpn.backends.secret_file import warn_of_readers
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import NO_ANSWERS, Answer, Field, Form, Step

# From the protocol (protocol reference, sections 3.6 and 3.8)
_CHALLENGE = "challenge"
_SECOND_PASSWORD = "secondary_password"  # noqa: S105 - a field's name, not a secret

# Ours
CODES_PER_LOGIN = 2  # a clock that is a little off spoils one; more would lock an account
_SPEAKS_OF_CODES = re.compile(
    r"\b(otp|totp|one[- ]?time|token ?code|passcode|(verification|authenticat\w+|security) code)\b",
    re.IGNORECASE,
)
_LEAST_LEFT_S = 1.0  # of a code's period: less may have passed before the gateway looks at it
_LONGEST_SECRET_CHARACTERS = 1024
_HASHES: dict[str, type[hashes.SHA1 | hashes.SHA256 | hashes.SHA512]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha512": hashes.SHA512,
}


@attrs.frozen
class Settings:
    """The secret, and how codes are made of it."""

    secret: str = attrs.field(
        default="",
        repr=False,
        metadata={"help": "The secret, base32 or 0x and hex; better: secret_file."},
    )
    secret_file: Path | None = attrs.field(
        default=None, metadata={"help": "A file whose first line is the secret."}
    )
    digits: int = attrs.field(default=6, metadata={"help": "How long a code is: 6, 7 or 8."})
    period_s: int = attrs.field(default=30, metadata={"help": "How long a code lasts, in seconds."})
    algorithm: str = attrs.field(default="sha1", metadata={"help": "sha1, sha256 or sha512."})
    fields: tuple[str, ...] = attrs.field(
        default=(_SECOND_PASSWORD,),
        metadata={"help": "Fields that take a code, beside the one of a challenge."},
    )

    def __attrs_post_init__(self) -> None:
        if bool(self.secret) == (self.secret_file is not None):
            raise ValueError("either secret or secret_file must be set")
        if self.secret:
            _decoded(self.secret)
        if self.digits not in (6, 7, 8):
            raise ValueError("digits must be 6, 7 or 8")
        if not 1 <= self.period_s <= 3600:
            raise ValueError("period_s must lie between 1 and 3600")
        if self.algorithm not in _HASHES:
            raise ValueError(f"algorithm must be one of {', '.join(_HASHES)}")


def build(settings: Settings, reactor: IReactorTime) -> TOTPResponder:
    """The responder that makes codes of this secret; the reactor's clock is the time of day."""
    return TOTPResponder(settings, reactor)


@implementer(IResponder)
class TOTPResponder:
    """Gives each code once, and few of them in one login."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, settings: Settings, reactor: IReactorTime) -> None:
        self._settings = settings
        self._reactor = reactor
        self._given = 0
        self._last_period = -1

    def login_begins(self) -> None:
        """Codes may be given again, though none of those that were."""
        self._given = 0

    async def answer(self, step: Step) -> Answer:
        """A code for the field that takes one; waits for the next when this one was used.

        Raises: LoginAborted: the secret cannot be read.
        """
        name = self._field_of(step) if isinstance(step, Form) else ""
        if not name or self._given >= CODES_PER_LOGIN:
            return NO_ANSWERS
        self._given += 1
        return {name: await self._code(self._secret())}

    def _field_of(self, form: Form) -> str:
        shown = [each for each in form.fields if isinstance(each, Field) and not each.hidden]
        for field in shown:
            if field.name in self._settings.fields:
                return field.name
        if len(shown) != 1:
            return ""
        # ocserv asks for a code in a form like that of the password
        is_asked = form.kind == _CHALLENGE or (
            shown[0].secret and _SPEAKS_OF_CODES.search(f"{form.message} {shown[0].label}")
        )
        return shown[0].name if is_asked else ""

    async def _code(self, secret: bytes) -> str:
        own = self._settings
        while True:
            now_s = self._reactor.seconds()
            period = int(now_s // own.period_s)
            left_s = (period + 1) * own.period_s - now_s
            is_short = left_s < min(_LEAST_LEFT_S, own.period_s / 2)
            if period > self._last_period and not is_short:
                break
            await deferLater(self._reactor, left_s)
        self._last_period = period
        maker = TOTP(
            secret, own.digits, _HASHES[own.algorithm](), own.period_s, enforce_key_length=False
        )
        return maker.generate(period * own.period_s).decode("ascii")

    def _secret(self) -> bytes:
        path = self._settings.secret_file
        if path is None:
            return _decoded(self._settings.secret)
        try:
            warn_of_readers(path)
            with path.open(encoding="ascii") as file:
                return _decoded(file.readline(_LONGEST_SECRET_CHARACTERS))
        except OSError as error:
            raise LoginAborted(f"the secret {path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise LoginAborted(f"the secret {path} is neither base32 nor 0x and hex") from None


def _decoded(secret: str) -> bytes:
    """Raises: ValueError: it is neither base32 nor hex."""
    text = re.sub(r"[\s-]", "", secret).lower()
    try:
        if text.startswith("0x"):
            key = bytes.fromhex(text[2:])
        else:
            text = text.removeprefix("base32:").rstrip("=").upper()
            key = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret is neither base32 nor 0x and hex")
    return key
