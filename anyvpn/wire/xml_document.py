"""The one door through which XML comes in and goes out: no DTD, no entities, bounded, UTF-8.

Names are local names: namespaces are dropped on reading, as peers disagree about them.
"""

from __future__ import annotations

import re

from lxml import etree

from anyvpn.errors import MalformedMessage, MessageTooLarge

Element = etree._Element  # types-lxml knows the class under this name only

# Ours
MAXIMUM_BYTES = 256 * 1024  # a hundred groups and a profile fit many times over
MAXIMUM_DEPTH = 32
MAXIMUM_ELEMENTS = 8192
MAXIMUM_ATTRIBUTES = 64
MAXIMUM_TEXT = 4096  # characters of a name, a path, an identifier

_PARSER = etree.XMLParser(
    encoding="utf-8",
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)
_DOCTYPE = b"<!DOCTYPE"  # begins nothing else, and without it no entity can be declared
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?\bencoding\s*=\s*[\"']([^\"'>]*)[\"']")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")


def read_document(body: bytes) -> Element:
    """The root element of one document.

    Raises: MessageTooLarge, MalformedMessage. Neither quotes the document: it holds passwords.
    """
    if len(body) > MAXIMUM_BYTES:
        raise MessageTooLarge(f"an XML document of {len(body)} bytes")
    document = strip_mark(body)
    declared = _DECLARED_ENCODING.match(document)
    if declared is not None and declared[1].lower() not in {b"utf-8", b"us-ascii"}:
        raise MalformedMessage("the XML document declares an encoding other than UTF-8")
    if document.count(b"<") > 2 * MAXIMUM_ELEMENTS:  # before there is a tree of them
        raise MessageTooLarge("too many XML elements")
    if _DOCTYPE in document:
        raise MalformedMessage("an XML document with a DOCTYPE")
    try:
        root = etree.fromstring(document, _PARSER)
    except (etree.LxmlError, ValueError, AssertionError):
        raise MalformedMessage("not a readable XML document") from None
    _check_bounds(root)
    for element in root.iter("*"):
        tag = str(element.tag)
        if "}" in tag:
            element.tag = tag.rpartition("}")[2]
        for name in element.attrib:
            if str(name).startswith("{"):
                del element.attrib[name]
    etree.cleanup_namespaces(root)
    return root


def write_document(root: Element) -> bytes:
    """The document's bytes, with the declaration that peers look for.

    Source: protocol reference, section 3 ("is XML" is decided by the prefix "<?xml").
    """
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="UTF-8")


def strip_mark(body: bytes) -> bytes:
    """What follows a byte order mark and white space."""
    return body.lstrip(_SPACE).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)


def add_element(parent: Element, name: str, text: str = "", /, **attributes: str) -> Element:
    """Append an element; underscores in the attributes' names stand for hyphens.

    A character that XML cannot carry is left out. An empty element has a start and an end tag:
    some peers search for both.
    """
    element = etree.SubElement(parent, name)
    element.text = without_controls(text)
    for attribute, value in attributes.items():
        element.set(attribute.replace("_", "-"), without_controls(value))
    return element


def new_root(name: str, /, **attributes: str) -> Element:
    """The root of a document to write."""
    root = etree.Element(name)
    root.text = ""
    for attribute, value in attributes.items():
        root.set(attribute.replace("_", "-"), without_controls(value))
    return root


def without_controls(text: str) -> str:
    """The text without the characters that XML 1.0 cannot carry."""
    return _NOT_XML.sub("", text)


def is_element_name(name: str) -> bool:
    """Whether an answer of this name can be sent as an element."""
    return _ELEMENT_NAME.fullmatch(name) is not None


def whole_text(element: Element | None, maximum: int = MAXIMUM_TEXT) -> str:
    """All text inside an element, without the white space around it; "" for no element.

    Raises: MessageTooLarge.
    """
    if element is None:
        return ""
    text = "".join(element.itertext()).strip()
    if len(text) > maximum:
        raise MessageTooLarge(f"a text of {len(text)} characters")
    return text


def child_text(parent: Element | None, name: str, maximum: int = MAXIMUM_TEXT) -> str:
    """The text of the first child of this name, "" when there is none.

    Raises: MessageTooLarge.
    """
    return "" if parent is None else whole_text(parent.find(name), maximum)


def _check_bounds(root: Element) -> None:
    """Raises: MalformedMessage, MessageTooLarge: it grows too far, down or aside."""
    elements = 0
    level = [root]
    for _ in range(MAXIMUM_DEPTH):
        elements += len(level)
        if elements > MAXIMUM_ELEMENTS:
            raise MessageTooLarge("too many XML elements")
        if any(len(element.attrib) > MAXIMUM_ATTRIBUTES for element in level):
            raise MessageTooLarge("too many XML attributes")
        level = [child for element in level for child in element]
        if not level:
            return
    raise MalformedMessage("XML elements are nested too deeply")
