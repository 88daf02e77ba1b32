"""Asks several authenticators in a row until one of them accepts."""

from __future__ import annotations

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.errors import BackendFailed, LoginRejected, LoginUndecided
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Form, Identity, LoginRequest, Question

log = Logger()


@attrs.frozen
class Settings:
    """Who is asked, one after the other."""

    of: tuple[IAuthenticator, ...] = attrs.field(
        metadata={
            "help": "Authenticators of which one must accept, in this order.",
            "example": ("certificates", "directory"),
        }
    )

    def __attrs_post_init__(self) -> None:
        if len(self.of) < 2:
            raise ValueError("of must name at least two authenticators")


def build(settings: Settings, reactor: object) -> FirstOf:  # noqa: ARG001 - it has no clock
    """What the configuration `backend = "any"` makes."""
    return FirstOf(settings.of)


@implementer(IAuthenticator)
class FirstOf:
    """The first that accepts says who it is; the same form is shown to the user once."""

    def __init__(self, of: tuple[IAuthenticator, ...]) -> None:
        self._of = of

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to the first that accepts.

        Raises: LoginRejected: none of them does; the text has what each of them said.
        Raises: BackendFailed: none of them does, and one of them could not say; LoginUndecided if
            another one has refused what the user typed.
        """
        given: dict[Form, Answer] = {}
        refusals: list[str] = []
        failures: list[str] = []
        is_guess = False
        for each in self._of:
            own = _RememberingDialogue(dialogue, given)
            try:
                return await each.authenticate(own)
            except LoginRejected as error:
                refusals.append(str(error))
                is_guess = is_guess or bool(own.asked)
            except BackendFailed as error:
                log.error("An authenticator failed, the next is asked: {problem}", problem=error)
                failures.append(str(error))
        if failures:
            kind = LoginUndecided if is_guess else BackendFailed
            raise kind("; ".join([*failures, *refusals]))
        raise LoginRejected("; ".join(refusals))


@implementer(IDialogue)
class _RememberingDialogue:
    """The same client, which is not asked by one authenticator what another has asked.

    One that asks the same form twice wants it filled in twice.
    """

    def __init__(self, dialogue: IDialogue, given: dict[Form, Answer]) -> None:
        self.request: LoginRequest = dialogue.request
        self.identity: Identity | None = dialogue.identity
        self._dialogue = dialogue
        self._given = given
        self.asked: set[Form] = set()

    async def ask(self, step: Question) -> Answer:
        if not isinstance(step, Form):
            return await self._dialogue.ask(step)
        if step not in self._given or step in self.asked:
            self._given[step] = await self._dialogue.ask(step)
        self.asked.add(step)
        return self._given[step]
