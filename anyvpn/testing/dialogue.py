"""A client in the middle of its login, whose answers are known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    UNKNOWN_CLIENT,
    Answer,
    BrowserVisit,
    Identity,
    LoginRequest,
    Question,
)
from anyvpn.model.browser_pages import LoggedIn, PageRequest

A_REQUEST = LoginRequest(profile="staff", client=UNKNOWN_CLIENT, peer_address="192.0.2.7")


Script = Answer | Exception | Callable[[Question], Awaitable[Answer]]
"""One entry of a script: an answer, what is raised instead, or what finds the answer by itself,
such as a browser that goes through the pages of a BrowserVisit."""


@implementer(IDialogue)
class ScriptedDialogue:
    """Gives its answers one by one and then goes away.

    `asked` has every step that was asked.
    """

    def __init__(
        self,
        request: LoginRequest = A_REQUEST,
        answers: Iterable[Script] = (),
        *,
        identity: Identity | None = None,
    ) -> None:
        self.request = request
        self.identity = identity
        self.asked: list[Question] = []
        self._answers = deque(answers)

    async def ask(self, step: Question) -> Answer:
        """The next answer. Raises: LoginAborted: there is none left."""
        self.asked.append(step)
        if not self._answers:
            raise LoginAborted("the script has no further answer")
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return await answer(step) if callable(answer) else answer


async def visit(step: Question, *requests: PageRequest) -> Identity:
    """Go through the pages of a BrowserVisit; gives who has logged in at the last one."""
    assert isinstance(step, BrowserVisit), step
    for request in requests:
        page = await step.serve(request)
        if isinstance(page, LoggedIn):
            return page.identity
    raise LoginAborted("the script's browser asks for nothing else")
