"""Tests of anyvpn.backends.responder_terminal, with a user at a terminal of its own."""

from __future__ import annotations

import os
import pty
import threading
from itertools import count

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from anyvpn.backends import responder_terminal
from anyvpn.backends.responder_terminal import Settings, build
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import Answer
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
