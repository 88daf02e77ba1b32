"""Lets a client in whose user knows a password, and then the code of the moment."""

from __future__ import annotations

import time

import attrs
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from zope.interface import implementer

from anyvpn.errors import LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Field, Form, Identity

CODE_FORM = Form(
    "Please enter the code of the moment.",
    (Field("answer", "Code:", secret=True),),
    kind="challenge",
)


@attrs.frozen
class Settings:
    """One user, with both secrets; the second in hex."""

    user: str
    password: str
    secret: str


def build(settings: Settings, reactor: object) -> PasswordAndCode:
    return PasswordAndCode(settings)


@implementer(IAuthenticator)
class PasswordAndCode:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        own = self._settings
        said = await dialogue.ask(PASSWORD_FORM)
        if (said["username"], said["password"]) != (own.user, own.password):
            raise LoginRejected("a wrong password")
        said = await dialogue.ask(CODE_FORM)
        codes = TOTP(bytes.fromhex(own.secret), 6, SHA1(), 30)
        for moment_s in (time.time(), time.time() - 30):
            try:
                codes.verify(said["answer"].encode(), int(moment_s))
            except InvalidToken:
                continue
            return Identity(own.user)
        raise LoginRejected("a wrong code")
