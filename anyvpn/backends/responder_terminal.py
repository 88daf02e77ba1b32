"""Asks the user at the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from typing import TextIO

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import NO_ANSWERS, Answer, Choice, Field, Form, Step
from anyvpn.model.printable import printable

# From the protocol (protocol reference, section 3.7)
_REPEATS = {"verify_password": "new_password", "verify_pin": "new_pin"}

# Ours
LONGEST_LINE_BYTES = 4096
TRIES = 3
_TERMINAL = "/dev/tty"
_in_turn = DeferredLock()
"""A process has one terminal: whoever asks there is answered before the next one asks."""


@attrs.frozen
class Settings:
    """Nothing to set."""


def build(settings: Settings, reactor: IReactorFDSet) -> TerminalResponder:  # noqa: ARG001
    """The responder at this process's terminal."""
    return TerminalResponder(reactor)


@implementer(IResponder)
class TerminalResponder:
    """Shows forms on the terminal and reads the answers, secret ones without echo.

    Without a terminal it reads lines of standard input and shows prompts on standard error.
    """

    capabilities: frozenset[str] = frozenset()

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._shown = ""

    def login_begins(self) -> None:
        """Texts of the login before may be shown again."""
        self._shown = ""

    async def answer(self, step: Step) -> Answer:
        """All fields of a form. Raises: LoginAborted: the user gives up."""
        if not isinstance(step, Form):
            return NO_ANSWERS
        async with _in_turn:
            return await self._fill_in(step)

    async def _fill_in(self, step: Form) -> Answer:
        with _terminal() as (descriptor, output):
            text = "\n".join(
                printable(each, lines=True) for each in (step.error, step.message) if each
            )
            if text and text != self._shown:
                self._shown = text
                output.write(f"{text}\n")
            answers: dict[str, str] = {}
            for field in step.fields:
                if isinstance(field, Choice):
                    typed = await self._ask_choice(descriptor, output, field)
                else:
                    typed = await self._ask_text(descriptor, output, field)
                answers[field.name] = typed
                repeated = _REPEATS.get(field.name, "")
                if repeated in answers and answers[repeated] != answers[field.name]:
                    raise LoginAborted("the two entries of the new password differ")
        return answers

    async def _ask_text(self, descriptor: int, output: TextIO, field: Field) -> str:
        label = printable(field.label).rstrip(" :") or printable(field.name)
        with _echo(descriptor, on=not field.secret, output=output):
            return await self._read(descriptor, output, f"{label}: ")

    async def _ask_choice(self, descriptor: int, output: TextIO, choice: Choice) -> str:
        options = choice.options
        default = next((n for n, each in enumerate(options, 1) if each.selected), 1)
        label = printable(choice.label).rstrip(" :") or printable(choice.name)
        for number, option in enumerate(options, 1):
            output.write(f"  {number}  {printable(option.label or option.value)}\n")
        for _ in range(TRIES):
            typed = (await self._read(descriptor, output, f"{label} [{default}]: ")).strip()
            if not typed:
                return options[default - 1].value
            if typed.isdecimal() and 1 <= int(typed) <= len(options):
                return options[int(typed) - 1].value
            if named := choice.value_of(typed):
                return named
            output.write(f"Type a number from 1 to {len(options)}, or a name.\n")
        raise LoginAborted("nothing was chosen")

    async def _read(self, descriptor: int, output: TextIO, prompt: str) -> str:
        output.write(prompt)
        output.flush()
        reading = _LineReader(self._reactor, descriptor)
        return await reading.line


@implementer(IReadDescriptor)
class _LineReader:
    """Reads one line while the reactor goes on."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        self.line: Deferred[str] = Deferred(lambda _: self._stop())
        self._reactor = reactor
        self._descriptor = descriptor
        self._read = bytearray()
        try:
            reactor.addReader(self)
        except OSError:  # a plain file, which is always ready
            while not self.line.called:
                self.doRead()

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._descriptor

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return "terminal"

    def doRead(self) -> None:
        """A byte at a time: what comes after the line is somebody else's."""
        if not _is_readable(self._descriptor):
            return  # another process has taken the line that woke us
        try:
            byte = os.read(self._descriptor, 1)
        except OSError:
            byte = b""
        if not byte and not self._read:
            self._give_up("nobody answers at the terminal")
        elif byte in (b"\n", b""):
            self._stop()
            self.line.callback(self._read.decode("utf-8", "replace").rstrip("\r"))
        elif len(self._read) >= LONGEST_LINE_BYTES:
            self._give_up("a line without end was typed")
        else:
            self._read += byte

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002
        """The terminal is gone, for whatever reason."""
        if not self.line.called:
            self._give_up("the terminal is gone")

    def _give_up(self, why: str) -> None:
        self._stop()
        self.line.errback(LoginAborted(why))

    def _stop(self) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):  # it may never have been watched
            self._reactor.removeReader(self)


def _is_readable(descriptor: int) -> bool:
    """Whether a read would not wait; `select.select` knows no descriptors beyond 1023."""
    now = select.poll()
    now.register(descriptor, select.POLLIN)
    return bool(now.poll(0))


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, TextIO]]:
    """Where to read and where to write."""
    try:
        descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        yield sys.stdin.fileno(), sys.stderr
        return
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace") as output:
        try:
            yield descriptor, output
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _echo(descriptor: int, *, on: bool, output: TextIO) -> Iterator[None]:
    """Switch the terminal's echo off for a secret, and on again whatever happens."""
    restore: Callable[[], None] | None = None
    if not on and os.isatty(descriptor):
        before = termios.tcgetattr(descriptor)
        silent = list(before)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)

        def restore() -> None:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)

    try:
        yield
    finally:
        if restore is not None:
            restore()
            output.write("\n")
