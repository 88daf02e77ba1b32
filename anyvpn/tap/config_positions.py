"""Finds the line of every key in a TOML document, which the TOML reader does not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from anyvpn.model.printable import printable

KeyPath = tuple[str | int, ...]
"""Where a value stands: table and key names, and the numbers of array elements from 0."""

# From the protocol: TOML 1.0, keys and strings
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL),
    re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_OTHER_VALUE = re.compile(r"[^,\]}#\n]+")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SPACE = re.compile(r"[ \t]+")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(["\\bfnrte]))')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "e": "\x1b"}


class Positions:
    """The line of each table, key and array element of a document."""

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self._lines = lines

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the innermost table or key around it; lines count from 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def knows(self, path: KeyPath) -> bool:
        """Whether `path` itself stands in the document."""
        return path in self._lines


def find_positions(document: str) -> Positions:
    """The positions in a document that the TOML reader has accepted."""
    scanner = _Scanner(document)
    scanner.scan()
    return Positions(scanner.lines)


def format_path(path: KeyPath) -> str:
    """A path as operators read it: `connection_profiles[0].alias`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _BARE_KEY.fullmatch(part) else f'"{printable(part)}"'
            text += f".{shown}" if text else shown
    return text


class _Scanner:
    """Walks through a document once; what it does not understand it passes over."""

    def __init__(self, document: str) -> None:
        self.lines: dict[KeyPath, int] = {(): 1}
        self._text = document.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._array_tables: dict[KeyPath, int] = {}

    def scan(self) -> None:
        """Note every header and every key."""
        table: KeyPath = ()
        while self._skip(_BLANK) or self._at < len(self._text):
            if self._at >= len(self._text):
                return
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        line = self._line
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        names = self._key()
        for name in names[:-1]:
            path = self._innermost((*path, name))
        path = (*path, *names[-1:])
        if is_array:
            number = self._array_tables.get(path, -1) + 1
            self._array_tables[path] = number
            self._note(path, line)
            path = (*path, number)
        else:
            path = self._innermost(path)
        self._note(path, line)
        self._to_end_of_line()
        return path

    def _innermost(self, path: KeyPath) -> KeyPath:
        """A name that stands for an array of tables means its last element so far."""
        number = self._array_tables.get(path)
        return path if number is None else (*path, number)

    def _pair(self, table: KeyPath) -> None:
        line = self._line
        names = self._key()
        if not names or not self._text.startswith("=", self._at):
            self._to_end_of_line()
            return
        self._at += 1
        path = table
        for name in names:
            path = (*path, name)
            self._note(path, line)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        if self._text.startswith("[", self._at):
            self._at += 1
            self._array(path)
        elif self._text.startswith("{", self._at):
            self._at += 1
            self._inline_table(path)
        elif self._string() is None:
            self._skip(_OTHER_VALUE)

    def _array(self, path: KeyPath) -> None:
        number = 0
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text) or self._text[self._at] == "]":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, number), self._line)
            before = self._at
            self._value((*path, number))
            self._at += self._at == before  # whatever it is, go on
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text) or self._text[self._at] == "}":
                self._at += 1
                return
            before = self._at
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(path)
            self._at += self._at == before

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            bare = _BARE_KEY.match(self._text, self._at)
            name = self._string() if bare is None else bare[0]
            if name is None:
                return names
            if bare is not None:
                self._at = bare.end()
            names.append(name)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _string(self) -> str | None:
        for pattern in _STRINGS:
            start = self._at
            if self._skip(pattern):
                text = self._text[start : self._at]
                return _unescaped(text[1:-1]) if text[0] == '"' else text[1:-1]
        return None

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._at)
        if found is None:
            return False
        self._at = found.end()
        self._line += found[0].count("\n")
        return True

    def _to_end_of_line(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _note(self, path: KeyPath, line: int) -> None:
        self.lines.setdefault(path, line)


def _unescaped(text: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        number = found[1] or found[2]
        return chr(int(number, 16)) if number else _ESCAPED.get(found[3], found[3])

    return _ESCAPE.sub(replaced, text)
