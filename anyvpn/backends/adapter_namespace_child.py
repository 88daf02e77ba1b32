"""The process inside: a user and a network namespace of its own, with the tun device in them.

Started by `adapter_namespace` with a Unix socket, over which it hands out the tun descriptor and
then serves requests, one JSON object a message:

    connect   host, port, timeout_s    →  a connected socket, or the kind of failure
    run       command                  →  its exit status
    apply     settings as at the start →  done

It ends when the socket is closed, and with it everything that runs inside.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from anyvpn.errors import TunUnavailable
from anyvpn.tun.descriptor import open_descriptor

# From Linux
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1
_NO_DUPLICATE_ADDRESS_DETECTION = 0x02

# Ours
LARGEST_MESSAGE_BYTES = 128 * 1024
MOST_AT_ONCE = 256
_DEVICE = "vpn0"
_AS_BEFORE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("env", "--default-signal=INT,HUP,QUIT"),
)
"""A command ends with us, and gets the signals that we ignore; exit status 127: no such command."""
_END_TIME_S = 3.0
_LONGEST_SUPER_PACKET_BYTES = 60_000

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Set everything up, then serve until the socket is closed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal's signals are for what runs inside
    channel = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(channel.recv(LARGEST_MESSAGE_BYTES))
    try:
        enter_namespaces()
        opened = open_descriptor(_DEVICE, settings["offloads"])
        configure(settings, None)
        mount_resolver_files(settings)
    except (TunUnavailable, OSError) as error:
        channel.send(json.dumps({"error": str(error)}).encode())
        return
    message = json.dumps({"ready": opened.name}).encode()
    socket.send_fds(channel, [message], [opened.descriptor])
    os.close(opened.descriptor)
    Server(channel, settings).serve()


def enter_namespaces() -> None:
    """Become the owner of a network of our own. Raises: TunUnavailable: who forbids it."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS):
        raise TunUnavailable(_why_no_namespace(ctypes.get_errno()))
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        raise TunUnavailable(
            f"a user namespace cannot be set up: {error.strerror}; see "
            "kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces"
        ) from error
    if _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise TunUnavailable(f"mounts cannot be made private: {os.strerror(ctypes.get_errno())}")


def _why_no_namespace(code: int) -> str:
    reasons = []
    for path, wrong, help_text in (
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
    ):
        with suppress(OSError):
            if Path(path).read_text().strip() == wrong:
                reasons.append(help_text)
    advice = "; ".join(reasons) or "inside a container, allow it user namespaces"
    return f"this system forbids user namespaces ({os.strerror(code)}): {advice}"


def configure(settings: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Addresses, MTU and the ways of everything through the tunnel. Raises: TunUnavailable."""
    addresses = [ip_interface(each) for each in settings["addresses"]]
    try:
        with IPRoute() as netlink:
            [loopback] = netlink.link_lookup(ifname="lo")
            netlink.link("set", index=loopback, state="up")
            [index] = netlink.link_lookup(ifname=_DEVICE)
            netlink.link("set", index=index, mtu=settings["mtu_bytes"], state="up")
            if before is None:
                with suppress(NetlinkError):  # an older kernel has its own bound
                    netlink.link("set", index=index, gso_max_size=_LONGEST_SUPER_PACKET_BYTES)
            elif before["addresses"] != settings["addresses"]:
                netlink.flush_addr(index=index)
            for address in addresses:
                flags: dict[str, Any] = {}
                if address.version == 6:
                    flags["IFA_FLAGS"] = _NO_DUPLICATE_ADDRESS_DETECTION
                place = {"index": index, "prefixlen": address.max_prefixlen}
                netlink.addr("replace", address=str(address.ip), **place, **flags)
                everything = "0.0.0.0/0" if address.version == 4 else "::/0"
                netlink.route("replace", dst=everything, oif=index)
    except NetlinkError as error:
        raise TunUnavailable(f"the device inside cannot be set up: {error}") from error


def mount_resolver_files(settings: Mapping[str, Any]) -> None:
    """Let what runs inside ask the tunnel's resolvers, and no daemon of the host's."""
    lines = [f"nameserver {each}" for each in settings["dns"]]
    if settings["search"]:
        lines.insert(0, "search " + " ".join(settings["search"]))
    _mount_text(Path("/etc/resolv.conf"), "\n".join([*lines, ""]))
    switch = Path("/etc/nsswitch.conf")
    with suppress(OSError):
        kept = [
            line
            for line in switch.read_text().splitlines()
            if line.split(":")[0].strip() != "hosts"
        ]
        _mount_text(switch, "\n".join([*kept, "hosts: files dns", ""]))
    for daemon in (Path("/run/nscd"), Path("/run/systemd/resolve")):
        if daemon.is_dir() and not _is_below(Path("/etc/resolv.conf"), daemon):
            _libc.mount(b"none", bytes(daemon), b"tmpfs", 0, b"size=4k")


def _is_below(path: Path, directory: Path) -> bool:
    return directory in path.resolve().parents


def _mount_text(path: Path, text: str) -> None:
    """Lay a file of our own over one that is there."""
    if not path.exists():
        return
    descriptor, name = tempfile.mkstemp(prefix="anyvpn-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        if _libc.mount(name.encode(), bytes(path.resolve()), None, _MS_BIND, None):
            raise TunUnavailable(f"{path}: {os.strerror(ctypes.get_errno())}")
    finally:
        Path(name).unlink()  # the mount keeps it


class Server:
    """Serves requests, each in a thread of its own, up to a bound."""

    def __init__(self, channel: socket.socket, settings: Mapping[str, Any]) -> None:
        self._channel = channel
        self._settings = settings
        self._room = threading.Semaphore(MOST_AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()

    def serve(self) -> None:
        """Until the other side is gone; then what runs inside is ended."""
        works: dict[str, Callable[[dict[str, Any]], tuple[dict[str, Any], socket.socket | None]]]
        works = {"connect": self._connect, "run": self._run, "apply": self._apply}
        with suppress(OSError):
            while message := self._channel.recv(LARGEST_MESSAGE_BYTES):
                request = json.loads(message)
                self._room.acquire()
                work = works[request["do"]]
                threading.Thread(target=self._serve, args=(work, request), daemon=True).start()
        self._end_all()

    def _serve(
        self,
        work: Callable[[dict[str, Any]], tuple[dict[str, Any], socket.socket | None]],
        request: dict[str, Any],
    ) -> None:
        try:
            try:
                answer, connected = work(request)
            except (OSError, TunUnavailable) as error:
                answer, connected = _failure(error), None
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
    def _connect(request: dict[str, Any]) -> tuple[dict[str, Any], socket.socket | None]:
        connected = socket.create_connection(
            (request["host"], request["port"]), timeout=request["timeout_s"]
        )
        connected.setblocking(False)
        return {"family": connected.family}, connected

    def _run(self, request: dict[str, Any]) -> tuple[dict[str, Any], socket.socket | None]:
        process = subprocess.Popen([*_AS_BEFORE, *request["command"]])  # noqa: S603 - the user's
        self._running.add(process)
        try:
            status = process.wait()
        finally:
            self._running.discard(process)
        return {"status": 128 - status if status < 0 else status}, None

    def _apply(self, request: dict[str, Any]) -> tuple[dict[str, Any], socket.socket | None]:
        settings, before = request["settings"], self._settings
        self._settings = settings
        configure(settings, before)
        if (settings["dns"], settings["search"]) != (before["dns"], before["search"]):
            mount_resolver_files(settings)
        return {}, None

    def _end_all(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            for process in tuple(self._running):
                with suppress(ProcessLookupError):
                    process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_END_TIME_S)


def _failure(error: Exception) -> dict[str, Any]:
    match error:
        case socket.gaierror():
            kind = "no such host"
        case TimeoutError():
            kind = "timed out"
        case ConnectionRefusedError():
            kind = "refused"
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            kind = "unreachable"
        case _:
            kind = "failed"
    return {"failure": kind, "why": str(error)}


if __name__ == "__main__":
    main()
