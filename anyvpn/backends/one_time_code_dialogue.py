"""How users are asked for a one-time code: after their password, in its form, or behind it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from zope.interface import implementer

from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Field, Form, Identity, LoginRequest, Question
from anyvpn.model.credentials import known_name, read_credentials, read_text

# From the protocol (protocol reference, section 3.8): what clients fill a code of their own into
CODE_FIELD = "secondary_password"
_PASSWORD = "password"  # noqa: S105 - a field's name, not a secret


def challenge(message: str, identity: Identity) -> Form:
    """Asks whoever is known for a code alone."""
    code = Field("answer", "Code:", secret=True)
    return Form(message, (known_name(identity), code), kind="challenge")


def name_and_code(message: str) -> Form:
    """Asks for the name of somebody unknown, and the code."""
    return Form(message, (Field("username", "Username:"), Field(_PASSWORD, "Code:", secret=True)))


async def ask_for_code(dialogue: IDialogue, message: str) -> tuple[Identity, str]:
    """Who it says to be, and the code, without spaces. Raises: LoginRejected, LoginAborted."""
    if dialogue.identity is not None:
        answer = await dialogue.ask(challenge(message, dialogue.identity))
        return dialogue.identity, without_spaces(read_text(answer, "answer"))
    answer = await dialogue.ask(name_and_code(message))
    said = read_credentials(answer)
    return Identity(said.username), without_spaces(said.password)


async def ask_along(
    dialogue: IDialogue, inside: IAuthenticator, message: str, appended_digits: int
) -> tuple[Identity, str]:
    """Whom another authenticator finds, and the code that was given along with its password.

    With `appended_digits` it stands behind the password, or else in a field of its own.
    """
    together = _FormWithCode(dialogue, appended_digits)
    identity = await inside.authenticate(together)
    if together.code:
        return identity, together.code
    # It asked for no password, as a certificate does
    answer = await dialogue.ask(challenge(message, identity))
    return identity, without_spaces(read_text(answer, "answer"))


def without_spaces(code: str) -> str:
    """Phones show codes in groups."""
    return "".join(code.split())


@implementer(IDialogue)
class _FormWithCode:
    """The same client, whose first form with a password has a code, too."""

    def __init__(self, dialogue: IDialogue, appended_digits: int) -> None:
        self.request: LoginRequest = dialogue.request
        self.identity: Identity | None = dialogue.identity
        self.code = ""
        self._dialogue = dialogue
        self._appended_digits = appended_digits

    async def ask(self, step: Question) -> Answer:
        if self.code or not isinstance(step, Form) or not _asks_for_password(step):
            return await self._dialogue.ask(step)
        if self._appended_digits:
            answer = await self._dialogue.ask(step)
            both = read_text(answer, _PASSWORD)
            password, self.code = both[: -self._appended_digits], both[-self._appended_digits :]
        else:
            code = Field(CODE_FIELD, "Code:", secret=True)
            answer = await self._dialogue.ask(replace(step, fields=(*step.fields, code)))
            password = read_text(answer, _PASSWORD)
            self.code = without_spaces(read_text(answer, CODE_FIELD))
        assert not isinstance(answer, str | tuple) and hasattr(answer, "items")
        rest = {key: value for key, value in answer.items() if key != CODE_FIELD}
        return MappingProxyType({**rest, _PASSWORD: password})


def _asks_for_password(form: Form) -> bool:
    return any(each.name == _PASSWORD for each in form.fields)
