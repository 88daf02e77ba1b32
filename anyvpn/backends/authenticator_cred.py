"""Lets any checker of twisted.cred say whether a password is right, by its strcred string."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed
from twisted.cred.strcred import (
    InvalidAuthType,
    findCheckerFactories,
    makeChecker,
)
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import password_form, read_credentials


@attrs.frozen
class Settings:
    """Which checker, and how long it may take."""

    checker: str = attrs.field(
        metadata={
            "help": "The checker's strcred string: its type, a colon, its argument.",
            "example": "file:/etc/anyvpn/passwords",
        }
    )
    time_s: float = attrs.field(
        default=30.0, metadata={"help": "How long the checker may take, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")


def build(settings: Settings, reactor: IReactorTime) -> CredAuthenticator:
    """What the configuration `backend = "cred"` makes. Raises: ConfigurationError."""
    try:
        checker = makeChecker(settings.checker)  # type: ignore[no-untyped-call]  # Twisted's
    except InvalidAuthType:
        known = sorted(
            each.authType
            for each in findCheckerFactories()  # type: ignore[no-untyped-call]  # likewise
            if IUsernamePassword in each.credentialInterfaces
        )
        raise ConfigurationError(
            f"checker: there is no checker {settings.checker.partition(':')[0]!r}; there are "
            f"{', '.join(known)}"
        ) from None
    except Exception as error:  # of its own argument, or whatever foreign code raises
        raise ConfigurationError(f"checker: {error}") from None
    if not any(each.isOrExtends(IUsernamePassword) for each in checker.credentialInterfaces):
        raise ConfigurationError(
            f"checker: {settings.checker!r} does not check user names and passwords"
        )
    return CredAuthenticator(checker, settings.time_s, reactor)


@implementer(IAuthenticator)
class CredAuthenticator:
    """Asks for name and password, and hands them to the checker as UTF-8."""

    def __init__(self, checker: Any, time_s: float, reactor: IReactorTime) -> None:
        self._check: Callable[[UsernamePassword], object] = checker.requestAvatarId
        self._time_s = time_s
        self._reactor = reactor

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who the checker says it is.

        Raises: LoginRejected: it does not accept them.
        Raises: BackendFailed: it breaks, or says nothing in time.
        """
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        credentials = UsernamePassword(said.username.encode(), said.password.encode())
        checking: Deferred[object] = maybeDeferred(self._check, credentials)
        checking.addTimeout(self._time_s, self._reactor)
        try:
            avatar_id = await checking
        except LoginFailed:
            raise LoginRejected("the checker accepts neither or not both") from None
        except NotInTime:
            raise BackendFailed(f"the checker said nothing within {self._time_s:g} s") from None
        except CancelledError:
            raise
        except Exception as error:  # whatever foreign code raises; its text may hold the password
            raise BackendFailed(f"the checker broke: {type(error).__name__}") from None
        return Identity(_name_in(avatar_id))


def _name_in(avatar_id: object) -> str:
    if isinstance(avatar_id, bytes):
        try:
            avatar_id = avatar_id.decode("utf-8")
        except UnicodeDecodeError:
            raise BackendFailed("the checker gave a name that is not UTF-8") from None
    if not isinstance(avatar_id, str) or not avatar_id:
        raise LoginRejected("the checker gave no name")
    return avatar_id
