"""Answers with the password that the desktop's keyring keeps."""

from __future__ import annotations

from importlib.util import find_spec

import attrs
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import NO_ANSWERS, Answer, Field, Form, Step
from anyvpn.model.printable import printable

log = Logger()


class _Reactor(IReactorTime, IReactorThreads):
    """What a library that blocks is called by."""


@attrs.frozen
class Settings:
    """Which entry, and what it answers."""

    username: str = attrs.field(metadata={"help": "The user name of the entry."})
    service: str = attrs.field(default="anyvpn", metadata={"help": "The service of the entry."})
    field: str = attrs.field(
        default="password", metadata={"help": "The field of the form that takes the password."}
    )
    time_s: float = attrs.field(
        default=60.0, metadata={"help": "How long the user may take to unlock the keyring."}
    )

    def __attrs_post_init__(self) -> None:
        for name in ("username", "service", "field"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")
        if find_spec("keyring") is None:
            raise ValueError("the library keyring is missing: pip install 'anyvpn[keyring]'")


def build(settings: Settings, reactor: _Reactor) -> KeyringResponder:
    """The responder that knows this entry."""
    return KeyringResponder(settings, reactor)


@implementer(IResponder)
class KeyringResponder:
    """Knows one password, and gives it once in a login: it may be out of date."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, settings: Settings, reactor: _Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self._used = False

    def login_begins(self) -> None:
        """The password may be given again."""
        self._used = False

    async def answer(self, step: Step) -> Answer:
        """The password, and the name of its user when that is asked too; empty without an entry."""
        own = self._settings
        if not isinstance(step, Form):
            return NO_ANSWERS
        asked = {each.name for each in step.fields if isinstance(each, Field) and not each.hidden}
        answers = {"username": own.username} if "username" in asked else {}
        if own.field in asked and not self._used:
            self._used = True
            password = await self._password()
            if password:
                answers[own.field] = password
        return answers

    async def _password(self) -> str:
        own = self._settings
        looked_up = deferToThread(_look_up, own.service, own.username)
        looked_up.addTimeout(own.time_s, self._reactor)
        try:
            password = await looked_up
        except NotInTime:
            log.warn("The keyring has not been unlocked in {time_s} s", time_s=own.time_s)
            return ""
        # Each desktop's keyring has errors of its own kind, and the user has other ways to answer
        except Exception as error:
            log.warn("The keyring cannot be used: {why}", why=printable(str(error)) or repr(error))
            return ""
        if not password:
            log.warn(
                "The keyring has no password yet; save it with: keyring set {service} {username}",
                service=own.service,
                username=own.username,
            )
        return password


def _look_up(service: str, username: str) -> str:
    """In a thread: desktops ask their user to unlock a keyring."""
    import keyring  # noqa: PLC0415 - an extra, which alone this thread needs

    return keyring.get_password(service, username) or ""
