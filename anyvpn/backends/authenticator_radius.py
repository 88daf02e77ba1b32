"""Asks RADIUS servers whether a password is right, and for as many answers as they want."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs
from zope.interface import implementer

from anyvpn.backends import radius_packets as packets
from anyvpn.backends.radius_client import Patience, RadiusClient, Server
from anyvpn.backends.radius_mschap import CHALLENGE_BYTES, is_success, prove
from anyvpn.backends.radius_settings import ClientSettings, read_servers
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Field, Form, Identity, LoginRequest
from anyvpn.model.credentials import Credentials, password_form, read_credentials, read_text
from anyvpn.model.printable import printable

# From the protocol: RFC 2548, section 2.1.5
_EXPIRED = re.compile(r"\bE=648\b")

# Ours
MOST_ROUNDS = 10
LONGEST_ANSWER_BYTES = packets.LONGEST_PASSWORD_BYTES


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class Settings(ClientSettings):
    """The servers, how users prove themselves, and what of the answer is kept."""

    method: Literal["pap", "mschapv2"] = attrs.field(
        default="pap",
        metadata=_help("How passwords are proved: pap (hidden by the secret) or mschapv2."),
    )
    require_message_authenticator: bool = attrs.field(
        default=True,
        metadata=_help("Whether answers must have one; servers of before 2024 may not send it."),
    )
    groups_attribute: str = attrs.field(
        default="", metadata=_help("Reply attribute whose values are the user's groups.", "Class")
    )
    retry_after_s: float = attrs.field(
        default=30.0, metadata=_help("How long a silent server is asked last, in seconds.")
    )


def build(settings: Settings, reactor: Any) -> RadiusAuthenticator:
    """What the configuration `backend = "radius"` makes. Raises: ConfigurationError."""
    patience = Patience(
        settings.tries,
        settings.time_s,
        settings.retry_after_s,
        settings.require_message_authenticator,
    )
    client = RadiusClient(reactor, read_servers(settings.servers), patience)
    return RadiusAuthenticator(settings, client)


@implementer(IAuthenticator)
class RadiusAuthenticator:
    """Asks for name and password, and then for whatever the server asks for."""

    def __init__(self, settings: Settings, client: RadiusClient) -> None:
        self._settings = settings
        self._client = client

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to the server, with its reply attributes.

        Raises: LoginRejected: the server does not accept.
        Raises: BackendFailed: no server answers.
        """
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        about = self._about(said.username, dialogue.request)
        if self._settings.method == "mschapv2":
            reply, server = await self._prove(said, about)
        else:
            reply, server = await self._ask({**about, "User-Password": _bounded(said.password)})
        for _ in range(MOST_ROUNDS):
            if reply.code != packets.ACCESS_CHALLENGE:
                return self._identity(said.username, reply)
            state = packets.octets(reply, "State")
            answer = await dialogue.ask(_challenge_form(reply))
            given = _bounded(read_text(answer, "answer"))
            more = {"State": state} if state else {}
            reply, server = await self._ask({**about, **more, "User-Password": given}, server)
        raise LoginRejected(f"the server asks for more than {MOST_ROUNDS} answers")

    async def _prove(self, said: Credentials, about: Mapping[str, object]) -> tuple[Any, Server]:
        proof = prove(
            said.username, said.password, os.urandom(CHALLENGE_BYTES), os.urandom(CHALLENGE_BYTES)
        )
        reply, server = await self._ask(
            {
                **about,
                "MS-CHAP-Challenge": proof.challenge,
                "MS-CHAP2-Response": proof.response,
            }
        )
        is_proved = is_success(proof, packets.octets(reply, "MS-CHAP2-Success"))
        if reply.code == packets.ACCESS_ACCEPT and not is_proved:
            raise LoginRejected("the server does not prove that it knows the password")
        return reply, server

    async def _ask(
        self, attributes: Mapping[str, object], first: Server | None = None
    ) -> tuple[Any, Server]:
        return await self._client.ask(
            lambda server: packets.access_request(server.secret, attributes), first
        )

    def _about(self, user: str, request: LoginRequest) -> dict[str, object]:
        about = {"User-Name": _bounded_name(user), **self._settings.about(request.peer_address)}
        if request.host:
            about["Called-Station-Id"] = packets.clipped(request.host)
        return about

    def _identity(self, user: str, reply: Any) -> Identity:
        try:
            said = packets.texts(reply)
        except packets.MalformedAnswer as error:
            raise BackendFailed(f"the RADIUS server's answer is of no use: {error}") from None
        if reply.code == packets.ACCESS_REJECT:
            reason = packets.octets(reply, "MS-CHAP-Error").decode("utf-8", "replace")
            if _EXPIRED.search(reason):
                raise LoginRejected("the password has expired")
            why = printable(" ".join(said.get("Reply-Message", ())))[:200]
            raise LoginRejected(f"the RADIUS server rejects it{f': {why}' if why else ''}")
        if reply.code != packets.ACCESS_ACCEPT:
            raise BackendFailed(f"the RADIUS server answers with code {reply.code}")
        groups = said.get(self._settings.groups_attribute, ())
        return Identity(user, frozenset(filter(None, map(_group, groups))), MappingProxyType(said))


def _challenge_form(reply: Any) -> Form:
    try:
        said = packets.texts(reply).get("Reply-Message", ())
    except packets.MalformedAnswer as error:
        raise BackendFailed(f"the RADIUS server's question is of no use: {error}") from None
    message = printable("\n".join(said), lines=True) or "Please answer the challenge."
    return Form(message, (Field("answer", "Response:", secret=True),), kind="challenge")


def _bounded(password: str) -> str:
    if len(password.encode("utf-8")) > packets.LONGEST_PASSWORD_BYTES:
        most = packets.LONGEST_PASSWORD_BYTES
        raise LoginRejected(f"RADIUS takes passwords of up to {most} bytes")
    return password


def _bounded_name(user: str) -> str:
    if len(user.encode("utf-8")) > packets.LONGEST_TEXT_BYTES:
        raise LoginRejected(f"RADIUS takes names of up to {packets.LONGEST_TEXT_BYTES} bytes")
    return user


def _group(value: str) -> str:
    """A group's name, of text or of Class as Cisco's servers send it: "OU=name;"."""
    if value.startswith("0x"):
        try:
            value = bytes.fromhex(value[2:]).decode("utf-8")
        except ValueError:
            return ""
    if value.upper().startswith("OU="):
        value = value[3:].rstrip(";")
    return value if value.isprintable() else ""
