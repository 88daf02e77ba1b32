"""X-CSTP-Post-Auth-XML: a document like the one that ends a login, on one line.

It carries the domains whose addresses go through the tunnel, or past it, as they are looked up.

Source: protocol reference, section 8.3.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

from anyvpn.errors import PeerError
from anyvpn.wire.tunnel_headers import is_domain, one_line, read_domains
from anyvpn.wire.xml_document import (
    MAXIMUM_BYTES,
    Element,
    add_element,
    new_root,
    read_document,
    whole_text,
)

# From the protocol
_INCLUDE: Final = "dynamic-split-include-domains"
_EXCLUDE: Final = "dynamic-split-exclude-domains"
_READER: Final = "vpn-client"


def read_post_auth(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dynamic split lists, include and exclude; empty when the document cannot be read.

    Nothing depends on the rest of it, so a document that is wrong ends no connection.
    """
    try:
        root = read_document(text.encode("utf-8", "replace"))
        lists = {name: _read_list(root, name) for name in (_INCLUDE, _EXCLUDE)}
    except PeerError:
        return (), ()
    return lists[_INCLUDE], lists[_EXCLUDE]


def write_post_auth(document: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> str:
    """The document with the dynamic split lists in it, on one line of ASCII.

    An empty `document` stands for one that holds nothing else.

    Raises: MalformedMessage, MessageTooLarge: `document` is no such document.
    """
    if document:
        root = read_document(document.encode("utf-8"))
    else:
        root = new_root("config-auth", client="vpn", type="complete", aggregate_auth_version="2")
    if include or exclude:
        attributes = _attributes(root)
        for name, domains in ((_EXCLUDE, exclude), (_INCLUDE, include)):
            valid = [domain for domain in domains if is_domain(domain)]
            if valid:
                listed = add_element(attributes, name)
                listed.text = etree.CDATA(",".join(valid) + ",")
    body = etree.tostring(root, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return '<?xml version="1.0" encoding="UTF-8"?>' + " ".join(one_line(body).split())


def _attributes(root: Element) -> Element:
    """The element that holds the lists, made where it is missing."""
    config = root.find("config")
    if config is None:
        config = add_element(root, "config", client="vpn", type="private")
    for each in config.findall("opaque"):
        if each.get("is-for") == _READER:
            opaque = each
            break
    else:
        opaque = add_element(config, "opaque", is_for=_READER)
    attributes = opaque.find("custom-attr")
    return add_element(opaque, "custom-attr") if attributes is None else attributes


def _read_list(root: Element, name: str) -> tuple[str, ...]:
    texts = [whole_text(each, MAXIMUM_BYTES) for each in root.iter(name)]
    return read_domains(texts)[0]
