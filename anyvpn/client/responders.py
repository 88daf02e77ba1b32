"""Several responders as one: each is asked what those before it did not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import GROUP_FORM, NO_ANSWERS, Answer, Form, Step
from anyvpn.model.printable import printable


@implementer(IResponder)
class ResponderChain:
    """Asks its responders in their order."""

    def __init__(self, responders: Sequence[IResponder]) -> None:
        self._responders = tuple(responders)
        self.capabilities: frozenset[str] = frozenset().union(
            *(each.capabilities for each in responders)
        )

    def has(self, kind: type[IResponder]) -> bool:
        """Whether one of that class is among them."""
        return any(isinstance(each, kind) for each in self._responders)

    def login_begins(self) -> None:
        """A new login, for all of them."""
        for each in self._responders:
            each.login_begins()

    async def answer(self, step: Step) -> Answer:
        """Everything that the step asks for.

        Raises: LoginAborted: somebody gives up, or nobody knows a field.
        """
        if isinstance(step, Form):
            return await self._answer_form(step)
        for each in self._responders:
            answer = await each.answer(step)
            if answer:
                return answer
        return NO_ANSWERS

    async def _answer_form(self, form: Form) -> Mapping[str, str]:
        answers: dict[str, str] = {}
        for each in self._responders:
            rest = tuple(field for field in form.fields if field.name not in answers)
            if not rest:
                break
            given = await each.answer(replace(form, fields=rest))
            if isinstance(given, Mapping):
                wanted = {field.name for field in rest}
                answers |= {name: text for name, text in given.items() if name in wanted}
        for field in form.fields:
            # A group has a default, which is as good as any when nobody minds
            if field.name not in answers and form.kind != GROUP_FORM:
                label = printable(field.label).strip(" :") or printable(field.name)
                why = printable(form.error or form.message)
                raise LoginAborted(
                    f"nobody answers the gateway's question {label!r}{f' ({why})' if why else ''}"
                )
        return answers
