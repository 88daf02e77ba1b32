"""A client in the middle of its login, whose answers are known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import UNKNOWN_CLIENT, Answer, Identity, LoginRequest, Step

A_REQUEST = LoginRequest(profile="staff", client=UNKNOWN_CLIENT, peer_address="192.0.2.7")


@implementer(IDialogue)
class ScriptedDialogue:
    """Gives its answers one by one and then goes away; an exception among them is raised.

    `asked` has every step that was asked.
    """

    def __init__(
        self,
        request: LoginRequest = A_REQUEST,
        answers: Iterable[Answer | Exception] = (),
        *,
        identity: Identity | None = None,
    ) -> None:
        self.request = request
        self.identity = identity
        self.asked: list[Step] = []
        self._answers = deque(answers)

    async def ask(self, step: Step) -> Answer:
        """The next answer. Raises: LoginAborted: there is none left."""
        self.asked.append(step)
        if not self._answers:
            raise LoginAborted("the script has no further answer")
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer
