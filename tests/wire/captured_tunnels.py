"""Reads tests/captures/tunnel: what passed from CONNECT on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parents[1] / "captures" / "tunnel"
CASES = tuple(path.stem for path in sorted(CAPTURES.glob("*.txt")))

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class CapturedTunnel:
    """Requests and answers in order, their first lines left out; frames and payloads by sender."""

    requests: tuple[Headers, ...]
    answers: tuple[Headers, ...]
    frames: tuple[tuple[str, bytes], ...]
    payloads: tuple[tuple[str, bytes], ...]

    def frames_of(self, kind: int) -> list[bytes]:
        return [frame for _, frame in self.frames if frame[6] == kind]


def read_tunnel(case: str) -> CapturedTunnel:
    requests: list[Headers] = []
    answers: list[Headers] = []
    found: dict[str, list[tuple[str, bytes]]] = {"frame": [], "payload": []}
    for line in (CAPTURES / f"{case}.txt").read_text().splitlines():
        word, _, text = line.partition(" ")
        sender, _, what = word.partition("-")
        if what:
            found[what].append((sender, bytes.fromhex(text)))
        elif sender in {"client", "gateway"}:
            messages = requests if sender == "client" else answers
            if text.startswith(("CONNECT ", "HTTP/1.1 200 ")):
                messages.append([])
            else:
                name, _, value = text.partition(": ")
                messages[-1].append((name.encode(), value.encode()))
    return CapturedTunnel(
        tuple(requests), tuple(answers), tuple(found["frame"]), tuple(found["payload"])
    )
