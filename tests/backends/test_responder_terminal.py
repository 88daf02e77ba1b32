"""Tests of anyvpn.backends.responder_terminal, with a user at a terminal of its own."""

from __future__ import annotations

import os
import pty
import threading
from itertools import count

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReadDescriptor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from anyvpn.backends import responder_terminal
from anyvpn.backends.responder_terminal import Settings, build
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import PASSWORD_FORM, Answer, Field, Form
from anyvpn.testing.responder_contract import ResponderContract


class User:
    """Types another line after each prompt, until the terminal is gone."""

    def __init__(self) -> None:
        self._keyboard, self._terminal = pty.openpty()
        self.terminal = os.ttyname(self._terminal)
        self._thread = threading.Thread(target=self._type, daemon=True)
        self._thread.start()

    def go(self) -> None:
        os.close(self._terminal)
        self._thread.join(10)
        os.close(self._keyboard)

    def _type(self) -> None:
        seen = b""
        for number in count(1):
            while not seen.endswith(b": "):
                try:
                    seen += os.read(self._keyboard, 4096)
                except OSError:
                    return  # the other end is closed
            is_choice = seen.endswith(b"]: ")  # which takes the line without anything
            os.write(self._keyboard, b"\n" if is_choice else b"typed %d\n" % number)
            seen = b""


class ContractTests(TestCase, ResponderContract):
    timeout = 30

    def setUp(self) -> None:
        self.user = User()
        self.addCleanup(self.user.go)
        self.patch(responder_terminal, "_TERMINAL", self.user.terminal)

    def make_responder(self) -> IResponder:
        return build(Settings(), reactor)  # type: ignore[arg-type]  # trial's

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, dict) and answer.keys() == {"username", "password"}


class SeveralLoginTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.user = User()
        self.addCleanup(self.user.go)
        self.patch(responder_terminal, "_TERMINAL", self.user.terminal)

    def ask(self) -> Deferred[Answer]:
        responder = build(Settings(), reactor)  # type: ignore[arg-type]  # trial's
        return Deferred.fromCoroutine(responder.answer(PASSWORD_FORM))

    async def test_they_ask_one_after_the_other(self) -> None:
        answers = await gatherResults([self.ask() for _ in range(3)])
        self.assertEqual(
            answers,
            [
                {"username": f"typed {number}", "password": f"typed {number + 1}"}
                for number in (1, 3, 5)
            ],
        )

    async def test_one_that_is_given_up_lets_the_others_ask(self) -> None:
        asking, waiting, third = [self.ask() for _ in range(3)]
        for given_up in (waiting, asking):
            given_up.cancel()
            await self.assertFailure(given_up, CancelledError)
        self.assertEqual((await third).keys(), {"username", "password"})  # type: ignore[union-attr]  # a form's


class SharedTerminalTests(SynchronousTestCase):
    """Another program reads from it, too: what wakes both, one of them gets."""

    READ_BY_FORCE_S = 2.0

    def addReader(self, reader: IReadDescriptor) -> None:
        self.reader = reader

    def removeReader(self, reader: IReadDescriptor) -> None:
        del self.reader

    def test_nobody_is_waited_for_when_it_is_the_other_one(self) -> None:
        keyboard, terminal = pty.openpty()
        self.addCleanup(os.close, keyboard)
        self.addCleanup(os.close, terminal)
        self.patch(responder_terminal, "_TERMINAL", os.ttyname(terminal))
        responder = build(Settings(), self)  # type: ignore[arg-type]  # as much of it as is needed
        asking = Deferred.fromCoroutine(responder.answer(Form("", (Field("username"),))))
        rescue = threading.Timer(self.READ_BY_FORCE_S, os.write, (keyboard, b"too late\n"))
        rescue.start()
        self.addCleanup(rescue.join)
        self.addCleanup(rescue.cancel)
        for _ in range(len("too late\n")):
            self.reader.doRead()
        self.assertNoResult(asking)
        os.write(keyboard, b"al\n")
        for _ in range(len("al\n")):
            self.reader.doRead()
        self.assertEqual(self.successResultOf(asking), {"username": "al"})
