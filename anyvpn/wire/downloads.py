"""What GET requests name, and the answers that mean "there is no newer software".

Source: protocol reference, sections 2.8 and 6.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from anyvpn.errors import MalformedMessage
from anyvpn.model.downloads import Download

# From the protocol
EMPTY_MANIFEST = Download(
    "text/xml", b'<?xml version="1.0" encoding="UTF-8"?>\n<vpn rev="1.0"></vpn>\n'
)
NO_UPDATE = Download("text/xml", b"0,0,0000\n")
INDEX = Download("text/html", b"<html></html>\n")
DOWNLOADER_SCRIPT = Download("application/x-shellscript", b"#!/bin/sh\n\nexit 0\n")

_PACKAGE_TREES = ("/1/", "/CACHE/stc/1/")
_PACKAGE_TREE = {
    "index.html": INDEX,
    "Linux": INDEX,
    "Linux_64": INDEX,
    "Windows": INDEX,
    "Darwin_i386": INDEX,
    "VPNManifest.xml": EMPTY_MANIFEST,
    "binaries/update.txt": NO_UPDATE,
    "binaries/vpndownloader.sh": DOWNLOADER_SCRIPT,
}
_CUSTOMIZATION = frozenset({"/+CSCOT+/translation-table", "/+CSCOT+/oem-customization"})

# Ours
_MAXIMUM_CHARACTERS = 2048

_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORT = re.compile(r":[0-9]{1,5}\Z")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def read_path(target: str) -> str:
    """The path that a request's target names, decoded, without its query.

    openconnect asks for "/profiles%2Fprofile.xml:4443" when it means "/profiles/profile.xml".

    Raises: MalformedMessage: also for a path that climbs with "..".
    """
    absolute = _ABSOLUTE_FORM.match(target)
    raw = re.split(r"[?#]", target[absolute.end() :] if absolute else target, maxsplit=1)[0]
    if len(raw) > _MAXIMUM_CHARACTERS:
        raise MalformedMessage("a path that is too long")
    if absolute and not raw:
        return "/"
    if _BAD_ESCAPE.search(raw):
        raise MalformedMessage("a path with a broken escape")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeError:
        raise MalformedMessage("a path that is not UTF-8") from None
    if not path.startswith("/"):
        raise MalformedMessage("a path that does not begin with a slash")
    if _CONTROL.search(path) or "\\" in path:
        raise MalformedMessage("a path with a control character or a backslash")
    path = _PORT.sub("", re.sub("/{2,}", "/", path))
    if ".." in path.split("/"):
        raise MalformedMessage("a path that climbs")
    return path


def find_core_download(path: str) -> Download | None:
    """The fixed answer to a client that looks for newer software or for translations."""
    if path in _CUSTOMIZATION:
        return EMPTY_MANIFEST
    for tree in _PACKAGE_TREES:
        if path.startswith(tree):
            return _PACKAGE_TREE.get(path.removeprefix(tree))
    return None
