"""Lets the system's PAM decide, in a helper process for each login."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.backends import authenticator_pam_helper
from anyvpn.backends.process_group import kill_group
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Field, Form, Identity
from anyvpn.model.credentials import (
    Credentials,
    known_name,
    password_form,
    read_credentials,
    read_name,
    read_text,
)
from anyvpn.model.printable import printable

# From Linux-PAM: _pam_types.h; what says that PAM itself does not work. PAM_SYSTEM_ERR is not
# among them: it is what pam_exec makes of a program's "no"
_FAILURES = frozenset(
    (
        1,  # PAM_OPEN_ERR
        2,  # PAM_SYMBOL_ERR
        3,  # PAM_SERVICE_ERR
        5,  # PAM_BUF_ERR
        9,  # PAM_AUTHINFO_UNAVAIL
        26,  # PAM_ABORT
        28,  # PAM_MODULE_UNKNOWN
    )
)

# Ours
MOST_ROUNDS = 20
MOST_PARALLEL = 256
MOST_HELPERS = 512
"""Processes at a time, most of which wait for what their users answer."""
LONGEST_OUTPUT_BYTES = 256 * 1024
_SERVICE = re.compile(r"[A-Za-z0-9_.-]+")


@attrs.frozen
class Settings:
    """Which rules of PAM, and how long its modules may take."""

    service: str = attrs.field(
        default="anyvpn",
        metadata={"help": "Name of the file of rules in /etc/pam.d.", "example": "anyvpn"},
    )
    directory: Path | None = attrs.field(
        default=None, metadata={"help": "Where this file is instead; none: /etc/pam.d."}
    )
    time_s: float = attrs.field(
        default=30.0,
        metadata={"help": "How long PAM may take between two questions, in seconds."},
    )
    max_parallel: int = attrs.field(
        default=16, metadata={"help": "Logins that PAM looks at at a time; others wait."}
    )

    def __attrs_post_init__(self) -> None:
        if not _SERVICE.fullmatch(self.service):
            raise ValueError('service must be the name of a file, such as "anyvpn"')
        if not 0 < self.time_s <= 600:
            raise ValueError("time_s must be more than 0 and at most 600")
        if not 1 <= self.max_parallel <= MOST_PARALLEL:
            raise ValueError(f"max_parallel must lie between 1 and {MOST_PARALLEL}")


class _Reactor(IReactorProcess, IReactorTime):
    """What the authenticator needs of a reactor."""


def build(settings: Settings, reactor: _Reactor) -> PAMAuthenticator:
    """What the configuration `backend = "pam"` makes. Raises: ConfigurationError."""
    file = (settings.directory or Path("/etc/pam.d")) / settings.service
    if not file.is_file():
        raise ConfigurationError(
            f"service: there is no {file}; PAM would take its rules for everything else"
        )
    return PAMAuthenticator(settings, reactor)


@implementer(IAuthenticator)
class PAMAuthenticator:
    """Asks for name and password, and for whatever else PAM's modules want to know."""

    def __init__(self, settings: Settings, reactor: _Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self._room = DeferredSemaphore(settings.max_parallel)
        self._helpers: set[_Helper] = set()

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to PAM, with the groups that the system knows.

        Raises: LoginRejected: PAM says no, or no account, or the account has expired.
        Raises: BackendFailed: a module crashed, took too long, or PAM is not set up.
        """
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        if len(self._helpers) >= MOST_HELPERS:
            raise BackendFailed(f"{MOST_HELPERS} users are being asked by PAM")
        helper = _Helper()
        self._helpers.add(helper)
        try:
            return await self._talk(dialogue, helper, said)
        finally:
            await helper.end()
            self._helpers.discard(helper)

    def _start(self, helper: _Helper) -> None:
        own = self._settings
        path = authenticator_pam_helper.__file__
        directory = "" if own.directory is None else str(own.directory)
        try:
            self._reactor.spawnProcess(
                helper,
                sys.executable,
                [sys.executable, "-I", path, own.service, directory],
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )
        except OSError as error:
            raise BackendFailed(f"the helper for PAM cannot be run: {error.strerror}") from None

    async def _talk(self, dialogue: IDialogue, helper: _Helper, said: Credentials) -> Identity:
        identity = Identity(said.username)
        password: str | None = said.password
        texts: list[str] = []
        told: dict[str, Any] = {"user": said.username, "peer": dialogue.request.peer_address}
        for _ in range(MOST_ROUNDS):
            heard = await self._turn(helper, told)
            if "code" in heard:
                return _verdict(heard)
            prompts = [(printable(str(text)), bool(secret)) for text, secret in heard["prompts"]]
            texts += [printable(str(each)) for each in heard["texts"]]
            if not prompts:
                told = {"answers": []}
            elif password is not None and len(prompts) == 1 and prompts[0][1]:
                told = {"answers": [password]}  # the first question is for the password
                password = None
            else:
                form = _form(identity, prompts, texts)
                texts = []
                told = {"answers": _answers(await dialogue.ask(form), len(prompts))}
        raise LoginRejected(f"PAM asks more than {MOST_ROUNDS} times")

    async def _turn(self, helper: _Helper, told: Mapping[str, Any]) -> dict[str, Any]:
        """Let PAM go on with what it is told, when it is its turn; what it wants or says then."""
        own = self._settings
        await self._room.acquire()
        try:
            if helper.transport is None:
                self._start(helper)
            helper.say(told)
            return await helper.heard().addTimeout(own.time_s, self._reactor)
        except NotInTime:
            raise BackendFailed(f"PAM ({own.service}) said nothing for {own.time_s:g} s") from None
        finally:
            self._room.release()


def _form(identity: Identity, prompts: Sequence[tuple[str, bool]], texts: Sequence[str]) -> Form:
    fields = [
        Field("answer" if number == 0 else f"answer{number}", text, secret=secret)
        for number, (text, secret) in enumerate(prompts)
    ]
    message = " ".join(each for each in texts if each) or prompts[0][0]
    return Form(message, (known_name(identity), *fields), kind="challenge")


def _answers(answer: Answer, count: int) -> list[str]:
    names = ["answer" if number == 0 else f"answer{number}" for number in range(count)]
    return [read_text(answer, name) for name in names]


def _verdict(heard: Mapping[str, Any]) -> Identity:
    code = int(heard["code"])
    text = printable(str(heard["text"]))
    if code in _FAILURES:
        raise BackendFailed(f"PAM does not work: {text} ({code})")
    if code:
        raise LoginRejected(f"PAM: {text}")
    groups = (str(each) for each in heard["groups"])
    return Identity(
        read_name(str(heard["user"])), frozenset(each for each in groups if each.isprintable())
    )


class _Helper(ProcessProtocol):
    """The process that speaks to PAM for one login."""

    transport: Any

    def __init__(self) -> None:
        self._received = bytearray()
        self._errors = bytearray()
        self._waiting: Deferred[dict[str, Any]] | None = None
        self._end = ""
        self._process = 0
        self._gone: Deferred[None] = Deferred()

    def say(self, content: Mapping[str, Any]) -> None:
        """Tell it something; one that has ended hears nothing, which shows when it is heard."""
        if self.transport is not None and not self._end:
            self.transport.write(json.dumps(content).encode("ascii") + b"\n")

    def heard(self) -> Deferred[dict[str, Any]]:
        """What it says next."""
        waiting = self._waiting = Deferred()
        self._look()
        return waiting

    async def end(self) -> None:
        """It is not needed any more, whatever it is at; comes back when it is gone."""
        self._waiting = None
        if not self._process:
            return  # it was never begun
        if not self._end:
            kill_group(self._process)  # and the programs of its modules
            self.transport.loseConnection()  # which may have left the group, and hold on to it
        await self._gone

    def connectionMade(self) -> None:
        """It runs."""
        self._process = self.transport.pid

    def outReceived(self, data: bytes) -> None:
        """It has said something."""
        self._received += data
        self._look()

    def errReceived(self, data: bytes) -> None:
        """A module, or Python, complains."""
        self._errors += data[: 2000 - len(self._errors)]

    def processEnded(self, reason: Failure) -> None:
        """It is over, as it should be or not."""
        said = printable(bytes(self._errors).decode("utf-8", "replace"))[-300:]
        number = getattr(reason.value, "signal", None)
        how = f"was ended by signal {number}" if number else "ended"
        self._end = f"the helper for PAM {how} without a verdict{f': {said}' if said else ''}"
        self._look()
        self._gone.callback(None)

    def _look(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.called:
            return
        line, newline, rest = self._received.partition(b"\n")
        if newline:
            self._received = bytearray(rest)
            try:
                waiting.callback(json.loads(line))
            except ValueError:
                waiting.errback(BackendFailed("the helper for PAM speaks nonsense"))
        elif self._end:
            waiting.errback(BackendFailed(self._end))
        elif len(self._received) > LONGEST_OUTPUT_BYTES:
            waiting.errback(BackendFailed("the helper for PAM says too much"))
