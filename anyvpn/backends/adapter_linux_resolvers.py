"""Lets the host ask the tunnel's resolvers: by systemd-resolved where it runs, else resolv.conf.

Source: resolvectl(1), resolv.conf(5).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from anyvpn.errors import TunUnavailable
from anyvpn.model.tunnel_settings import TunnelSettings

log = Logger()

_DOMAIN = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")

# Ours
RESOLVED_DIRECTORY = Path("/run/systemd/resolve")
MARK = "# Written by anyvpn for"
_COMMAND_TIME_S = 10.0
_MOST_SERVERS = 3  # as many as the C library asks
_MOST_DOMAINS = 6


class Resolvers:
    """The resolvers of one tunnel. Blocking: run it in a thread.

    resolv.conf knows no split DNS: there, all names are asked of the tunnel's resolvers.
    """

    def __init__(self, device: str, resolv_conf: Path) -> None:
        self._device = device
        self._path = resolv_conf
        self._applied: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self.uses_resolved = RESOLVED_DIRECTORY.is_dir() and bool(shutil.which("resolvectl"))

    def apply(self, granted: TunnelSettings) -> None:
        """Ask these from now on; nothing changes when the gateway names none.

        Raises: TunUnavailable.
        """
        servers = tuple(str(each) for each in granted.dns)
        search = tuple(each for each in granted.default_domain.split() if is_domain(each))
        split = tuple(each for each in granted.split_dns if is_domain(each))
        routed = tuple(f"~{each}" for each in split if each not in search)  # which are both
        wanted = (servers, (*search, *routed))
        if wanted == self._applied or (not servers and self._applied is None):
            return
        if self.uses_resolved:
            everything = () if split else ("~.",)
            self._resolvectl("dns", self._device, *servers)
            self._resolvectl("domain", self._device, *wanted[1], *everything)
        else:
            self._write(servers, search)
        self._applied = wanted

    def undo(self) -> None:
        """As it was before."""
        if self._applied is None:
            return
        self._applied = None
        if not self.uses_resolved:  # resolved forgets a device by itself
            restore(self._path)

    def _resolvectl(self, *arguments: str) -> None:
        try:
            subprocess.run(  # noqa: S603 - no shell, and addresses and names alone
                ["/usr/bin/env", "resolvectl", *arguments],
                check=True,
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIME_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            why = getattr(error, "stderr", "") or str(error)
            raise TunUnavailable(f"systemd-resolved does not take the resolvers: {why}") from error

    def _write(self, servers: tuple[str, ...], search: tuple[str, ...]) -> None:
        lines = [f"{MARK} {self._device}; the file before is in {backup_of(self._path).name}"]
        if search:
            lines.append("search " + " ".join(search[:_MOST_DOMAINS]))
        lines += [f"nameserver {each}" for each in servers[:_MOST_SERVERS]]
        try:
            backup = backup_of(self._path)
            before = self._path.read_bytes() if self._path.exists() else b""
            if not before.startswith(MARK.encode()):
                _replace(backup, before)
            _replace(self._path, "\n".join([*lines, ""]).encode())
        except OSError as error:
            raise TunUnavailable(f"{error.filename}: {error.strerror}") from error


def backup_of(path: Path) -> Path:
    """Where the file before is kept."""
    real = path.resolve()
    return real.with_name(f"{real.name}.anyvpn-before")


def restore(path: Path) -> bool:
    """Put the file before back, if the one there is ours; gives whether it was."""
    backup = backup_of(path)
    try:
        if not backup.exists() or not path.read_bytes().startswith(MARK.encode()):
            return False
        _replace(path, backup.read_bytes())
        backup.unlink()
    except OSError as error:
        log.warn("{path} stays as it is: {why}", path=str(path), why=error.strerror)
        return False
    return True


def is_domain(text: str) -> bool:
    """Whether this can be a domain, and nothing else."""
    return len(text) <= 253 and _DOMAIN.fullmatch(text.rstrip(".")) is not None


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole; in place where it cannot be renamed over, as a bind mount."""
    real = path.resolve()
    draft = real.with_name(f".{real.name}.anyvpn-{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.chmod(0o644)
        draft.replace(real)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        real.write_bytes(content)
