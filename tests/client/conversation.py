"""A login against scripted answers: what the client posts is kept, what it is told is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from zope.interface import implementer

from anyvpn.client.authentication import Authentication
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_connection import Answer, Headers
from anyvpn.client.login import Login
from anyvpn.client.settings import ClientSettings
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import Answer as StepAnswer
from anyvpn.model.authentication import (
    Form,
    GatewayMessage,
    LoginComplete,
    LoginStep,
    Step,
)
from anyvpn.model.client_events import ClientEvent
from anyvpn.wire.authentication import read_client_message, write_gateway_message
from tests.client.scripted import result_of

URL = GatewayURL("vpn.example.com")
COMPLETE = LoginComplete("1", "token-of-the-session")


def page(message: GatewayMessage, *cookies: str, status: int = 200) -> Answer:
    """An answer with this document."""
    return raw(write_gateway_message(message), *cookies, status=status)


def raw(body: bytes = b"", *cookies: str, status: int = 200, location: str = "") -> Answer:
    """An answer with these bytes."""
    headers = [(b"Set-Cookie", each.encode()) for each in cookies]
    if location:
        headers.append((b"Location", location.encode()))
    return Answer(status, "", tuple(headers), body)


@dataclass
class Sent:
    """What the client has sent."""

    method: str
    url: str
    body: bytes
    headers: Headers


@dataclass
class ScriptedSession:
    """Stands for an HTTPSession: gives the answers in their order."""

    answers: list[Answer]
    url: GatewayURL = URL
    cookies: dict[str, str] = field(default_factory=dict)
    extra_headers: Headers = ()
    address: str = "192.0.2.1"
    accepted: None = None
    sent: list[Sent] = field(default_factory=list)
    closed: int = 0

    async def request(
        self, method: str, body: bytes = b"", headers: Headers = (), *, time_s: float = 0
    ) -> Answer:
        self.sent.append(Sent(method, str(self.url), body, headers))
        assert self.answers, "the client asks for more than was scripted"
        answer = self.answers.pop(0)
        for text in answer.all("Set-Cookie"):
            name, _, value = text.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def close(self) -> None:
        self.closed += 1

    def move_to(self, url: GatewayURL) -> None:
        if not url.is_same_gateway(self.url):
            self.cookies.clear()
        self.url = url


@implementer(IResponder)
class ScriptedResponder:
    """Answers by field name; `asked` keeps the steps."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.asked: list[Step] = []
        self.begun = 0

    def login_begins(self) -> None:
        self.begun += 1

    async def answer(self, step: Step) -> StepAnswer:
        self.asked.append(step)
        if not isinstance(step, Form):
            return self.answers.get("token", "")
        known = {
            each.name: self.answers[each.name] for each in step.fields if each.name in self.answers
        }
        if step.error and not known.get("retry"):
            raise LoginAborted("nobody knows better")
        return known


class NoCredential:
    """Stands for a Dialer without a certificate."""

    credential: object = None
    may_choose = False
    is_wanted = False


class Conversation:
    """One login; `login` is what it comes to."""

    def __init__(
        self,
        *answers: Answer,
        settings: ClientSettings | None = None,
        dialer: object = None,
        **known: str,
    ) -> None:
        self.session = ScriptedSession(list(answers))
        self.responder = ScriptedResponder(known)
        self.events: list[ClientEvent] = []
        self.authentication = Authentication(
            self.session,  # type: ignore[arg-type]
            dialer or NoCredential(),  # type: ignore[arg-type]
            self.responder,
            settings or ClientSettings(),
            self.events.append,
        )

    def run(self) -> Login:
        deferred: Deferred[object] = Deferred.fromCoroutine(self.authentication.log_in())  # type: ignore[arg-type]
        login = result_of(deferred)
        assert isinstance(login, Login)
        return login

    def messages(self) -> list[object]:
        """The XML posts as the gateway reads them."""
        return [read_client_message(each.body) for each in self.session.sent if each.body]


def step(form: Form, **options: object) -> LoginStep:
    """A step with this form."""
    return LoginStep(form, **options)  # type: ignore[arg-type]
