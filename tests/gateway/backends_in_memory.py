"""Backends of a gateway that do what a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from zope.interface import implementer

from anyvpn.errors import AddressesExhausted, LoginRejected
from anyvpn.gateway.settings import ProfileBinding
from anyvpn.interfaces import (
    IAddressAllocator,
    IAuthenticator,
    IAuthorizer,
    IDialogue,
    IEventListener,
    IProfileProvider,
)
from anyvpn.model.authentication import PASSWORD_FORM, Field, Form, Identity, LoginRequest
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.model.events import Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.tunnel_settings import Lease

Script = Callable[[IDialogue], Awaitable[Identity]]

RIGHT_PASSWORD = "right"
RIGHT_CODE = "123456"
CODE_FORM = Form("Enter the code.", (Field("answer", "Code:", secret=True),), kind="challenge")


@implementer(IAuthenticator)
class Scripted:
    """An authenticator that is one coroutine."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        return await self._script(dialogue)


async def ask_password(dialogue: IDialogue) -> Identity:
    """Name and password in one form."""
    login = await dialogue.ask(PASSWORD_FORM)
    if login["password"] != RIGHT_PASSWORD:
        raise LoginRejected("wrong password")
    return Identity(login["username"], frozenset({"staff"}))


async def ask_password_and_code(dialogue: IDialogue) -> Identity:
    """Name and password, then a code."""
    identity = await ask_password(dialogue)
    code = await dialogue.ask(CODE_FORM)
    if code["answer"] != RIGHT_CODE:
        raise LoginRejected("wrong code")
    return identity


def profile(
    name: str,
    *urls: str,
    script: Script = ask_password,
    alias: str = "",
    listed: bool = True,
) -> ProfileBinding:
    """A connection profile with an authenticator of its own."""
    return ProfileBinding(ConnectionProfile(name, alias or name, urls, listed), Scripted(script))


@implementer(IAuthorizer)
class OnePolicy:
    """Gives everyone the same policy, or raises `error`."""

    def __init__(self) -> None:
        self.policy = GroupPolicy("office", max_sessions_per_user=0)
        self.error: Exception | None = None
        self.requests: list[LoginRequest] = []

    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return self.policy


@implementer(IProfileProvider)
class SomeProfiles:
    """Gives everyone the same client profiles, or raises `error`."""

    def __init__(self) -> None:
        self.profiles: tuple[ClientProfile, ...] = ()
        self.error: Exception | None = None

    async def profiles_for(
        self, identity: Identity, policy: GroupPolicy
    ) -> tuple[ClientProfile, ...]:
        if self.error is not None:
            raise self.error
        return self.profiles


@implementer(IAddressAllocator)
class CountedAddresses:
    """Lends 10.99.0.2, .3, … and fd00::2, ::3, … as long as there are any."""

    gateway_addresses = (IPv4Interface("10.99.0.1/24"), IPv6Interface("fd00::1/64"))

    def __init__(self, most: int = 200) -> None:
        self.most = most
        self.lent: list[Lease] = []
        self._next = 2

    async def lease(
        self, identity: Identity, policy: GroupPolicy, families: frozenset[int], wish: Lease | None
    ) -> Lease:
        if len(self.lent) >= self.most:
            raise AddressesExhausted("all addresses are lent")
        if wish is None:
            number, self._next = self._next, self._next + 1
            ipv4 = IPv4Interface(f"10.99.0.{number}/24") if 4 in families else None
            ipv6 = IPv6Interface(f"fd00::{number:x}/64") if 6 in families else None
            wish = Lease(ipv4, ipv6)
        self.lent.append(wish)
        return wish

    async def release(self, lease: Lease) -> None:
        if lease in self.lent:
            self.lent.remove(lease)


@implementer(IEventListener)
@dataclass
class NotedEvents:
    """Keeps every event."""

    events: list[Event] = field(default_factory=list)

    def event_happened(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: EventKind) -> list[Event]:
        """Those of one kind."""
        return [each for each in self.events if each.kind is kind]

    def kinds(self) -> list[EventKind]:
        """What happened, in order."""
        return [each.kind for each in self.events]
