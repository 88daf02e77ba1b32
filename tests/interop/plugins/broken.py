"""An authenticator that breaks in whichever way it is told to."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Identity


@attrs.frozen
class Settings:
    """How it breaks."""

    how: Literal["build", "interface", "dialogue", "silence", "rubbish", "rubbish-step"]


def build(settings: Settings, reactor: object) -> object:
    if settings.how == "build":
        raise ZeroDivisionError("not today")
    return object() if settings.how == "interface" else Broken(settings.how)


@implementer(IAuthenticator)
class Broken:
    def __init__(self, how: str) -> None:
        self._how = how

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        if self._how == "rubbish-step":
            await dialogue.ask("your name?")
        await dialogue.ask(PASSWORD_FORM)
        if self._how == "dialogue":
            raise ZeroDivisionError("in the middle")
        if self._how == "silence":
            await Deferred()
        rubbish: Any = {"user": "alice"}
        return rubbish
