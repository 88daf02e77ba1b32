"""The files that name resolvers, as they are seen inside."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyvpn.errors import TunUnavailable

# From Linux
_MS_BIND = 4096

# Ours
LOOK_EVERY_S = 1.0
_RESOLV_CONF, _NSSWITCH_CONF = Path("/etc/resolv.conf"), Path("/etc/nsswitch.conf")
_DAEMONS = (Path("/run/nscd"), Path("/run/systemd/resolve"))
"""Where programs meet resolvers of the host; inside, these places are empty."""

_libc = ctypes.CDLL(None, use_errno=True)


class ResolverFiles:
    """Lets what runs inside ask the tunnel's resolvers, and no daemon of the host's.

    Raises: TunUnavailable: there is no place for them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings["dns"] and not _RESOLV_CONF.exists():
            raise TunUnavailable(
                f"there is no {_RESOLV_CONF} that the tunnel's resolvers could be laid over: "
                "make an empty one"
            )
        self._resolv_conf = _OverlaidFile(_RESOLV_CONF, _resolvers(settings))
        self._nsswitch_conf = _OverlaidFile(_NSSWITCH_CONF, _switch())
        for daemon in _DAEMONS:
            if daemon.is_dir() and daemon not in _RESOLV_CONF.resolve().parents:
                _libc.mount(b"none", bytes(daemon), b"tmpfs", 0, b"size=4k")

    def change(self, settings: Mapping[str, Any]) -> None:
        """Name other resolvers."""
        self._resolv_conf.write(_resolvers(settings))

    def keep(self) -> None:
        """For ever: lay them over again when the host has replaced its own, which ends a mount."""
        while True:
            time.sleep(LOOK_EVERY_S)
            for each in (self._resolv_conf, self._nsswitch_conf):
                with suppress(OSError, TunUnavailable):  # the next look may find it there
                    each.lay_over()


class _OverlaidFile:
    """A file of our own that is seen instead of the one that is there, if one is."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._descriptor, name = tempfile.mkstemp(prefix="anyvpn-")
        os.fchmod(self._descriptor, 0o644)
        self.write(text)
        try:
            self._mount(Path(name))
        finally:
            # What is mounted stays; what comes later is found by the descriptor
            Path(name).unlink()

    def write(self, text: str) -> None:
        """Replace the content; through the descriptor, so that it is never the host's file."""
        content = text.encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def lay_over(self) -> None:
        """Be seen, unless it is so already. Raises: TunUnavailable, OSError."""
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        if not self._path.exists() or os.path.samestat(
            os.fstat(self._descriptor), self._path.stat()
        ):
            return
        renewed = _OverlaidFile(self._path, content.decode())
        os.dup2(renewed._descriptor, self._descriptor, inheritable=False)
        os.close(renewed._descriptor)

    def _mount(self, own: Path) -> None:
        if not self._path.exists():
            return
        if _libc.mount(bytes(own), bytes(self._path.resolve()), None, _MS_BIND, None):
            raise TunUnavailable(f"{self._path} inside: {os.strerror(ctypes.get_errno())}")


def _resolvers(settings: Mapping[str, Any]) -> str:
    lines = [f"nameserver {each}" for each in settings["dns"]]
    if settings["search"]:
        lines.insert(0, "search " + " ".join(settings["search"]))
    return "\n".join([*lines, ""])


def _switch() -> str:
    """The host's switch, but with host names from files and DNS alone."""
    kept: list[str] = []
    with suppress(FileNotFoundError):
        for line in _NSSWITCH_CONF.read_text().splitlines():
            if line.partition(":")[0].strip() != "hosts":
                kept.append(line)
    return "\n".join([*kept, "hosts: files dns", ""])
