"""Answers as clients name them, fitted to the form that was asked."""

from __future__ import annotations

from types import MappingProxyType

from anyvpn.model.authentication import Choice, Field, Form, FormAnswers

# From the protocol (protocol reference, sections 3.4, 3.6 and 3.7): openconnect sends some inputs
# as `password`, and leaves out those that repeat another one
_OTHER_NAMES = MappingProxyType(
    {
        "answer": ("password", "secondary_password"),
        "whichpin": ("password",),
        "new_password": ("password",),
        "verify_password": ("new_password", "password"),
        "verify_pin": ("new_pin", "password"),
    }
)

# Ours
LONGEST_NAME_CHARACTERS = 256


def readable_name(name: str) -> str:
    """A user name as it can be told to operators, however it was typed."""
    return "".join(each if each.isprintable() else "?" for each in name[:LONGEST_NAME_CHARACTERS])


def covers(form: Form, answers: FormAnswers) -> bool:
    """Whether there is an answer to all that the form asks of its user."""
    asked = [each for each in form.fields if not (isinstance(each, Field) and each.hidden)]
    return bool(asked) and all(_given(each.name, answers) is not None for each in asked)


def fit_answers(form: Form, answers: FormAnswers) -> FormAnswers:
    """The form's own names, all of them, to text; empty where nothing fits.

    Hidden values are what the gateway sent, whatever came back; a choice is one of its options.
    """
    fitted: dict[str, str] = {}
    for each in form.fields:
        given = _given(each.name, answers) or ""
        match each:
            case Field(hidden=True):
                fitted[each.name] = each.value
            case Choice() if given not in {option.value for option in each.options}:
                fitted[each.name] = ""
            case _:
                fitted[each.name] = given
    return MappingProxyType(fitted)


def _given(name: str, answers: FormAnswers) -> str | None:
    for each in (name, *_OTHER_NAMES.get(name, ())):
        if each in answers:
            return answers[each]
    return None
