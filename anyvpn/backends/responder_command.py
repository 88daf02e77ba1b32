"""Asks a command of the user's: a password manager, a dialog window, a script."""

from __future__ import annotations

import json
import shutil

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    NO_ANSWERS,
    Answer,
    BrowserLogin,
    Choice,
    Field,
    Form,
    Step,
)
from anyvpn.model.browser_address import browser_origin
from anyvpn.model.printable import printable

log = Logger()

# From the protocol (protocol reference, section 3.11)
_BROWSER = frozenset({"single-sign-on-v2"})

# Ours
LARGEST_OUTPUT_BYTES = 64 * 1024


class _Reactor(IReactorTime, IReactorProcess):
    """What runs a command."""


@attrs.frozen
class Settings:
    """Which command, for what, and how long it may take."""

    command: tuple[str, ...] = attrs.field(
        metadata={"help": "The program and its arguments; no shell reads them."}
    )
    browser: bool = attrs.field(
        default=False, metadata={"help": "The command can do logins in an embedded browser."}
    )
    again: bool = attrs.field(
        default=False,
        metadata={"help": "Ask it again for what it has answered: for commands that ask a user."},
    )
    time_s: float = attrs.field(
        default=120.0, metadata={"help": "How long one run may take, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise ValueError("command must name a program")
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")


def build(settings: Settings, reactor: _Reactor) -> CommandResponder:
    """The responder that runs this command."""
    return CommandResponder(settings, reactor)


@implementer(IResponder)
class CommandResponder:
    """Runs the command once for each step, which it reads as JSON on its standard input."""

    def __init__(self, settings: Settings, reactor: _Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self._used: set[str] = set()
        self.capabilities: frozenset[str] = _BROWSER if settings.browser else frozenset()

    def login_begins(self) -> None:
        """What was answered may be answered again."""
        self._used.clear()

    async def answer(self, step: Step) -> Answer:
        """What the command says. Raises: LoginAborted: it fails, or says nothing of use."""
        if isinstance(step, BrowserLogin):
            return await self._answer_browser(step)
        if not isinstance(step, Form):
            return NO_ANSWERS
        fields = [
            each
            for each in step.fields
            if each.name not in self._used and not (isinstance(each, Field) and each.hidden)
        ]
        if not fields:
            return NO_ANSWERS
        said = await self._run(
            {
                "kind": step.kind,
                "title": printable(step.title),
                "message": printable(step.message, lines=True),
                "error": printable(step.error, lines=True),
                "fields": [_described(each) for each in fields],
            }
        )
        answers = self._answers_in(said, fields)
        if not self._settings.again:
            self._used |= answers.keys()
        return answers

    async def _answer_browser(self, step: BrowserLogin) -> Answer:
        if not self._settings.browser or step.external:
            return ""
        if not browser_origin(step.login_url) or not browser_origin(step.final_url):
            raise LoginAborted("the gateway sends the browser to an address that is not safe")
        said = await self._run(
            {
                "kind": "browser",
                "title": printable(step.title),
                "message": printable(step.message, lines=True),
                "error": printable(step.error, lines=True),
                "login_url": step.login_url,
                "final_url": step.final_url,
                "token_cookie": step.token_cookie,
                "error_cookie": step.error_cookie,
            }
        )
        table = _table_in(said)
        token = said if table is None else table.get("token", "")
        if not isinstance(token, str):
            raise LoginAborted(f"{self._name} gave a token that is no text")
        return token

    @property
    def _name(self) -> str:
        return printable(self._settings.command[0])

    def _answers_in(self, said: str, fields: list[Field | Choice]) -> dict[str, str]:
        table = _table_in(said)
        if table is None:
            if not said:
                return {}
            secret = [each for each in fields if isinstance(each, Field) and each.secret]
            candidates = secret or fields
            if len(candidates) != 1:
                raise LoginAborted(f"{self._name} gave one answer to several questions")
            return {candidates[0].name: self._sent(candidates[0], said)}
        answers: dict[str, str] = {}
        for field in fields:
            text = table.get(field.name, "")
            if not isinstance(text, str):
                raise LoginAborted(f"{self._name} gave an answer that is no text")
            if field.name in table:
                answers[field.name] = self._sent(field, text)
        return answers

    def _sent(self, field: Field | Choice, text: str) -> str:
        if isinstance(field, Field):
            return text
        value = field.value_of(text)
        if not value:
            raise LoginAborted(f"{self._name} chose what is not in the list: {printable(text)}")
        return value

    async def _run(self, question: dict[str, object]) -> str:
        """What the command prints, without the end of its line. Raises: LoginAborted."""
        command = self._settings.command
        # a program that is not there would be noticed by the child alone
        if shutil.which(command[0]) is None:
            raise LoginAborted(f"{self._name} cannot be run: there is no such program")
        run = _Run(self._reactor, self._settings.time_s, json.dumps(question).encode())
        try:
            self._reactor.spawnProcess(run, command[0], list(command), None)
        except OSError as error:
            run.forget()
            raise LoginAborted(f"{self._name} cannot be run: {error.strerror}") from None
        why = await run.ended
        complaints = [printable(line) for line in run.errors.decode("utf-8", "replace").split("\n")]
        complaints = [line for line in complaints if line]
        for line in complaints:
            log.info("{command}: {line}", command=self._name, line=line)
        if why:
            last = f": {complaints[-1]}" if complaints else ""
            raise LoginAborted(f"{self._name} {why}{last}")
        try:
            return run.output.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise LoginAborted(f"{self._name} printed something that is not UTF-8") from None


def _described(field: Field | Choice) -> dict[str, object]:
    shown: dict[str, object] = {"name": field.name, "label": printable(field.label)}
    if isinstance(field, Field):
        return shown | {"secret": field.secret}
    choices = [
        {"value": each.value, "label": printable(each.label), "selected": each.selected}
        for each in field.options
    ]
    return shown | {"secret": False, "choices": choices}


def _table_in(said: str) -> dict[str, object] | None:
    """The JSON object that was printed; None when it is plain text, such as a code."""
    try:
        table = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None


class _Run(ProcessProtocol):
    """One run: its output, bounded, and how it ended; empty when it ended well."""

    transport: IProcessTransport

    def __init__(self, reactor: IReactorTime, time_s: float, question: bytes) -> None:
        self.output = b""
        self.errors = b""
        self.ended: Deferred[str] = Deferred(lambda _: self._kill())
        self._question = question
        self._time_limit: IDelayedCall = reactor.callLater(time_s, self._end, "took too long")
        self._why = ""

    def connectionMade(self) -> None:
        """It runs: ask."""
        self.transport.writeToChild(0, self._question)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """The answer."""
        self.output += data[: LARGEST_OUTPUT_BYTES - len(self.output)]
        if len(self.output) >= LARGEST_OUTPUT_BYTES:
            self._end("printed too much")

    def errReceived(self, data: bytes) -> None:
        """Complaints, of which the beginning is kept."""
        self.errors += data[: LARGEST_OUTPUT_BYTES - len(self.errors)]

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        self.forget()
        if self.ended.called:
            return
        value = reason.value
        if isinstance(value, ProcessDone):
            self.ended.callback(self._why)
        elif isinstance(value, ProcessTerminated) and value.exitCode is not None:
            self.ended.callback(self._why or f"failed with status {value.exitCode}")
        else:
            self.ended.callback(self._why or "was killed")

    def forget(self) -> None:
        """No time limit any more."""
        if self._time_limit.active():
            self._time_limit.cancel()

    def _end(self, why: str) -> None:
        self._why = why
        self._kill()

    def _kill(self) -> None:
        self.forget()
        if self.transport.pid:
            self.transport.signalProcess("KILL")
        # a grandchild may hold the pipes, and would keep us waiting
        self.transport.loseConnection()
