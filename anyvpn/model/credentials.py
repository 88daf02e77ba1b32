"""User name and password: how they are asked for, and what is taken for an answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from anyvpn.errors import LoginRejected
from anyvpn.model.authentication import PASSWORD_FORM, Answer, Field, Form, Identity

# Ours
LONGEST_INPUT_CHARACTERS = 1024
"""Of a name or a password; more is refused before anybody looks at it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password that are text: neither is empty, endless or has a zero byte.

    The name is as `read_name` gives it, without spaces around it.
    """

    username: str
    password: str = field(repr=False)


def password_form(identity: Identity | None = None) -> Form:
    """Asks for name and password; for the password alone when it is known whose."""
    if identity is None:
        return PASSWORD_FORM
    return Form(
        f"Please enter the password of {identity.user}.",
        (known_name(identity), Field("password", "Password:", secret=True)),
    )


def known_name(identity: Identity) -> Field:
    """The name of a known user, which is not asked: so that failures are counted as this one's."""
    return Field("username", hidden=True, value=identity.user)


def read_credentials(answer: Answer, identity: Identity | None = None) -> Credentials:
    """What the answer to `password_form` says. Raises: LoginRejected: nobody could use it."""
    name = identity.user if identity is not None else read_text(answer, "username").strip()
    return Credentials(read_name(name), read_text(answer, "password"))


def read_text(answer: Answer, name: str) -> str:
    """One field of a form's answer. Raises: LoginRejected: it is empty, too long or no text."""
    text = answer.get(name, "") if isinstance(answer, Mapping) else ""
    if not text:
        raise LoginRejected(f"the {name} is empty")
    if len(text) > LONGEST_INPUT_CHARACTERS:
        raise LoginRejected(f"the {name} is longer than {LONGEST_INPUT_CHARACTERS} characters")
    if "\0" in text:
        raise LoginRejected(f"the {name} has a zero byte in it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise LoginRejected(f"the {name} is no text") from None
    return text


def folded_name(name: str) -> str:
    """What is the same of a name in all its spellings: directories know neither case nor width.

    Names are compared by it, or each spelling would be another user to limits and prohibitions.
    """
    once = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", once).split())


def read_name(name: str) -> str:
    """A user's name, in Unicode's composed form (NFC).

    Raises: LoginRejected: no name that a log or a directory could show.
    """
    name = unicodedata.normalize("NFC", name)
    if not name or not name.isprintable():
        raise LoginRejected("the username is empty or has control characters in it")
    return name
