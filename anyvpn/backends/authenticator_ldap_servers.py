"""Connections to a directory's servers: TLS that is checked, used again, and failover.

Everything here blocks, so it runs in the backend's own threads.
"""

from __future__ import annotations

import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar

import ldap3
from ldap3.core.exceptions import LDAPExceptionError
from pyasn1.error import PyAsn1Error
from twisted.logger import Logger

from anyvpn.backends.authenticator_ldap_connection import (
    Connection,
    ConnectionSettings,
    ServerAddress,
    ServerFailed,
)
from anyvpn.errors import AnyvpnError, BackendFailed
from anyvpn.model.printable import printable

log = Logger()

Result = TypeVar("Result")

# Ours
MOST_IDLE = 16
IDLE_TIME_S = 60.0


class Work:
    """One piece of work in a thread, which the reactor's thread may end at any time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._connection: Any = None
        self.is_over = False

    def uses(self, connection: Any) -> None:
        """From now on it waits for this connection. Raises: BackendFailed: nobody waits for it."""
        with self._lock:
            if self.is_over:
                raise BackendFailed("nobody waits for it any more")
            self._connection = connection

    def end(self) -> None:
        """Let whatever the thread waits for fail at once."""
        with self._lock:
            self.is_over = True
            if self._connection is not None:
                shut(self._connection)


def shut(connection: Any) -> None:
    """Close a connection without a word, from whichever thread."""
    with suppress(OSError, AttributeError):
        connection.socket.shutdown(2)


class Servers:
    """Hands out connections, of the first server that works; used by several threads.

    A server that fails is left alone for a while; when all of them are, nobody waits for them.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._tls = ldap3.Tls(
            validate=ssl.CERT_REQUIRED,
            ca_certs_file=None if settings.ca_file is None else str(settings.ca_file),
        )
        self._lock = Lock()
        self._idle: dict[ServerAddress, deque[tuple[float, Any]]] = {
            each: deque() for each in settings.servers
        }
        self._failed_at_s: dict[ServerAddress, float] = {}
        self._is_closed = False

    def run(self, work: Work, task: Callable[[Connection], Result]) -> Result:
        """Do the task with one server; all of it again with the next when that one fails.

        Raises: BackendFailed: none of them could; the text says why of each.
        """
        problems: list[str] = []
        for server in self._in_turn():
            if work.is_over:
                break
            try:
                result = self._run_at(server, work, task)
            except ServerFailed as error:
                if work.is_over:
                    break
                self._note_failure(server, str(error))
                problems.append(f"{server}: {error}")
                continue
            self._note_success(server)
            return result
        if work.is_over:
            raise BackendFailed("nobody waits for it any more")
        if not problems:
            raise BackendFailed("all directory servers have failed a moment ago")
        raise BackendFailed(f"no directory server can be used: {'; '.join(problems)}")

    def close(self) -> None:
        """Let all connections go that nobody uses."""
        with self._lock:
            self._is_closed = True
        for server in self._settings.servers:
            self._let_go(server)

    # --- one server ---------------------------------------------------------------------------

    def _run_at(
        self, server: ServerAddress, work: Work, task: Callable[[Connection], Result]
    ) -> Result:
        kept = self._take(server)
        if kept is not None:
            try:
                return self._run_with(server, kept, work, task)
            except ServerFailed:
                if work.is_over:
                    raise
                # Nothing is known of the server yet but that what it was reached by is no good:
                # closed while nobody used it, or leading nowhere since it was switched off
                self._let_go(server)
        return self._run_with(server, self._open(server, work), work, task)

    def _run_with(
        self, server: ServerAddress, raw: Any, work: Work, task: Callable[[Connection], Result]
    ) -> Result:
        is_good = False
        try:
            with _failures_in_words():
                work.uses(raw)
                result = task(Connection(raw, self._settings))
            is_good = True
            return result
        finally:
            self._give_back(server, raw, is_good=is_good and not work.is_over)

    def _open(self, server: ServerAddress, work: Work) -> Any:
        own = self._settings
        with _failures_in_words():
            raw = ldap3.Connection(
                ldap3.Server(
                    *(server.host, server.port, server.tls),
                    tls=self._tls,
                    get_info=ldap3.NONE,
                    connect_timeout=own.connect_time_s,
                ),
                client_strategy=ldap3.SAFE_SYNC,
                check_names=False,
                auto_referrals=False,  # but for searches
                receive_timeout=math.ceil(own.time_s),  # it packs whole numbers only
                auto_range=False,
            )
            if not own.plaintext:
                _follow_with_tls_alone(raw.strategy)
            try:
                work.uses(raw)
                raw.open(read_server_info=False)
                if not server.tls and not own.plaintext:
                    raw.start_tls(read_server_info=False)
                    if not raw.tls_started:
                        raise ServerFailed("it does not begin TLS")
                raw.socket.settimeout(own.time_s)
            except BaseException:
                _unbind(raw)
                raise
        return raw

    def _take(self, server: ServerAddress) -> Any:
        with self._lock:
            waiting = self._idle[server]
            while waiting:
                since_s, raw = waiting.pop()
                if time.monotonic() - since_s < IDLE_TIME_S:
                    return raw
                _unbind(raw)
        return None

    def _give_back(self, server: ServerAddress, raw: Any, *, is_good: bool) -> None:
        with self._lock:
            waiting = self._idle[server]
            if is_good and len(waiting) < MOST_IDLE and not self._is_closed:
                waiting.append((time.monotonic(), raw))
                return
        _unbind(raw)

    def _let_go(self, server: ServerAddress) -> None:
        """Close the connections to it that nobody uses."""
        with self._lock:
            waiting = self._idle[server]
            unused = [each for _, each in waiting]
            waiting.clear()
        for each in unused:
            _unbind(each)

    # --- which of them ------------------------------------------------------------------------

    def _in_turn(self) -> list[ServerAddress]:
        now_s = time.monotonic()
        with self._lock:
            return [
                each
                for each in self._settings.servers
                if now_s - self._failed_at_s.get(each, -1e9) >= self._settings.retry_after_s
            ]

    def _note_failure(self, server: ServerAddress, problem: str) -> None:
        with self._lock:
            is_new = server not in self._failed_at_s
            self._failed_at_s[server] = time.monotonic()
        self._let_go(server)
        if is_new:
            log.warn(
                "The directory server {server} has failed: {problem}",
                server=str(server),
                problem=problem,
            )

    def _note_success(self, server: ServerAddress) -> None:
        with self._lock:
            was_down = self._failed_at_s.pop(server, None) is not None
        if was_down:
            log.info("The directory server {server} works again", server=str(server))


def _follow_with_tls_alone(strategy: Any) -> None:
    """Referrals are followed with the password of whoever asks, to ldap:// without TLS."""
    usable = strategy.valid_referral_list
    strategy.valid_referral_list = lambda given: [each for each in usable(given) if each["ssl"]]


@contextmanager
def _failures_in_words() -> Iterator[None]:
    try:
        yield
    except (AnyvpnError, ServerFailed):
        raise
    except Exception as error:  # whatever the library lets out when a server sends nonsense
        said = printable(str(error)) or type(error).__name__
        # of a certificate that does not fit it shows all, and says why at the end
        said = said if len(said) < 300 else f"{said[:100]} ... {said[-200:]}"
        raise ServerFailed(said) from None


def _unbind(raw: Any) -> None:
    with suppress(LDAPExceptionError, OSError, PyAsn1Error, ValueError):
        raw.unbind()
