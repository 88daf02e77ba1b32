"""The process inside: a user and a network namespace of its own, with the tun device in them.

Started by `adapter_namespace` with a Unix socket, over which it hands out the tun descriptor and
then serves requests, one JSON object a message:

    connect   host, port, timeout_s    →  a connected socket, or the kind of failure
    run       command                  →  its exit status
    apply     settings as at the start →  done

It ends when the socket is closed, and before it everything that runs inside.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyvpn.backends.adapter_namespace_network import DEVICE, configure
from anyvpn.backends.adapter_namespace_processes import (
    TERMINAL_SIGNALS,
    end_processes_in,
    network_of,
)
from anyvpn.backends.adapter_namespace_resolvers import ResolverFiles
from anyvpn.errors import TunUnavailable
from anyvpn.tun.descriptor import open_descriptor

# From Linux
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18

# Ours
LARGEST_MESSAGE_BYTES = 128 * 1024
MOST_AT_ONCE = 256
_AS_BEFORE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("env", "--default-signal=INT,HUP,QUIT"),
)
"""A command ends with us, and gets the signals that we ignore; exit status 127: no such command."""
_HINTS = (
    ("/proc/sys/user/max_user_namespaces", "0", "set user.max_user_namespaces above 0"),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "set kernel.unprivileged_userns_clone to 1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "set kernel.apparmor_restrict_unprivileged_userns to 0",
    ),
)
"""A setting, the value that forbids user namespaces, and what helps."""

_libc = ctypes.CDLL(None, use_errno=True)

_Answer = tuple[dict[str, Any], socket.socket | None]


def main(descriptor: int) -> None:
    """Set everything up, then serve until the socket is closed."""
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)  # commands inherit what is blocked
    channel = socket.socket(fileno=descriptor)
    message = channel.recv(LARGEST_MESSAGE_BYTES)
    if not message:
        return
    settings = json.loads(message)
    try:
        enter_namespaces()
        opened = open_descriptor(DEVICE, settings["offloads"])
        configure(settings, None)
        resolvers = ResolverFiles(settings)
    except (TunUnavailable, OSError) as error:
        with suppress(OSError):
            channel.send(json.dumps({"error": str(error)}).encode())
        return
    ready = json.dumps({"ready": opened.name, "network": network_of("self")}).encode()
    with suppress(OSError):
        socket.send_fds(channel, [ready], [opened.descriptor])
        os.close(opened.descriptor)
        threading.Thread(target=resolvers.keep, daemon=True).start()
        Server(channel, settings, resolvers).serve()
    end_processes_in(network_of("self"))


def enter_namespaces() -> None:
    """Become the owner of a network of our own. Raises: TunUnavailable: who forbids it."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS):
        raise TunUnavailable(why_forbidden(ctypes.get_errno()))
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        raise TunUnavailable(why_forbidden(error.errno or 0)) from error
    if _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise TunUnavailable(why_forbidden(ctypes.get_errno()))


def why_forbidden(code: int) -> str:
    """Which setting forbids user namespaces, as far as it can be seen, and what would help."""
    advice = []
    for path, wrong, help_text in _HINTS:
        with suppress(OSError):
            if Path(path).read_text().strip() == wrong:
                advice.append(help_text)
    helps = "; ".join(advice) or "in a container, its seccomp profile must allow them"
    return f"this system forbids user namespaces ({os.strerror(code)}): {helps}"


class Server:
    """Serves requests, each in a thread of its own, up to a bound."""

    def __init__(
        self, channel: socket.socket, settings: Mapping[str, Any], resolvers: ResolverFiles
    ) -> None:
        self._channel = channel
        self._resolvers = resolvers
        self._settings = settings
        self._room = threading.Semaphore(MOST_AT_ONCE)

    def serve(self) -> None:
        """Until the other side is gone. Raises: OSError: the socket broke."""
        works: dict[str, Callable[[dict[str, Any]], _Answer]]
        works = {"connect": self._connect, "run": self._run, "apply": self._apply}
        while message := self._channel.recv(LARGEST_MESSAGE_BYTES):
            request = json.loads(message)
            self._room.acquire()
            work = works[request["do"]]
            threading.Thread(target=self._serve, args=(work, request), daemon=True).start()

    def _serve(self, work: Callable[[dict[str, Any]], _Answer], request: dict[str, Any]) -> None:
        try:
            try:
                answer, connected = work(request)
            except (OSError, ValueError, OverflowError, TunUnavailable) as error:
                answer, connected = failure_of(error), None
            message = json.dumps({"id": request["id"], **answer}).encode()
            with suppress(OSError):
                if connected is None:
                    self._channel.send(message)
                else:
                    with connected:
                        socket.send_fds(self._channel, [message], [connected.fileno()])
        finally:
            self._room.release()

    @staticmethod
    def _connect(request: dict[str, Any]) -> _Answer:
        connected = socket.create_connection(
            (request["host"], request["port"]), timeout=request["timeout_s"]
        )
        connected.setblocking(False)
        return {}, connected

    @staticmethod
    def _run(request: dict[str, Any]) -> _Answer:
        # The thread waits to the end: the kernel takes its end for that of the parent
        status = subprocess.call([*_AS_BEFORE, *request["command"]])  # noqa: S603 - the user's
        return {"status": 128 - status if status < 0 else status}, None

    def _apply(self, request: dict[str, Any]) -> _Answer:
        settings, before = request["settings"], self._settings
        self._settings = settings
        configure(settings, before)
        self._resolvers.change(settings)
        return {}, None


def failure_of(error: Exception) -> dict[str, Any]:
    """What went wrong, for the other side."""
    match error:
        case socket.gaierror() | ValueError():  # ValueError: what no resolver would be asked
            kind = "no such host"
        case TimeoutError():
            kind = "timed out"
        case ConnectionRefusedError():
            kind = "refused"
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EACCES):
            kind = "unreachable"
        case _:
            kind = "failed"
    text = getattr(error, "strerror", None) or str(error)
    return {"failure": kind, "why": text}
