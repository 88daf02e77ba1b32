"""The `opaque` element, in which a gateway lets its clients carry its notes back.

Source: protocol reference, section 3.2.
"""

from __future__ import annotations

import re

from lxml import etree

from anyvpn.errors import PeerError
from anyvpn.model.authentication import Opaque
from anyvpn.wire.xml_document import (
    Element,
    add_element,
    child_text,
    read_document,
    strip_mark,
    whole_text,
)

_FOR_GATEWAY = "sg"

# Ours
_MAXIMUM_AUTH_METHODS = 64
_MAXIMUM_CANDIDATES = 4  # look-alikes of the element, in comments, that are looked at

_START = re.compile(rb"<opaque[\s>/]")
_END = re.compile(rb"</opaque\s*>")


def read_opaque(root: Element, body: bytes = b"") -> Opaque | None:
    """The gateway's note directly under `root`, with its exact bytes if `body` is given.

    Raises: MessageTooLarge.
    """
    for element in root.findall("opaque"):
        if element.get("is-for", _FOR_GATEWAY) == _FOR_GATEWAY:
            methods = element.findall("auth-method")[:_MAXIMUM_AUTH_METHODS]
            return Opaque(
                tunnel_group=child_text(element, "tunnel-group"),
                group_alias=child_text(element, "group-alias"),
                config_hash=child_text(element, "config-hash"),
                handle=child_text(element, "aggauth-handle"),
                auth_methods=tuple(whole_text(method) for method in methods),
                document=_exact_bytes(element, strip_mark(body)) if body else b"",
            )
    return None


def write_opaque(root: Element, opaque: Opaque) -> None:
    """Append the note as a gateway words it; `document` is not looked at."""
    element = add_element(root, "opaque", is_for=_FOR_GATEWAY)
    add_element(element, "tunnel-group", opaque.tunnel_group)
    if opaque.handle:
        add_element(element, "aggauth-handle", opaque.handle)
    for method in opaque.auth_methods:
        add_element(element, "auth-method", method)
    add_element(element, "group-alias", opaque.group_alias)
    add_element(element, "config-hash", opaque.config_hash)


def write_opaque_placeholder(root: Element) -> None:
    """Append the element that `echo_opaque` puts the original's place."""
    add_element(root, "opaque")


def echo_opaque(document: bytes, original: bytes) -> bytes:
    """The document with the original's bytes in the place of the placeholder.

    Text can never look like the placeholder: "<" is escaped in it.
    """
    return document.replace(b"<opaque></opaque>", original, 1)


def _exact_bytes(element: Element, body: bytes) -> bytes:
    """The element as it was received, or its equivalent when that cannot be told for sure."""
    wanted = _canonical(element)
    for number, start in enumerate(_START.finditer(body)):
        if number == _MAXIMUM_CANDIDATES:
            break
        end = _END.search(body, start.end())
        candidate = body[start.start() : end.end()] if end else b""
        if candidate and _is_same(candidate, wanted):
            return candidate
    return etree.tostring(element, encoding="UTF-8", with_tail=False)


def _is_same(candidate: bytes, wanted: bytes) -> bool:
    try:
        return _canonical(read_document(candidate)) == wanted
    except PeerError:
        return False


def _canonical(element: Element) -> bytes:
    return etree.tostring(element, method="c14n")
