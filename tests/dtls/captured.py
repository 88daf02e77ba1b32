"""Reads tests/captures/dtls: sessions of real programs, datagram by datagram."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parents[1] / "captures" / "dtls"


@dataclass(frozen=True)
class CapturedSession:
    """`secret` is the PSK or the master secret; each datagram comes with who sent it."""

    secret: bytes
    session_id: bytes
    datagrams: tuple[tuple[str, bytes], ...]

    def sent_by(self, who: str) -> list[bytes]:
        return [datagram for sender, datagram in self.datagrams if sender == who]


def read_session(name: str) -> CapturedSession:
    lines = (CAPTURES / f"{name}.txt").read_text().splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    values = {
        key: bytes.fromhex(value) for key, value in entries if key not in ("client", "server")
    }
    datagrams = tuple(
        (key, bytes.fromhex(value)) for key, value in entries if key in ("client", "server")
    )
    secret = values.get("psk") or values["master_secret"]
    return CapturedSession(secret, values["session_id"], datagrams)
