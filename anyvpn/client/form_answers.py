"""Answers to the forms of a login: which fields are asked, which group, what is sent.

Source: protocol reference, sections 3.2, 3.3, 3.7 and 3.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anyvpn.errors import LoginAborted, LoginDenied
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    GROUP_FORM,
    NO_ANSWERS,
    Answer,
    Choice,
    Field,
    Form,
    FormAnswers,
    GroupList,
    Option,
)
from anyvpn.model.printable import printable
from anyvpn.wire.authentication_client import GROUP_FIELD

# From the protocol
SECOND_USER_FIELD = "secondary_username"
_REPEATED = {"verify_password": "new_password", "verify_pin": "new_pin"}


def find_group(groups: GroupList, wanted: str) -> Option:
    """The option that the user means, by value or by label.

    Raises: LoginDenied: there is none such.
    """
    for option in groups.options:
        if wanted.casefold() in (option.value.casefold(), option.label.casefold()):
            return option
    names = ", ".join(option.label or option.value for option in groups.options)
    raise LoginDenied(f"the gateway has no group {wanted!r}; it has: {printable(names)}")


async def ask_group(groups: GroupList, form: Form, responder: IResponder) -> Option:
    """The option that the user chooses, or the gateway's when nobody says.

    Raises: LoginAborted, LoginDenied.
    """
    choice = Choice(GROUP_FIELD, groups.label, groups.options)
    asked = Form(form.message, (choice,), title=form.title, kind=GROUP_FORM, error=form.error)
    chosen = _texts_in(await responder.answer(asked)).get(GROUP_FIELD, "")
    return find_group(groups, chosen) if chosen else groups.options[0]


async def answer_form(form: Form, group: Option | None, responder: IResponder) -> dict[str, str]:
    """All fields of the form in its order, hidden ones as they came.

    Raises: LoginAborted: the user gives up, or nobody knows a field.
    """
    shown = tuple(field for field in form.fields if _is_asked(field, group))
    answers: dict[str, str] = {}
    if shown:
        answers = dict(_texts_in(await responder.answer(replace(form, fields=shown))))
    missing = [field for field in shown if field.name not in answers]
    if missing:
        label = missing[0].label.strip(" :") or missing[0].name
        raise LoginAborted(f"nobody answers the gateway's question {label!r}")
    for repeated, name in _REPEATED.items():
        if repeated in answers and name in answers and answers[repeated] != answers[name]:
            raise LoginAborted("the two entries of the new password differ")
    sent: dict[str, str] = {}
    for field in form.fields:
        if field.name in answers:
            sent[field.name] = answers[field.name]
        elif isinstance(field, Field) and field.hidden:
            sent[field.name] = field.value
        elif field.name == SECOND_USER_FIELD and group is not None and group.second:
            sent[field.name] = group.secondary_username
    return sent


def _is_asked(field: Field | Choice, group: Option | None) -> bool:
    if isinstance(field, Choice):
        return bool(field.options)
    if field.hidden:
        return False
    if group is not None and group.without_credentials:
        return False
    if not field.second or group is None:
        return True
    if not group.second:
        return False
    if field.name == SECOND_USER_FIELD and group.secondary_username:
        return group.secondary_username_editable
    return True


def _texts_in(answer: Answer) -> FormAnswers:
    """The answer to a form; a responder that gives something else knows nothing of it."""
    return answer if isinstance(answer, Mapping) else NO_ANSWERS
