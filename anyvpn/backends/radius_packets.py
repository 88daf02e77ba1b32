"""RADIUS packets: requests as they are sent, answers as texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyrad.dictionary import Dictionary
from pyrad.packet import AccountingResponse, AcctPacket, AuthPacket, Packet

from anyvpn.errors import PeerError

# From the protocol: RFC 2865, section 3
ACCESS_REQUEST = 1
ACCESS_ACCEPT = 2
ACCESS_REJECT = 3
ACCOUNTING_RESPONSE = int(AccountingResponse)
ACCESS_CHALLENGE = 11
LONGEST_PACKET_BYTES = 4096
LONGEST_PASSWORD_BYTES = 128
LONGEST_TEXT_BYTES = 253
# RFC 2865, sections 5.6 and 5.41
FRAMED_SERVICE = 2
VIRTUAL_PORT = 5

DICTIONARY = Dictionary(str(Path(__file__).with_name("radius_dictionary")))

# Ours
_SECRETS = frozenset(("User-Password", "State", "Message-Authenticator"))


class MalformedAnswer(PeerError):
    """An answer that cannot be read."""


def access_request(secret: bytes, attributes: Mapping[str, object]) -> Any:
    """An Access-Request with a Message-Authenticator; octets are bytes, the rest text or numbers.

    The password is hidden with the secret (RFC 2865, section 5.2).
    """
    packet = AuthPacket(code=ACCESS_REQUEST, secret=secret, dict=DICTIONARY)
    packet.authenticator = packet.CreateAuthenticator()
    packet.id = packet.CreateID()
    packet.add_message_authenticator()
    for name, value in attributes.items():
        if name == "User-Password":
            packet.AddAttribute(name, packet.PwCrypt(str(value)))
        else:
            packet.AddAttribute(name, value)
    return packet


def accounting_request(secret: bytes, attributes: Mapping[str, object]) -> Any:
    """An Accounting-Request; octets are bytes, the rest text or numbers."""
    packet = AcctPacket(secret=secret, dict=DICTIONARY)
    packet.id = packet.CreateID()
    for name, value in attributes.items():
        for each in value if isinstance(value, tuple) else (value,):
            packet.AddAttribute(name, each)
    return packet


def read_answer(request: Any, content: bytes, *, needs_authenticator: bool) -> Any | str:
    """The answer to a request, or why it is none that can be believed."""
    forged = "answers that do not fit the secret"
    if not 20 <= len(content) <= LONGEST_PACKET_BYTES:
        return forged
    try:
        answer = Packet(packet=content, dict=DICTIONARY, secret=request.secret)
        if request.VerifyReply(answer, content, enforce_ma=needs_authenticator):
            return answer
        if request.VerifyReply(answer, content):
            return (
                "answers without a Message-Authenticator, which anybody in between could have "
                "changed; update the server, or set require_message_authenticator = false"
            )
    except Exception:  # the library lets many kinds out when octets make no sense
        return forged
    return forged


def texts(answer: Any) -> Mapping[str, tuple[str, ...]]:
    """What an answer says, by the names of attributes: texts, and octets as 0x and hex.

    There are as many as fit into a packet: of a list of rules, none must get lost.
    Attributes that we do not know, and those of the exchange itself, are left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in _names(answer):
        try:
            values = answer[name]
        except Exception:  # likewise: one attribute that makes no sense
            raise MalformedAnswer(f"its attribute {name} cannot be read") from None
        found[name] = tuple(map(_text, values))
    return MappingProxyType(found)


def octets(answer: Any, name: str) -> bytes:
    """The first value of an attribute, as it came; empty without one."""
    values = answer.get(name) or ()
    first = values[0] if values else b""
    return first if isinstance(first, bytes) else str(first).encode("utf-8", "surrogateescape")


def clipped(text: str) -> str:
    """A text that fits into an attribute."""
    return text.encode("utf-8")[:LONGEST_TEXT_BYTES].decode("utf-8", "ignore")


def _names(answer: Any) -> Iterator[str]:
    for name in answer.keys():  # noqa: SIM118 - it is no dictionary to iterate over
        if isinstance(name, str) and name not in _SECRETS and not name.startswith("MS-CHAP"):
            yield name


def _text(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
