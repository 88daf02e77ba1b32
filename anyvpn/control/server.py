"""The control socket: whoever may open it reads, over HTTP, what the gateway is and does.

    curl --unix-socket gateway.sock http://gateway/status

File rights decide who that is. It is bounded all the same: so many connections at a time, each
with one request and its time.
"""

from __future__ import annotations

import socket
import stat
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IReactorUNIX,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from anyvpn.control.reports import Reports
from anyvpn.control.status import CONNECTION_TIME_S, SESSIONS_PATH, STATUS_PATH, write_json
from anyvpn.errors import StartUpFailed
from anyvpn.packets.time_limit import TimeLimit

log = Logger()

# Ours
OWNER_ONLY = 0o600
MOST_CONNECTIONS = 8
SESSIONS_AT_A_TIME = 100
PROBE_TIME_S = 1.0


class ControlReactor(IReactorTime, IReactorUNIX):
    """What the control socket needs of a reactor."""


def open_control(reactor: ControlReactor, path: Path, reports: Reports) -> IListeningPort:
    """Listen, for our own user alone; what a killed gateway has left there is replaced.

    Raises: StartUpFailed: another process listens there, or it cannot be.
    """
    try:
        _remove_stale(path)
        return reactor.listenUNIX(
            str(path), cast(Any, control_factory(reactor, reports)), mode=OWNER_ONLY
        )
    except CannotListenError as error:
        raise _cannot(path, error.socketError) from error
    except OSError as error:
        raise _cannot(path, error) from error


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at. Raises: StartUpFailed, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _cannot(path, "something else has this name")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(PROBE_TIME_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise _cannot(path, "another process listens there")


def _cannot(path: Path, why: object) -> StartUpFailed:
    reason = getattr(why, "strerror", None) or str(why)
    return StartUpFailed(
        f"cannot listen on the control socket {path}: {reason}; "
        "[control] names another with socket, or does without by enabled = false"
    )


def control_factory(reactor: IReactorTime, reports: Reports) -> WrappingFactory[_Connection]:
    """Makes the protocols of the control socket's connections."""
    return _Connections(reactor, _Answers(reactor, reports))


class _Answers(Resource):
    """All that there is to read."""

    isLeaf = True

    def __init__(self, reactor: IReactorTime, reports: Reports) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self._reactor = reactor
        self._reports = reports

    def render(self, request: Request) -> bytes | int:
        """Answer in JSON, or with a status that says why not."""
        request.responseHeaders.setRawHeaders(b"Content-Type", [b"application/json"])
        path: bytes = request.path
        if path not in (STATUS_PATH.encode(), SESSIONS_PATH.encode()):
            request.setResponseCode(HTTPStatus.NOT_FOUND)
            return b""
        if request.method != b"GET":
            request.setResponseCode(HTTPStatus.METHOD_NOT_ALLOWED)
            request.responseHeaders.setRawHeaders(b"Allow", [b"GET"])
            return b""
        if path == STATUS_PATH.encode():
            return write_json(self._reports.gateway_status()).encode() + b"\n"
        writing = Deferred.fromCoroutine(self._write_sessions(request))
        if not writing.called:
            request.notifyFinish().addErrback(lambda _: writing.cancel())
        writing.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _write_sessions(self, request: Request) -> None:
        """They may be many: the reactor does its other work in between."""
        start = b"["
        for some in self._reports.sessions(SESSIONS_AT_A_TIME):
            if some:
                listed = write_json(some).removeprefix("[").removesuffix("]")
                request.write(start + listed.encode())  # type: ignore[no-untyped-call]  # nor here
                start = b",\n"
            await deferLater(cast(Any, self._reactor), 0)
        request.write(b"[]\n" if start == b"[" else b"]\n")  # type: ignore[no-untyped-call]  # nor here
        request.finish()  # type: ignore[no-untyped-call]  # nor here

    @staticmethod
    def _failed(failure: Failure, request: Request) -> None:
        if not isinstance(failure.value, CancelledError):  # the connection is gone
            log.failure("Failed to list the sessions", failure=failure)
            request.loseConnection()  # type: ignore[no-untyped-call]  # nor here


# --- bounds --------------------------------------------------------------------------------


class _BodilessRequest(Request):
    """A request without a body, since there is only something to read, and the last of its kind."""

    def gotLength(self, length: int | None) -> None:
        """The length of the body; None when it comes in chunks."""
        super().gotLength(0)  # type: ignore[no-untyped-call]  # nor here
        if length != 0:
            self.loseConnection()  # type: ignore[no-untyped-call]  # nor here

    def process(self) -> None:
        """Answer, and close the connection."""
        self.channel.persistent = False
        super().process()  # type: ignore[no-untyped-call]  # nor here


class _Site(Site):
    """Serves what there is to read; it is in no log who has read it."""

    displayTracebacks = False
    noisy = False

    def log(self, request: HTTPRequest) -> None:
        """Write no line."""


class _Connection(ProtocolWrapper):
    """A connection that ends when its time is up, whatever it waits for."""

    def __init__(self, factory: _Connections, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._time_limit = TimeLimit(factory.reactor)

    def connectionMade(self) -> None:
        """It is there."""
        self._time_limit.start(CONNECTION_TIME_S, self._time_is_up)
        super().connectionMade()  # type: ignore[no-untyped-call]  # nor here

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._time_limit.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # nor here

    def _time_is_up(self) -> None:
        cast(Any, self.transport).abortConnection()


class _Connections(WrappingFactory[_Connection]):
    """Lets in as many as there may be."""

    protocol = _Connection
    noisy = False

    def __init__(self, reactor: IReactorTime, root: Resource) -> None:
        site = _Site(root, _BodilessRequest, timeout=CONNECTION_TIME_S, reactor=reactor)  # type: ignore[no-untyped-call]  # nor here
        super().__init__(site)  # type: ignore[no-untyped-call]  # nor here
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> _Connection | None:  # type: ignore[override]  # others are refused
        """Give the connection its protocol, unless there are too many."""
        return super().buildProtocol(addr) if len(self.protocols) < MOST_CONNECTIONS else None
