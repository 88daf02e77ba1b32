"""URL-encoded forms: version 1 of the authentication, and what browsers send.

Source: protocol reference, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, urlencode

from anyvpn.errors import MalformedMessage, MessageTooLarge
from anyvpn.model.authentication import ClientMessage, ClientMessageKind
from anyvpn.wire.authentication_client import (
    GROUP_FIELD,
    MAXIMUM_ANSWER_CHARACTERS,
    MAXIMUM_ANSWERS,
)
from anyvpn.wire.xml_document import MAXIMUM_BYTES, strip_mark, without_controls


def is_xml(body: bytes) -> bool:
    """Whether a POST is of version 2: the media type says nothing, as clients lie about it.

    Source: protocol reference, section 2.1.
    """
    return strip_mark(body).startswith(b"<")


def read_form_message(body: bytes) -> ClientMessage:
    """One POST of a version 1 client; an empty body asks for the first form.

    The first field of a name counts. A form with nothing but the group is a reply too: of the
    form that a certificate login begins with.

    Raises: MalformedMessage, MessageTooLarge.
    """
    if len(body) > MAXIMUM_BYTES:
        raise MessageTooLarge(f"a form of {len(body)} bytes")
    answers: dict[str, str] = {}
    for name, text in _read_pairs(body.strip(b"\r\n")):
        if len(text) > MAXIMUM_ANSWER_CHARACTERS:
            raise MessageTooLarge(f"an answer of {len(text)} characters")
        if without_controls(name) != name or without_controls(text) != text:
            raise MalformedMessage("a form with control characters")
        answers.setdefault(name, text)
    return ClientMessage(
        kind=ClientMessageKind.REPLY if answers else ClientMessageKind.INIT,
        protocol_version=1,
        group_select=answers.pop(GROUP_FIELD, ""),
        answers=MappingProxyType(answers),
    )


def read_parameters(encoded: bytes) -> Mapping[str, str]:
    """The query or the form that a browser sends; whoever sends it bounds its size.

    Raises: MalformedMessage: also for a name that comes twice, since two readers of it could
    take different ones.
    """
    pairs = _read_pairs(encoded)
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise MalformedMessage("a parameter that comes twice")
    return MappingProxyType(parameters)


def write_form_message(message: ClientMessage) -> bytes:
    """The body of a version 1 POST: the group first, then the fields in the form's order.

    Names stay as the form has them; renaming belongs to version 2.
    """
    pairs = [(GROUP_FIELD, message.group_select)] if message.group_select else []
    pairs += [(name, text) for name, text in message.answers.items() if name != GROUP_FIELD]
    encoded = [(name, without_controls(text)) for name, text in pairs]
    return urlencode(encoded, quote_via=quote).encode("ascii")


def _read_pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            encoded.decode("utf-8"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAXIMUM_ANSWERS,
        )
    except ValueError:
        raise MalformedMessage("not a readable form") from None
