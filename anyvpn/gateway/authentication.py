"""The login desk: POSTs of clients to their logins, and what to answer (phases 2 and 3).

A login is found by the `aggauth-handle` of the opaque element, or by the cookie
`webvpncontext`: both hold its identifier and the number of the outstanding step, so that a POST
that comes twice is answered twice and taken once. Clients change connections between rounds.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.gateway.admission import Admission, source_of
from anyvpn.gateway.browser_desk import BrowserDesk
from anyvpn.gateway.groups import Groups
from anyvpn.gateway.login import (
    SHUT_OUT,
    Admitted,
    Asked,
    Login,
    LoginHooks,
    Outcome,
    Refused,
)
from anyvpn.gateway.login_answers import covers, fit_answers, readable_name
from anyvpn.gateway.login_exchange import LoginAnswer, LoginPost
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.settings import GatewaySettings, ProfileBinding
from anyvpn.model.authentication import (
    Answer,
    BrowserLogin,
    CertificateRequest,
    ClientMessage,
    ClientMessageKind,
    Form,
    GatewayMessage,
    Identity,
    LoginComplete,
    LoginRefused,
    LoginRequest,
    LoginStep,
    Manifest,
    Opaque,
    SignatureRequest,
)
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.downloads import DownloadHints
from anyvpn.model.events import Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.wire.authentication import write_gateway_message
from anyvpn.wire.cookies import (
    HINTS_COOKIE,
    LOGIN_COOKIE,
    SESSION_COOKIE,
    write_set_cookie,
    write_webvpnc,
)

log = Logger()

# From the protocol (protocol reference, section 6)
PROFILES_PATH = "profiles/"
ANNOUNCED_PROFILES_PATH = "/CACHE/stc/profiles/"

# Ours
IDENTIFIER_BYTES = 16
FINISHED_TIME_S = 30.0
"""How long a client may ask for a verdict again that was lost on its way."""
UNKNOWN_GROUP = "There is no such group. Please choose another one."
BUSY = "Too many logins are in progress. Please try again later."


class _Found(NamedTuple):
    """A login, and the number of the step that the client answers."""

    login: Login
    number: int


class LoginDesk:
    """All logins in progress."""

    def __init__(
        self,
        reactor: IReactorTime,
        settings: GatewaySettings,
        registry: SessionRegistry,
        admission: Admission,
        *,
        certificate_hash: Callable[[str], str],
        tell: Callable[[Event], None],
        random: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._registry = registry
        self._admission = admission
        self._certificate_hash = certificate_hash
        self._tell = tell
        self._random = random
        self.browsers = BrowserDesk(admission, random, settings.documents)
        self._groups = Groups(settings.profiles, settings.default_profile)
        self._logins: dict[str, Login] = {}
        self._pending: Counter[str] = Counter()
        self._server_names: dict[str, str] = {}
        self._forgetting: dict[str, IDelayedCall] = {}
        self._hooks = LoginHooks(
            admit=self._admit,
            failed=self._failed,
            over=self._over,
            is_shut_out=lambda login: admission.is_shut_out(login.user, login.request.peer_address),
            open_visit=self.browsers.open,
            most_tries=settings.limits.login_tries,
            time_s=settings.limits.login_time_s,
        )

    def __len__(self) -> int:
        return len(self._logins)

    @property
    def in_progress(self) -> int:
        """How many logins have no verdict yet."""
        return len(self._logins) - len(self._forgetting)

    async def post(self, post: LoginPost) -> LoginAnswer:
        """Take one POST to its login; gives what to answer."""
        if self._admission.is_banned(post.peer):
            return LoginAnswer(403)
        found = self._find(post)
        chosen, error = self._chosen(post.message, found)
        if found is None or self._begins_anew(post.message, found.login, chosen):
            if found is not None:
                found.login.abandon()
            login = self._begin(post, chosen, error)
            if login is None:
                return self._answer(post, None, Refused(BUSY))
            if post.message.kind is ClientMessageKind.REPLY and not error:
                self._answer_at_once(login, post)
        else:
            login = found.login
            login.take(found.number, self._answer_in(post, login))
        return self._answer(post, login, await login.next_outcome())

    def is_login_path(self, host: str, path: str) -> bool:
        """Whether a browser's or an old client's GET begins a login there."""
        return self._groups.is_login_path(host, path)

    def stop(self) -> None:
        """End all logins without a verdict and forget them."""
        for login in tuple(self._logins.values()):
            login.abort()
        for call in self._forgetting.values():
            call.cancel()
        self._forgetting.clear()
        self._logins.clear()
        self._server_names.clear()

    # --- which login it is ----------------------------------------------------------------

    def _find(self, post: LoginPost) -> _Found | None:
        """The login that the client says it is in."""
        opaque = post.message.opaque
        for handle in (opaque.handle if opaque is not None else "", post.login_cookie):
            identifier, _, number = handle.partition(".")
            login = self._logins.get(identifier)
            if login is not None and hmac.compare_digest(login.identifier, identifier):
                return _Found(login, int(number) if number.isdecimal() and len(number) < 6 else 0)
        return None

    def _chosen(
        self, message: ClientMessage, found: _Found | None
    ) -> tuple[ProfileBinding | None, str]:
        """The profile that the client names, and what to say when there is none of that name."""
        name = message.group_select
        if not name:
            return None, ""
        if found is not None and found.login.binding.profile.answers_to(name):
            return found.login.binding, ""
        chosen = self._groups.by_name(name)
        return chosen, "" if chosen is not None else UNKNOWN_GROUP

    @staticmethod
    def _begins_anew(message: ClientMessage, login: Login, chosen: ProfileBinding | None) -> bool:
        if message.group_select and chosen is not login.binding:
            return True
        # Whoever was asked for a certificate says "init" again, on a connection that has one
        return message.kind is ClientMessageKind.INIT and not login.asks_for_certificate()

    def _begin(self, post: LoginPost, chosen: ProfileBinding | None, error: str) -> Login | None:
        limits, message = self._settings.limits, post.message
        source = source_of(post.peer)
        if self.in_progress >= limits.pending_logins:
            self._make_room()
        is_full = self.in_progress >= limits.pending_logins
        if is_full or self._pending[source] >= limits.pending_logins_per_address:
            log.warn("Too many logins are in progress; one from {peer} is refused", peer=post.peer)
            return None
        by_url = None if chosen else self._groups.by_url(post.host, message.group_access, post.path)
        binding = chosen or by_url or self._groups.default
        login = Login(
            self._reactor,
            self._random(IDENTIFIER_BYTES).hex(),
            binding,
            LoginRequest(
                profile=binding.profile.name,
                client=message.client,
                peer_address=post.peer,
                host=post.host,
                origin=post.origin,
                certificates=post.certificates,
                certificate_problem=post.certificate_problem,
                browser_key=post.browser_key,
            ),
            hooks=self._hooks,
            error=error,
        )
        # Whoever typed a group's URL has chosen; Cisco's gateways show no list then either
        login.offers_groups = by_url is None or bool(error)
        self._logins[login.identifier] = login
        self._pending[source] += 1
        self._server_names[login.identifier] = post.server_name
        detail = message.client.user_agent
        if post.certificate_problem:
            detail = f"the client's certificate is not accepted: {post.certificate_problem}"
        self._tell(self._event(EventKind.LOGIN_STARTED, login, detail=detail))
        login.start()
        return login

    def _make_room(self) -> None:
        """Give the oldest login up whose client has not said anything after its first form."""
        oldest = next((each for each in self._logins.values() if each.is_untouched), None)
        if oldest is not None:
            oldest.abort(BUSY)

    # --- answers of clients ---------------------------------------------------------------

    def _answer_at_once(self, login: Login, post: LoginPost) -> None:
        """Take the answers to a form that the client had from another login.

        So a client gets on that carries nothing over (version 1 without cookies), that chose
        another group along with its answers, or whose login a restart of the gateway has ended.
        """
        outcome = login.outcome
        if not isinstance(outcome, Asked) or not isinstance(outcome.step, Form):
            return
        if covers(outcome.step, post.message.answers):
            login.take(outcome.number, self._answer_in(post, login))

    @staticmethod
    def _answer_in(post: LoginPost, login: Login) -> Answer | LoginRejected:
        """What the POST says to the outstanding step."""
        message = post.message
        step = login.outcome.step if isinstance(login.outcome, Asked) else None
        match step:
            case CertificateRequest():
                if post.certificate_problem:
                    problem = post.certificate_problem
                    return LoginRejected(f"the certificate is not accepted: {problem}")
                return () if message.certificate_refused else post.certificates
            case SignatureRequest():
                if message.certificates is None:
                    return LoginRejected("the client sent no certificates and no signature")
                return replace(message.certificates, signed_document=login.document)
            case BrowserLogin():
                token = message.answers.get(step.token_field, "")
                return token or LoginRejected("the browser's login brought no token")
            case Form():
                answers = fit_answers(step, message.answers)
                login.user = readable_name(answers.get("username", "")) or login.user
                return answers
            case None:
                return message.answers  # to a step that has its answer: it is not taken

    # --- what comes of it -----------------------------------------------------------------

    async def _admit(self, login: Login, identity: Identity) -> Admitted:
        # Guesses at a user may be under another name than the one that the user turns out to have
        names = login.user or identity.user, identity.user
        login.user = identity.user
        if any(self._admission.is_shut_out(each, login.request.peer_address) for each in names):
            raise LoginRejected(SHUT_OUT)
        policy = await self._settings.authorizer.authorize(identity, login.request)
        if not isinstance(policy, GroupPolicy):
            raise BackendFailed(f"the authorizer gave {type(policy).__name__}, which is no policy")
        profiles = await self._profiles(identity, policy)
        request = login.request
        session, token = await self._registry.grant(
            identity, request.profile, policy, request.peer_address, request.client.user_agent
        )
        for name in names:
            self._admission.login_succeeded(request.peer_address, name)
        self._tell(
            replace(
                self._event(EventKind.LOGIN_SUCCEEDED, login, detail=f"policy {policy.name}"),
                session_id=session.identifier,
            )
        )
        certificate_hash = self._certificate_hash(self._server_names.get(login.identifier, ""))
        complete = LoginComplete(
            session_id=str(session.identifier),
            session_token=token,
            banner=policy.banner,
            server_cert_hash=certificate_hash,
            profiles=tuple(
                Manifest(ANNOUNCED_PROFILES_PATH + each.name, each.sha1) for each in profiles
            ),
        )
        hints = DownloadHints(server_cert_hash=certificate_hash)
        if profiles:
            path = PROFILES_PATH + profiles[0].name
            hints = replace(hints, profile_path=path, profile_sha1=profiles[0].sha1)
        return Admitted(complete, hints)

    async def _profiles(self, identity: Identity, policy: GroupPolicy) -> tuple[ClientProfile, ...]:
        """What the client is told to download; it can do without when there is a failure."""
        try:
            return await self._settings.profile_provider.profiles_for(identity, policy)
        except BackendFailed as error:
            log.error(
                "{user} gets no client profile: {problem}", user=identity.user, problem=str(error)
            )
            return ()

    def _failed(self, login: Login, reason: str) -> None:
        self._admission.login_failed(login.request.peer_address, login.user)
        self._tell(self._event(EventKind.LOGIN_FAILED, login, detail=reason))

    def _over(self, login: Login) -> None:
        peer = source_of(login.request.peer_address)
        self._pending[peer] -= 1
        if not self._pending[peer]:
            del self._pending[peer]
        if login.identifier in self._logins:
            self._forgetting[login.identifier] = self._reactor.callLater(
                FINISHED_TIME_S, self._forget, login.identifier
            )
        if len(self._forgetting) > self._settings.limits.pending_logins:
            oldest, call = next(iter(self._forgetting.items()))
            call.cancel()
            self._forget(oldest)

    def _forget(self, identifier: str) -> None:
        del self._forgetting[identifier], self._logins[identifier], self._server_names[identifier]

    def _event(self, kind: EventKind, login: Login, *, detail: str) -> Event:
        return Event(
            kind,
            self._reactor.seconds(),
            user=login.user,
            peer=login.request.peer_address,
            profile=login.request.profile,
            detail=detail,
        )

    # --- what clients are told ------------------------------------------------------------

    def _answer(self, post: LoginPost, login: Login | None, outcome: Outcome) -> LoginAnswer:
        version = post.message.protocol_version
        no_login = write_set_cookie(LOGIN_COOKIE, "")
        match outcome:
            case Asked() if login is not None:
                handle = f"{login.identifier}.{outcome.number}"
                document = write_gateway_message(self._step(login, outcome, handle), version)
                login.document = document
                limit_s = int(self._settings.limits.login_time_s)
                cookie = write_set_cookie(LOGIN_COOKIE, handle, max_age_s=limit_s)
                return LoginAnswer(200, document, (cookie,))
            case Admitted():
                cookies = (
                    no_login,
                    write_set_cookie(SESSION_COOKIE, outcome.complete.session_token),
                    write_set_cookie(HINTS_COOKIE, ""),
                    write_set_cookie(HINTS_COOKIE, write_webvpnc(outcome.hints)),
                )
                return LoginAnswer(200, write_gateway_message(outcome.complete, version), cookies)
            case Refused(denied=True):
                return LoginAnswer(401, cookies=(no_login,))
            case _:
                text = outcome.text if isinstance(outcome, Refused) else BUSY
                message: GatewayMessage = LoginRefused(text)
                return LoginAnswer(200, write_gateway_message(message, version), (no_login,))

    def _step(self, login: Login, asked: Asked, handle: str) -> LoginStep:
        profile = login.binding.profile
        asks_text = isinstance(asked.step, Form | BrowserLogin)
        may_choose = asked.opens and asks_text and login.offers_groups
        return LoginStep(
            asked.step,
            opaque=Opaque(profile.name, profile.alias, self._groups.config_hash, handle),
            groups=self._groups.listing(login.binding) if may_choose else None,
            action="/" if asks_text else "",
            certificate_accepted=login.has_certificate,
        )
