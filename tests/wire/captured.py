"""Reads the HTTP messages in tests/captures/authentication/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parents[1] / "captures"
EXAMPLES = CAPTURES / "aggregate_auth_examples"

_ENTRY = re.compile(r"^\[tcp (\d+)\].* (C->S|S->C) HTTP, .*$", re.MULTILINE)


@dataclass(frozen=True)
class Message:
    """One HTTP message with the exact bytes of its body."""

    from_client: bool
    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]


def messages(case: str) -> list[Message]:
    """All messages of a case; a body in a TLS record of its own is joined to its head."""
    text = (CAPTURES / "authentication" / f"{case}.txt").read_text()
    found: list[Message] = []
    _, *parts = _ENTRY.split(text)
    for direction, content in zip(parts[1::3], parts[2::3], strict=True):
        lines = [line[2:] for line in content.strip("\n").split("\n")]
        if not re.search(r"HTTP/1\.1", lines[0]):
            head = found.pop()
            lines = ["", *lines]
            found.append(
                Message(head.from_client, head.start_line, head.headers, _body(head, lines))
            )
            continue
        blank = lines.index("") if "" in lines else len(lines)
        headers = tuple(
            (name, value.strip())
            for name, _, value in (line.partition(":") for line in lines[1:blank])
        )
        head = Message(direction == "C->S", lines[0], headers, b"")
        found.append(
            Message(head.from_client, head.start_line, headers, _body(head, lines[blank:]))
        )
    return found


def client_bodies(case: str) -> list[bytes]:
    return [message.body for message in messages(case) if message.from_client and message.body]


def gateway_bodies(case: str) -> list[bytes]:
    return [message.body for message in messages(case) if not message.from_client and message.body]


def example(name: str) -> bytes:
    (path,) = EXAMPLES.glob(f"{name}_*.xml")
    return path.read_bytes()


def _body(head: Message, lines: list[str]) -> bytes:
    """The lines after the blank one, as long as Content-Length says: the dump drops line ends."""
    wanted = int(head.values("Content-Length")[0]) if head.values("Content-Length") else 0
    body = "\n".join(lines[1:]).encode()
    if body:
        body += b"\n" * (wanted - len(body))
        assert len(body) == wanted, (head.start_line, len(body), wanted)
    return body
