"""A login desk with backends in memory, and clients that post to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.backends.sessions_memory import MemorySessions
from anyvpn.gateway.admission import Admission
from anyvpn.gateway.authentication import LoginDesk
from anyvpn.gateway.client_networks import ClientNetworks
from anyvpn.gateway.login_exchange import LoginAnswer, LoginPost
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.settings import GatewaySettings, Limits, ProfileBinding
from anyvpn.gateway.timers import Timers
from anyvpn.model.authentication import (
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    Form,
    GatewayMessage,
    LoginComplete,
    LoginRefused,
    LoginStep,
    Opaque,
    Step,
)
from anyvpn.model.events import EventKind
from anyvpn.testing.memory_tun import MemoryTun
from anyvpn.wire.authentication import read_gateway_message
from anyvpn.wire.cookies import LOGIN_COOKIE, SESSION_COOKIE, read_set_cookie
from tests.gateway.backends_in_memory import (
    RIGHT_PASSWORD,
    CountedAddresses,
    NotedEvents,
    OnePolicy,
    Script,
    SomeProfiles,
    ask_password,
    profile,
)

HASHES = {"": "AA" * 20, "vpn.example.com": "BB" * 20}
PEER = "192.0.2.1"


@dataclass(frozen=True)
class Reply:
    """What a client makes of an answer."""

    answer: LoginAnswer

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def message(self) -> GatewayMessage:
        return read_gateway_message(self.answer.document)

    @property
    def login_step(self) -> LoginStep:
        message = self.message
        assert isinstance(message, LoginStep), message
        return message

    @property
    def step(self) -> Step:
        return self.login_step.step

    @property
    def form(self) -> Form:
        step = self.step
        assert isinstance(step, Form), step
        return step

    @property
    def opaque(self) -> Opaque:
        opaque = self.login_step.opaque
        assert opaque is not None
        return opaque

    @property
    def groups(self) -> list[tuple[str, bool]]:
        """Each group that is offered, and whether it is the selected one."""
        groups = self.login_step.groups
        return [] if groups is None else [(each.value, each.selected) for each in groups.options]

    @property
    def complete(self) -> LoginComplete:
        message = self.message
        assert isinstance(message, LoginComplete), message
        return message

    @property
    def refusal(self) -> str:
        message = self.message
        assert isinstance(message, LoginRefused), message
        return message.error

    @property
    def cookies(self) -> list[tuple[str, str]]:
        """Name and value in the order of the headers; an empty value deletes."""
        return [read_set_cookie(each) for each in self.answer.cookies]

    @property
    def token(self) -> str:
        return dict(self.cookies)[SESSION_COOKIE]


class DeskClient:
    """Posts as openconnect does: with the last opaque in replies, and with its cookie always."""

    def __init__(self, case: LoginDeskCase, peer: str = PEER) -> None:
        self.case = case
        self.version = 2
        self.opaque: Opaque | None = None
        self.keeps_opaque = self.keeps_cookies = True
        self.base = LoginPost(
            ClientMessage(ClientMessageKind.INIT),
            peer=peer,
            host="vpn.example.com",
            server_name="vpn.example.com",
        )

    def init(self, group: str = "", access: str = "") -> Reply:
        """Begin, or begin again."""
        return self.post(self.init_message(group, access))

    def init_message(self, group: str = "", access: str = "") -> ClientMessage:
        return ClientMessage(
            ClientMessageKind.INIT,
            self.version,
            ClientDescription("openconnect"),
            group_select=group,
            group_access=access,
        )

    def reply(self, group: str = "", **answers: str) -> Reply:
        """Answer a form."""
        return self.post(self.reply_message(answers, group))

    def reply_message(self, answers: Mapping[str, str], group: str = "") -> ClientMessage:
        opaque = self.opaque if self.keeps_opaque and self.version == 2 else None
        return ClientMessage(
            ClientMessageKind.REPLY,
            self.version,
            ClientDescription("openconnect"),
            group_select=group,
            opaque=opaque,
            answers=answers,
        )

    def log_in(self, user: str = "alice", password: str = RIGHT_PASSWORD) -> Reply:
        """The whole of it, for profiles that ask for a password."""
        self.init()
        return self.reply(username=user, password=password)

    def post(self, message: ClientMessage) -> Reply:
        """Post and have the answer."""
        return self.take(self.case.successResultOf(self.start(message)))

    def start(self, message: ClientMessage) -> Deferred[LoginAnswer]:
        """Post, and perhaps wait."""
        post = replace(self.base, message=message)
        return Deferred.fromCoroutine(self.case.desk.post(post))

    def take(self, answer: LoginAnswer) -> Reply:
        """Remember what is to be carried back."""
        reply = Reply(answer)
        for name, value in reply.cookies:
            if name == LOGIN_COOKIE and self.keeps_cookies:
                self.base = replace(self.base, login_cookie=value)
        if answer.document and isinstance(reply.message, LoginStep):
            self.opaque = reply.message.opaque
        return reply


class LoginDeskCase(SynchronousTestCase):
    """A desk with one profile that asks for a password."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.authorizer = OnePolicy()
        self.client_profiles = SomeProfiles()
        self.listener = NotedEvents()
        self.store = MemorySessions()
        self.client = DeskClient(self)
        self.open_desk()

    def tearDown(self) -> None:
        self.close_desk()

    def close_desk(self) -> None:
        """Whatever a test did: a desk that stops leaves nothing behind."""
        self.desk.stop()
        self.assertEqual(len(self.desk), 0)
        self.registry.suspend()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def open_desk(self, *bindings: ProfileBinding, script: Script = ask_password) -> None:
        """Make the desk anew, with these profiles; the first is the default."""
        if hasattr(self, "desk"):
            self.close_desk()
        profiles = bindings or (profile("Staff", script=script),)
        numbers = count(1)

        def random(size: int) -> bytes:
            return next(numbers).to_bytes(4, "big").rjust(size, b"\x5a")[-size:]

        settings = GatewaySettings(
            name="vpn.example.com",
            profiles=profiles,
            default_profile=profiles[0].profile.name,
            authorizer=self.authorizer,
            addresses=CountedAddresses(),
            profile_provider=self.client_profiles,
            sessions=self.store,
            listeners=(self.listener,),
            limits=self.limits,
        )
        self.registry = SessionRegistry(
            Timers(self.clock),
            store=self.store,
            addresses=settings.addresses,
            networks=ClientNetworks(MemoryTun(), settings.addresses),
            tell=self.listener.event_happened,
            random=random,
            token_time_s=settings.limits.token_time_s,
        )
        self.admission = Admission(settings.limits, self.clock.seconds)
        self.desk = LoginDesk(
            self.clock,
            settings,
            self.registry,
            self.admission,
            certificate_hash=lambda name: HASHES.get(name, HASHES[""]),
            tell=self.listener.event_happened,
            random=random,
        )

    def other_client(self, peer: str = PEER) -> DeskClient:
        """One more client."""
        return DeskClient(self, peer)

    def failures(self) -> list[str]:
        """What the log says of each failed try."""
        return [each.detail for each in self.listener.of(EventKind.LOGIN_FAILED)]
