"""Answers with what was given ahead: options, a configuration, a file with the password."""

from __future__ import annotations

from pathlib import Path

import attrs
from zope.interface import implementer

from anyvpn.backends.secret_file import warn_of_readers
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import NO_ANSWERS, Answer, Choice, Field, Form, Step

# From the protocol (protocol reference, sections 3.2, 3.6 and 3.7)
_FIELDS = {
    "username": "username",
    "password": "password",
    "secondary_password": "secondary_password",
    "secondary_username": "secondary_username",
    "new_password": "new_password",
    "verify_password": "new_password",
}

# Ours
_LONGEST_PASSWORD_CHARACTERS = 4096


@attrs.frozen
class Settings:
    """What is known; each answer is given once in a login."""

    username: str = attrs.field(default="", metadata={"help": "The user name."})
    password: str = attrs.field(
        default="", repr=False, metadata={"help": "The password; better: password_file."}
    )
    password_file: Path | None = attrs.field(
        default=None, metadata={"help": "A file whose first line is the password."}
    )
    secondary_username: str = attrs.field(
        default="", metadata={"help": "The user name of the second authentication."}
    )
    secondary_password: str = attrs.field(
        default="", repr=False, metadata={"help": "The password of the second authentication."}
    )
    new_password: str = attrs.field(
        default="", repr=False, metadata={"help": "What to change the password to when asked."}
    )
    answers: dict[str, str] = attrs.field(
        factory=dict, repr=False, metadata={"help": "Further fields of forms, name to answer."}
    )


def build(settings: Settings, reactor: object) -> GivenResponder:  # noqa: ARG001
    """The responder that knows what the settings say."""
    return GivenResponder(settings)


@implementer(IResponder)
class GivenResponder:
    """Knows a few answers, and gives none a second time: it may have been wrong."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._used: set[str] = set()

    def login_begins(self) -> None:
        """What was used may be given again."""
        self._used.clear()

    async def answer(self, step: Step) -> Answer:
        """The fields that are known and were not answered before in this login.

        Raises: LoginAborted: the password file cannot be read.
        """
        if not isinstance(step, Form):
            return NO_ANSWERS
        known: dict[str, str] = {}
        for field in step.fields:
            if field.name in self._used:
                continue
            text = self._known(field)
            if text:
                known[field.name] = text
        # A user name alone is no secret, and stays right when the password was wrong
        self._used |= known.keys() - {"username"}
        return known

    def _known(self, field: Field | Choice) -> str:
        settings = self._settings
        text = settings.answers.get(field.name, "")
        if not text and field.name in _FIELDS:
            text = str(getattr(settings, _FIELDS[field.name]))
        if not text and field.name == "password" and settings.password_file is not None:
            text = _first_line(settings.password_file)
        if isinstance(field, Choice) and text:
            text = field.value_of(text)
        return text


def _first_line(path: Path) -> str:
    try:
        warn_of_readers(path)
        with path.open(encoding="utf-8") as file:
            line = file.readline(_LONGEST_PASSWORD_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LoginAborted(f"the password file {path} cannot be read: {why}") from None
    return line.rstrip("\r\n")
