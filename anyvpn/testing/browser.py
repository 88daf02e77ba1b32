"""A browser without a user: fills in the first login form, sends on those without one, follows.

    browser.py SETTINGS ADDRESS

SETTINGS is the JSON file that `browser_command` writes. Each page that it opens is printed.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener

# Ours
MOST_PAGES = 20
PAGE_TIME_S = 20.0


def browser_command(
    directory: Path,
    *,
    ca_file: Path,
    address: str,
    answers: Mapping[str, str],
    repeats: Sequence[str] = (),
) -> Path:
    """A program to give an address to: every https host is at `address`.

    `answers` are filled into a form that asks for them. `repeats` are the ends of
    addresses that it goes to twice. What it has seen and its cookies are in `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings = directory / "browser.json"
    settings.write_text(
        json.dumps(
            {
                "ca_file": str(ca_file),
                "address": address,
                "answers": dict(answers),
                "repeats": list(repeats),
                "directory": str(directory),
            }
        )
    )
    script = directory / "browser"
    script.write_text(
        f'#!/bin/sh\nexec {sys.executable} {__file__} {settings} "$1" >>{directory}/pages 2>&1\n'
    )
    script.chmod(0o755)
    return script


@dataclass
class _Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    asks: list[str] = field(default_factory=list)
    """The fields that a user is to fill in."""


class _Page(HTMLParser):
    """The first form of a page, and where else it leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.form: _Form | None = None
        self.leads_to = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = _Form(given.get("action", ""), given.get("method", "get").upper())
        elif tag == "input" and self.form is not None and given.get("name"):
            if given.get("type") == "hidden":
                self.form.fields[given["name"]] = given.get("value", "")
            else:
                self.form.asks.append(given["name"])
        elif tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            found = re.search(r"url=(.*)", given.get("content", ""))
            self.leads_to = found[1] if found is not None else ""


class _Browser:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._cookies = CookieJar()
        context = ssl.create_default_context(cafile=settings["ca_file"])
        self._opener = build_opener(
            HTTPSHandler(context=context), HTTPCookieProcessor(self._cookies)
        )
        self._has_answered = False

    def go(self, address: str) -> None:
        """Open this, and go on for as long as a page says where."""
        step: tuple[str, bytes | None] | None = (address, None)
        for _ in range(MOST_PAGES):
            if step is None:
                break
            url, text = self._open(*step)
            if step[0].endswith(tuple(self._settings["repeats"])):
                self._open(*step)
            step = self._next(url, _Page(text))
        cookies = {each.name: each.value for each in self._cookies}
        Path(self._settings["directory"], "cookies.json").write_text(json.dumps(cookies))

    def _open(self, address: str, body: bytes | None) -> tuple[str, str]:
        request = Request(address, body)  # noqa: S310 - a test's own
        try:
            with self._opener.open(request, timeout=PAGE_TIME_S) as answer:
                url, status, text = answer.url, answer.status, answer.read().decode()
        except HTTPError as error:
            url, status, text = error.url or address, error.code, error.read().decode()
        print(status, url.partition("?")[0], " ".join(re.sub("<[^>]*>", " ", text).split()))
        return url, text

    def _next(self, url: str, page: _Page) -> tuple[str, bytes | None] | None:
        form = page.form
        if page.leads_to:
            return urljoin(url, page.leads_to), None
        if form is None or (form.asks and self._has_answered):
            return None
        answers = {name: self._settings["answers"].get(name, "") for name in form.asks}
        self._has_answered = self._has_answered or bool(answers)
        body = urlencode({**form.fields, **answers}).encode()
        return urljoin(url, form.action), body


def _resolve_all_at(address: str) -> None:
    """There is no DNS in a test's network; and this host is known to browsers by both addresses."""
    look_up = socket.getaddrinfo

    def known(host: str, *arguments: Any, **options: Any) -> Any:
        places = ("::1", "127.0.0.1") if host == "localhost" else (address,)
        return [found for each in places for found in look_up(each, *arguments, **options)]

    socket.getaddrinfo = known  # type: ignore[assignment]  # each has its own long type


if __name__ == "__main__":
    _settings = json.loads(Path(sys.argv[1]).read_text())
    _resolve_all_at(_settings["address"])
    _Browser(_settings).go(sys.argv[2])
