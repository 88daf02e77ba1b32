"""Lets the user log in with the browser of the desktop (single sign-on, external mode).

The gateway's page sends the browser to http://localhost:29786/api/sso/BLOB?return=ADDRESS; the
blob is what the login needs, and the browser is sent on to the address.

Source: protocol reference, section 3.11 (observed in openconnect's source).
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import shutil
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ProcessDone
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import NO_ANSWERS, Answer, BrowserLogin, Step
from anyvpn.model.browser_address import browser_origin
from anyvpn.model.printable import printable

log = Logger()

# From the protocol
PORT = 29786
_PATH = b"/api/sso/"
_CAPABILITIES = frozenset({"single-sign-on-v2", "single-sign-on-external-browser"})

# Ours
_LOOPBACK = ("127.0.0.1", "::1")
_OPENERS = ("xdg-open", "x-www-browser", "www-browser")
_REQUEST_TIME_S = 10.0
_NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_PAGE = b"<!DOCTYPE html><title>VPN</title><p>%s</p>\n"
_HEADERS = {
    b"Content-Type": b"text/html; charset=utf-8",
    b"Content-Security-Policy": b"default-src 'none'",
    b"Referrer-Policy": b"no-referrer",
    b"Cache-Control": b"no-store",
}


class _Reactor(IReactorTime, IReactorTCP, IReactorProcess):
    """What waits for a browser."""


@attrs.frozen
class Settings:
    """Which browser, and how long a login may take."""

    command: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"help": "What opens an address, which is added; the desktop's unless set."},
    )
    time_s: float = attrs.field(
        default=300.0, metadata={"help": "How long the user may take, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if self.command and not self.command[0]:
            raise ValueError("command must name a program")
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")


def build(settings: Settings, reactor: _Reactor) -> BrowserResponder:
    """The responder that opens this browser."""
    return BrowserResponder(settings, reactor)


def _log_address(address: str) -> None:
    log.info("Log in with a browser on this host: {address}", address=address)


@implementer(IResponder)
class BrowserResponder:
    """Opens the gateway's page and waits until it sends the browser back.

    `show` is told the address, for users whose browser does not open by itself.
    """

    capabilities = _CAPABILITIES

    def __init__(
        self,
        settings: Settings,
        reactor: _Reactor,
        show: Callable[[str], None] = _log_address,
        port: int = PORT,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._show = show
        self._port = port

    def login_begins(self) -> None:
        """Nothing is kept from one login to the next."""

    async def answer(self, step: Step) -> Answer:
        """What the browser brings, still sealed; empty for a login in an embedded browser.

        Raises: LoginAborted: nobody logs in in time, the port is taken, the address is not safe.
        """
        if not isinstance(step, BrowserLogin):
            return NO_ANSWERS
        if not step.external:
            log.warn("The gateway wants an embedded browser, for which a `command` is needed")
            return ""
        if not browser_origin(step.login_url):
            raise LoginAborted("the gateway sends the browser to an address that is not safe")
        brought: Deferred[str] = Deferred()
        ports = await self._listen(_Landing(step.final_url, brought))
        brought.addTimeout(self._settings.time_s, self._reactor, onTimeoutCancel=_too_late)
        try:
            self._show(step.login_url)
            self._open(step.login_url)
            return await brought
        finally:
            if not brought.called:
                brought.addErrback(lambda _: None)
                brought.cancel()
            await _stop(ports)

    async def _listen(self, landing: Resource) -> list[IListeningPort]:
        ports: list[IListeningPort] = []
        for host in _LOOPBACK:
            try:
                port = self._reactor.listenTCP(
                    self._port,
                    _Site(landing),  # type: ignore[arg-type]  # nor is it one for Twisted's types
                    interface=host,
                )
                ports.append(port)
            except CannotListenError as error:
                number = getattr(error.socketError, "errno", None)
                if number in _NO_SUCH_FAMILY:
                    continue
                await _stop(ports)
                why = os.strerror(number) if isinstance(number, int) else "it is not to be had"
                raise LoginAborted(
                    f"the browser cannot come back to port {self._port} of this host: {why}"
                ) from None
        if not ports:
            raise LoginAborted("the browser cannot come back: this host has no loopback address")
        return ports

    def _open(self, address: str) -> None:
        """Start the browser; when it does not start, the user still has the address."""
        command = list(self._settings.command)
        if not command:
            command = [each for each in _OPENERS if shutil.which(each) is not None][:1]
        if not command or shutil.which(command[0]) is None:
            log.warn("There is no program that opens a browser")
            return
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._reactor.spawnProcess(
                _Opener(command[0]),
                command[0],
                [*command, address],
                None,
                childFDs={0: nothing, 1: nothing, 2: nothing},
            )
        except OSError as error:
            log.warn("{command}: {why}", command=printable(command[0]), why=error.strerror)
        finally:
            os.close(nothing)


async def _stop(ports: list[IListeningPort]) -> None:
    for port in ports:
        stopped = port.stopListening()
        if stopped is not None:
            await stopped


def _too_late(_: object, time_s: float) -> object:
    raise LoginAborted(f"nobody has logged in with the browser for {time_s:.0f} s")


class _Opener(ProcessProtocol):
    """What opens the browser; it may run for as long as it likes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def processEnded(self, reason: Failure) -> None:
        """It has opened it, or not."""
        if not isinstance(reason.value, ProcessDone):
            log.warn("{command} could not open the browser", command=printable(self._name))


class _BodilessRequest(Request):
    """A request without a body, since nobody has anything to upload, and the last of its kind."""

    def gotLength(self, length: int | None) -> None:
        """The length of the body; None when it comes in chunks."""
        super().gotLength(0)  # type: ignore[no-untyped-call]  # Twisted has no types here
        if length != 0:
            self.loseConnection()  # type: ignore[no-untyped-call]  # nor here

    def process(self) -> None:
        """Answer, and close the connection."""
        self.channel.persistent = False
        super().process()  # type: ignore[no-untyped-call]  # nor here


class _Site(Site):
    """Serves one page; what the browser brings gets into no log."""

    def __init__(self, landing: Resource) -> None:
        super().__init__(landing, _BodilessRequest, timeout=_REQUEST_TIME_S)  # type: ignore[no-untyped-call]  # nor here

    def log(self, request: HTTPRequest) -> None:
        """Write no line."""


class _Landing(Resource):
    """Where the browser lands."""

    isLeaf = True

    def __init__(self, final_url: str, brought: Deferred[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor here
        self._origin = browser_origin(final_url)
        self._brought = brought

    def render(self, request: Request) -> bytes:
        """Take the blob of a fitting request; all others find nothing."""
        for name, value in _HEADERS.items():
            request.responseHeaders.setRawHeaders(name, [value])
        blob = _blob_in(request)
        if request.method != b"GET" or not blob:
            request.setResponseCode(404)
            return _PAGE % b"There is nothing here."
        address = (request.args or {}).get(b"return", [b""])[0].decode("utf-8", "replace")
        origin = browser_origin(address)
        if origin and origin == self._origin and origin.startswith("https:"):
            request.setResponseCode(302)
            request.responseHeaders.setRawHeaders(b"Location", [address.encode("ascii")])
        if not self._brought.called:
            self._brought.callback(blob)
        return _PAGE % b"You are logged in and can close this window."


def _blob_in(request: Request) -> str:
    """What follows the path, when it is base64."""
    path: bytes = request.path
    if not path.startswith(_PATH):
        return ""
    text = unquote_to_bytes(path.removeprefix(_PATH))
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return text.decode("ascii")
