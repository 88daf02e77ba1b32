"""One client in the middle of its login: a coroutine that waits between two POSTs.

                 authenticator asks                    answer came
(at work) ──────────────────────────────▶ (asked) ──────────────────────▶ (at work)
    │                                        │
    │ identity, last rejection, failure      │ time is up, the client began again
    └──────────────────────▶ (finished) ◀────┘
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.errors import (
    AccessDenied,
    BackendFailed,
    LoginAborted,
    LoginRejected,
    LoginUndecided,
)
from anyvpn.gateway.browser_desk import Visit
from anyvpn.gateway.settings import ProfileBinding
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    Answer,
    BrowserLogin,
    BrowserVisit,
    CertificateRequest,
    Form,
    Identity,
    LoginComplete,
    LoginRequest,
    Question,
    Step,
)
from anyvpn.model.downloads import DownloadHints

log = Logger()

# Ours: clients show these
LOGIN_FAILED = "Login failed."
UNAVAILABLE = "The login service is not available. Please try again later."
TOO_LATE = "The login took too long. Please try again."
# and the log alone
SHUT_OUT = "address or user are shut out for a while, whatever they answer"


@dataclass(frozen=True, slots=True)
class Asked:
    """A step waits for its answer; `opens` the first step of a run of the authenticator."""

    number: int
    step: Step
    opens: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client is in."""

    complete: LoginComplete
    hints: DownloadHints


@dataclass(frozen=True, slots=True)
class Refused:
    """It is over. `denied`: by a verdict about the client, and not by a failure of ours."""

    text: str
    denied: bool = False


Outcome = Asked | Admitted | Refused
Admit = Callable[["Login", Identity], Awaitable[Admitted]]
OpenVisit = Callable[[LoginRequest, BrowserVisit, Callable[[Exception], None]], Visit]


@dataclass(frozen=True, slots=True)
class LoginHooks:
    """What a login needs of the desk that holds it."""

    admit: Admit
    failed: Callable[[Login, str], None]
    over: Callable[[Login], None]
    is_shut_out: Callable[[Login], bool]
    open_visit: OpenVisit
    most_tries: int
    time_s: float


@dataclass(slots=True)
class _Run:
    """One run of the authenticator, from its first question to its verdict."""

    asked: int = 0
    error: str = ""


@implementer(IDialogue)
class Login:
    """Runs the authenticator: hands its steps out, and the answers in."""

    def __init__(
        self,
        reactor: IReactorTime,
        identifier: str,
        binding: ProfileBinding,
        request: LoginRequest,
        *,
        hooks: LoginHooks,
        error: str = "",
    ) -> None:
        self.identifier = identifier
        self.binding = binding
        self.request = request
        self.identity: Identity | None = None
        self.offers_groups = True
        self.has_certificate = bool(request.certificates)
        self.user = ""
        """What the client says its name is."""
        self.document = b""
        """The document that asks the outstanding step, byte for byte: signatures are over it."""
        self.outcome: Outcome | None = None
        """What the client is to be told now; None while the authenticator is at work."""
        self._hooks = hooks
        self._number = 0
        self._run = _Run(error=error)
        self._answer: Deferred[Answer] | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self._time_limit = reactor.callLater(hooks.time_s, self.abort, TOO_LATE)
        self._running: Deferred[None] = Deferred()

    def start(self) -> None:
        """Let the authenticator begin."""
        self._running = Deferred.fromCoroutine(self._go_through())
        self._running.addErrback(self._broken)

    @property
    def is_over(self) -> bool:
        """Whether there is a verdict."""
        return isinstance(self.outcome, Admitted | Refused)

    async def ask(self, step: Question) -> Answer:
        """Ask the client one thing.

        Raises: LoginAborted: nobody will answer it.
        Raises: LoginRejected: the client has no browser for what is to be asked.
        """
        if isinstance(step, BrowserVisit):
            return await self._send_browser(step)
        if self.is_over:
            raise LoginAborted("the login is over")
        if self._answer is not None:
            raise RuntimeError("the authenticator asks a second thing at the same time")
        if not isinstance(step, Step):
            raise TypeError(f"the authenticator asks {type(step).__name__}, which is no step")
        if self._run.asked and self._hooks.is_shut_out(self):
            raise LoginRejected(SHUT_OUT)  # or the next question would tell a right password
        self._number += 1
        self._run.asked += 1
        if self._run.error and isinstance(step, Form | BrowserLogin):
            step = replace(step, error=self._run.error)
            self._run.error = ""
        answer = self._answer = Deferred()
        self._tell(Asked(self._number, step, opens=self._run.asked == 1))
        return await answer

    async def _send_browser(self, wanted: BrowserVisit) -> Identity:
        visit = self._hooks.open_visit(
            self.request, wanted, lambda error: self.take(self._number, error)
        )
        try:
            return visit.redeem(await self.ask(visit.step))
        finally:
            visit.close()

    def take(self, number: int, answer: Answer | Exception) -> None:
        """Hand the answer to step `number` in; an answer to an older one was taken before."""
        waiting = self._answer
        if waiting is None or number != self._number:
            return
        if self.asks_for_certificate() and isinstance(answer, tuple) and answer:
            self.has_certificate = True
        self._answer = self.outcome = None
        if isinstance(answer, Exception):
            waiting.errback(answer)
        else:
            waiting.callback(answer)

    @property
    def is_untouched(self) -> bool:
        """Whether its client has not answered anything yet."""
        return isinstance(self.outcome, Asked) and self._number == 1

    def next_outcome(self) -> Deferred[Outcome]:
        """What the client is to be told, as soon as it is known; cancelling it harms nothing."""
        if self.outcome is not None:
            return succeed(self.outcome)
        waiting: Deferred[Outcome] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def asks_for_certificate(self) -> bool:
        """Whether the next connection is to bring a certificate."""
        return isinstance(self.outcome, Asked) and isinstance(self.outcome.step, CertificateRequest)

    def abandon(self) -> None:
        """The client begins again; an answer that it does not wait for counts as a wrong one."""
        if not self.is_over and self._answer is None and self._run.asked:
            self._hooks.failed(self, "the client did not wait for the verdict")
        self.abort()

    def abort(self, text: str = TOO_LATE) -> None:
        """End it without a verdict, wherever it is."""
        if self.is_over:
            return
        self._finish(Refused(text))
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.errback(LoginAborted(text))
        else:
            self._running.cancel()

    # --- within ---------------------------------------------------------------------------

    async def _go_through(self) -> None:
        try:
            outcome: Outcome = await self._authenticate()
        except (LoginAborted, CancelledError):
            outcome = Refused(TOO_LATE)
        except BackendFailed as error:
            if isinstance(error, LoginUndecided) and not self.is_over:
                self._hooks.failed(self, str(error))
            log.error(
                "The login of {user} from {peer} failed here: {problem}",
                user=self.user,
                peer=self.request.peer_address,
                problem=str(error),
            )
            outcome = Refused(UNAVAILABLE)
        except Exception:  # whatever a backend raises costs this login and no other
            log.failure(
                "The login of {user} from {peer} at profile {profile} failed here, by {backend} or "
                "what it calls",
                user=self.user,
                peer=self.request.peer_address,
                profile=self.binding.profile.name,
                backend=_name_of(self.binding.authenticator),
            )
            outcome = Refused(UNAVAILABLE)
        if not self.is_over:
            self._finish(outcome)

    def _broken(self, failure: Failure) -> None:
        """What is no Exception, such as asyncio's way to cancel, costs no more than the login."""
        log.failure(
            "The login from {peer} failed here", failure=failure, peer=self.request.peer_address
        )
        self.abort(UNAVAILABLE)

    async def _authenticate(self) -> Outcome:
        tries = 0
        while True:
            try:
                identity = await self.binding.authenticator.authenticate(self)
                if not isinstance(identity, Identity):
                    given = type(identity).__name__
                    raise BackendFailed(
                        f"the authenticator {_name_of(self.binding.authenticator)} gave {given}"
                    )
                if self.is_over:
                    raise LoginAborted("the verdict came too late")
                return await self._hooks.admit(self, identity)
            except (LoginRejected, AccessDenied) as error:
                if self.is_over:
                    raise LoginAborted("the verdict came too late") from error
                tries += 1
                self._hooks.failed(self, str(error))
                if tries >= self._hooks.most_tries or not self._run.asked:
                    return Refused(LOGIN_FAILED, denied=True)
                self._run = _Run(error=LOGIN_FAILED)

    def _finish(self, outcome: Outcome) -> None:
        if self._time_limit.active():
            self._time_limit.cancel()
        self._tell(outcome)
        self._hooks.over(self)

    def _tell(self, outcome: Outcome) -> None:
        self.outcome = outcome
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(outcome)


def _name_of(backend: object) -> str:
    """Where whoever wrote it finds it."""
    return f"{type(backend).__module__}.{type(backend).__qualname__}"
