"""Group selection and user authentication (phases 2 and 3) as one coroutine.

Source: protocol reference, sections 2.4, 2.5, 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urljoin

from twisted.logger import Logger

from anyvpn.client.credentials import pkcs7_chain, sign
from anyvpn.client.dialer import Dialer
from anyvpn.client.form_answers import answer_form, ask_group, find_group
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_connection import Answer, Headers
from anyvpn.client.http_session import HTTPSession
from anyvpn.client.login import Login
from anyvpn.client.settings import ClientSettings
from anyvpn.client.strap import StrapKeys
from anyvpn.errors import GatewayUnreachable, LoginAborted, LoginDenied, PeerError
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    NO_ANSWERS,
    BrowserLogin,
    CertificateRequest,
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    Form,
    FormAnswers,
    GatewayMessage,
    LoginComplete,
    LoginRefused,
    LoginStep,
    Manifest,
    Opaque,
    Option,
    SignatureRequest,
    SignedCertificates,
)
from anyvpn.model.client_events import ClientEvent, MessageShown, Phase, PhaseEntered
from anyvpn.model.printable import printable
from anyvpn.wire.authentication import read_gateway_message, write_client_message
from anyvpn.wire.cookies import HINTS_COOKIE, SESSION_COOKIE, read_webvpnc
from anyvpn.wire.forms import write_form_message

log = Logger()

# From the protocol
MOST_GROUP_ROUNDS = 5
MOST_XML_REDIRECTS = 3
MOST_REDIRECTS = 10
_XML_HEADERS: Headers = (
    (b"X-Aggregate-Auth", b"1"),
    (b"Content-Type", b"application/xml; charset=utf-8"),
)
_FORM_HEADERS: Headers = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
_PAD_BLOCK_BYTES = 64
_REDIRECTS = (301, 302, 303, 307, 308)
_EXTERNAL_BROWSER = "single-sign-on-external-browser"
_OUR_SERVICES = frozenset({"", "user"})  # the others' are modules that this client has not
_MULTIPLE_CERTIFICATES = "multiple-cert"

# Ours
MOST_STEPS = 64


class Authentication:
    """One login. `session` is left with the connection and the cookies of it."""

    def __init__(
        self,
        session: HTTPSession,
        dialer: Dialer,
        responder: IResponder,
        settings: ClientSettings,
        tell: Callable[[ClientEvent], None],
    ) -> None:
        self._session = session
        self._dialer = dialer
        self._responder = responder
        self._settings = settings
        self._tell = tell
        self._version = settings.protocol_version or 2
        self._opaque: Opaque | None = None
        self._group = settings.group
        self._group_rounds = 0
        self._redirects = 0
        self._certificate_rounds = 0
        self._form_seen = False
        self._banner = ""
        self._body = b""
        """The answer of the gateway as it came, which is what signatures are made over."""
        self._strap: StrapKeys | None = None
        capabilities = set(responder.capabilities)
        if _EXTERNAL_BROWSER in capabilities:
            self._strap = StrapKeys.generate()
            session.extra_headers = self._strap.headers
        if settings.machine_credential is not None and settings.credentials:
            capabilities.add(_MULTIPLE_CERTIFICATES)
        self._client = _announcing(settings.description, frozenset(capabilities))

    async def log_in(self) -> Login:
        """From `init` to the session token.

        Raises: LoginDenied, LoginAborted, GatewayUnreachable, GatewayUntrusted, PeerError.
        """
        self._tell(PhaseEntered(Phase.GROUP, str(self._session.url)))
        self._responder.login_begins()
        message = await self._begin()
        for _ in range(MOST_STEPS):
            if isinstance(message, LoginComplete):
                return self._complete(message)
            if isinstance(message, LoginRefused):
                raise LoginDenied(printable(message.error) or "the gateway refuses the login")
            if not isinstance(message, LoginStep):
                raise PeerError("the gateway logs out who never was in")
            message = await self._step(message)
        raise PeerError(f"the gateway asks for more than {MOST_STEPS} steps")

    # --- the first exchange ---------------------------------------------------------------------

    async def _begin(self) -> GatewayMessage:
        start = self._session.url
        if self._version == 2:
            why_not = ""
            try:
                answer = await self._init()
                if answer is not None:
                    return answer
                why_not = "its first answer is none of version 2"
            except PeerError as error:
                why_not = str(error)
            if self._settings.protocol_version == 2:
                raise PeerError(f"the gateway does not speak version 2: {why_not}")
            log.info("Falling back to version 1 of the login: {why}", why=why_not)
            self._version = 1
            self._session.close()
            self._session.move_to(start)
            self._session.cookies.clear()
        return await self._begin_with_form()

    async def _init(self, group: str = "", *, refused: bool = False) -> GatewayMessage | None:
        """Post `init`; None when the answer is a sign of a gateway without version 2.

        Raises: MalformedMessage, MessageTooLarge: another such sign.
        """
        message = ClientMessage(
            ClientMessageKind.INIT,
            client=self._client,
            group_select=group or self._settings.group,
            group_access=str(self._session.url),
            certificate_refused=refused,
        )
        body = write_client_message(message)
        for _ in range(MOST_XML_REDIRECTS + 1):
            answer = await self._post(body, _XML_HEADERS)
            if answer.status in _REDIRECTS:
                target = self._session.url.resolve(answer.first("Location"))
                if target.is_same_gateway(self._session.url):
                    return None
                self._redirect(target)
                continue
            if answer.status in (401, 403):
                raise _denied(answer)
            if answer.status != 200 or not answer.body:
                return None
            return self._read(answer)
        return None

    async def _begin_with_form(self) -> GatewayMessage:
        """Version 1: GET the first form."""
        return await self._follow(await self._session.request("GET", headers=_FORM_HEADERS))

    async def _follow(self, answer: Answer) -> GatewayMessage:
        """Read an answer of version 1, in which redirects lead to the next form."""
        while answer.status in _REDIRECTS:
            self._redirect(self._session.url.resolve(answer.first("Location")))
            answer = await self._session.request("GET", headers=_FORM_HEADERS)
        return self._read_later(answer)

    def _redirect(self, target: GatewayURL) -> None:
        self._redirects += 1
        if self._redirects > MOST_REDIRECTS:
            raise PeerError(f"the gateway redirects more than {MOST_REDIRECTS} times")
        log.info("The gateway sends us on to {url}", url=str(target))
        self._session.move_to(target)

    # --- one step after the other -----------------------------------------------------------------

    async def _step(self, message: LoginStep) -> GatewayMessage:
        if message.opaque is not None:
            self._opaque = message.opaque
        if message.banner and message.banner != self._banner:
            self._banner = message.banner
            self._tell(MessageShown(message.banner))
        if message.host_scan_wanted:
            raise LoginDenied(
                "the gateway insists on a posture check (host scan), which this client does not do"
            )
        step = message.step
        if isinstance(step, CertificateRequest):
            return await self._show_certificate()
        if message.action:
            self._session.move_to(self._session.url.resolve(message.action))
        if isinstance(step, SignatureRequest):
            return await self._reply(certificates=self._signed(step))
        if message.nothing_to_ask:
            return await self._reply()
        group: Option | None = None
        if message.groups is not None:
            group = await self._choose_group(message, step)
            if group.value != message.groups.options[0].value and self._version == 2:
                self._group_rounds += 1
                if self._group_rounds <= MOST_GROUP_ROUNDS:
                    return self._insist(await self._init(group.value))
        if not self._form_seen:
            self._form_seen = True
            self._tell(PhaseEntered(Phase.AUTHENTICATION, group.label if group else ""))
        answers = await self._answers(step, group)
        return await self._reply(answers, "" if group is None else group.value)

    async def _choose_group(self, message: LoginStep, step: Form | BrowserLogin) -> Option:
        groups = message.groups
        assert groups is not None
        if not self._group:
            if len(groups.options) == 1:
                return groups.options[0]
            form = step if isinstance(step, Form) else Form(step.message, (), title=step.title)
            chosen = await ask_group(groups, form, self._responder)
            self._group = chosen.value
            return chosen
        return find_group(groups, self._group)

    async def _answers(self, step: Form | BrowserLogin, group: Option | None) -> FormAnswers:
        if isinstance(step, Form):
            try:
                return await answer_form(step, group, self._responder)
            except LoginAborted:
                if step.error:
                    raise LoginDenied(printable(step.error)) from None
                raise
        token = await self._responder.answer(step)
        if not isinstance(token, str) or not token:
            raise LoginAborted("nobody goes through the login in a browser that the gateway wants")
        if step.external and self._strap is not None:
            token = self._strap.open_browser_token(token)
        return {step.token_field: token}

    # --- certificates -----------------------------------------------------------------------------

    async def _show_certificate(self) -> GatewayMessage:
        """Begin again on a new connection, with the certificate or with our regret."""
        self._certificate_rounds += 1
        if self._certificate_rounds > 2:
            raise LoginDenied("the gateway wants a client certificate, or another one than ours")
        self._session.close()
        self._dialer.is_wanted = True
        has_one = self._dialer.credential is not None or self._dialer.may_choose
        refused = self._certificate_rounds == 2 or not has_one
        if refused:
            self._certificate_rounds = 2
        return self._insist(await self._init(self._group, refused=refused))

    def _signed(self, request: SignatureRequest) -> SignedCertificates:
        """Our user's certificate and a signature over the gateway's document (section 3.10)."""
        if self._settings.machine_credential is None or not self._settings.credentials:
            raise LoginDenied(
                "the gateway wants two certificates, a machine's and a user's; give it both"
            )
        credential = self._settings.credentials[0]
        known = [each for each in ("sha512", "sha384", "sha256") if each in request.hash_algorithms]
        if not known:
            raise LoginDenied("the gateway wants a signature with a hash that we do not know")
        return SignedCertificates(
            pkcs7_chain(credential), sign(credential, known[0], self._body), known[0]
        )

    # --- exchanges --------------------------------------------------------------------------------

    async def _reply(
        self,
        answers: FormAnswers = NO_ANSWERS,
        group: str = "",
        certificates: SignedCertificates | None = None,
    ) -> GatewayMessage:
        message = ClientMessage(
            ClientMessageKind.REPLY,
            protocol_version=self._version,
            client=self._client,
            group_select=group,
            opaque=self._opaque,
            answers=answers,
            certificates=certificates,
        )
        if self._version == 1:
            body = write_form_message(message)
            return await self._follow(await self._session.request("POST", body, _FORM_HEADERS))
        return self._read_later(await self._post(write_client_message(message), _XML_HEADERS))

    async def _post(self, body: bytes, headers: Headers) -> Answer:
        pad_bytes = _PAD_BLOCK_BYTES - len(body) % _PAD_BLOCK_BYTES
        answer = await self._session.request("POST", body, (*headers, (b"X-Pad", b"0" * pad_bytes)))
        if self._dialer.credential is not None and not self._form_seen:
            # Some gateways ask for the certificate only when they know the group, and then in a
            # handshake (protocol reference, section 1.3)
            self._session.close()
        return answer

    def _read(self, answer: Answer) -> GatewayMessage:
        self._body = answer.body
        return read_gateway_message(answer.body)

    def _read_later(self, answer: Answer) -> GatewayMessage:
        if answer.status in (401, 403):
            raise _denied(answer)
        if answer.status in _REDIRECTS:
            raise PeerError("the gateway redirects in the middle of a login")
        if answer.status != 200:
            raise GatewayUnreachable(
                f"the gateway answers {answer.status} {printable(answer.reason)} "
                "in the middle of a login"
            )
        return self._read(answer)

    @staticmethod
    def _insist(message: GatewayMessage | None) -> GatewayMessage:
        if message is None:
            raise PeerError("the gateway does not know its own protocol any more")
        return message

    # --- the end ----------------------------------------------------------------------------------

    def _complete(self, message: LoginComplete) -> Login:
        session = self._session
        token = message.session_token or session.cookies.get(SESSION_COOKIE, "")
        if not token:
            raise PeerError("the gateway lets us in without a session token")
        certificate = session.accepted
        announced = message.server_cert_hash
        hints = session.cookies.get(HINTS_COOKIE, "")
        profiles = tuple(
            each
            for each in message.profiles
            if each.kind == "profile" and each.service in _OUR_SERVICES
        )
        if hints:
            told = read_webvpnc(hints)
            announced = announced or told.server_cert_hash
            if not profiles and told.profile_path and told.profile_sha1:
                # Relative to the base, unless it begins with a slash itself
                uri = urljoin(f"{told.base_path.rstrip('/')}/", told.profile_path)
                profiles = (Manifest(uri, told.profile_sha1),)
        if certificate is not None and announced and announced.upper() != certificate.sha1:
            log.warn(
                "The gateway announces another certificate than it shows: it may be behind a proxy"
            )
        for text in (message.banner, message.message):
            if text and text != self._banner:
                self._tell(MessageShown(text))
        return Login(
            url=session.url,
            token=token,
            certificate=certificate,
            address=session.address,
            session_id=message.session_id,
            profiles=profiles,
            cookies=tuple(session.cookies.items()),
            strap=self._strap,
        )


def _announcing(client: ClientDescription, capabilities: frozenset[str]) -> ClientDescription:
    return replace(client, capabilities=client.capabilities | capabilities)


def _denied(answer: Answer) -> LoginDenied:
    reason = printable(answer.first("X-Reason") or answer.reason)
    return LoginDenied(f"the gateway denies the login: {answer.status} {reason}".rstrip())
