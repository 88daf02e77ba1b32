"""Asks several authenticators in a row; all of them must accept, and mean the same user."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import attrs
from zope.interface import implementer

from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Identity, LoginRequest, Question
from anyvpn.model.credentials import folded_name


@attrs.frozen
class Settings:
    """Who is asked, one after the other."""

    of: tuple[IAuthenticator, ...] = attrs.field(
        metadata={
            "help": "Authenticators that must all accept, in this order.",
            "example": ("certificates", "directory"),
        }
    )

    def __attrs_post_init__(self) -> None:
        if len(self.of) < 2:
            raise ValueError("of must name at least two authenticators")


def build(settings: Settings, reactor: object) -> Chain:  # noqa: ARG001 - it has no clock
    """What the configuration `backend = "chain"` makes."""
    return Chain(settings.of)


@implementer(IAuthenticator)
class Chain:
    """Each sees who the ones before it have found."""

    def __init__(self, of: tuple[IAuthenticator, ...]) -> None:
        self._of = of

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who all of them found, with the groups and attributes of each.

        Raises: LoginRejected: one of them does not accept, or found another user.
        Raises: BackendFailed: one of them could not do its work.
        """
        identity = dialogue.identity
        for each in self._of:
            found = await each.authenticate(_LaterDialogue(dialogue, identity))
            if not isinstance(found, Identity):
                raise BackendFailed(f"{type(each).__name__} gave {type(found).__name__}")
            identity = found if identity is None else joined(identity, found)
        assert identity is not None  # there are two of them at least
        return identity


def joined(first: Identity, second: Identity) -> Identity:
    """One user as two authenticators know it; what the second says of name and attributes counts.

    Raises: LoginRejected: they mean different users.
    """
    if folded_name(first.user) != folded_name(second.user):
        raise LoginRejected(f"{first.user} was found first, and then {second.user}")
    return Identity(
        second.user,
        first.groups | second.groups,
        MappingProxyType({**first.attributes, **second.attributes}),
    )


@implementer(IDialogue)
@dataclass(frozen=True)
class _LaterDialogue:
    """The same client, whose user is known by now."""

    dialogue: IDialogue
    identity: Identity | None

    @property
    def request(self) -> LoginRequest:
        return self.dialogue.request

    async def ask(self, step: Question) -> Answer:
        return await self.dialogue.ask(step)
