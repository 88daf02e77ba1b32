"""What a client has changed on its host, on disk, so that it can be undone after a crash.

One file for each client process, named for its device; it says who wrote it, so that nothing of
a client that lives is undone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

from twisted.logger import Logger

from anyvpn.backends.adapter_linux_network import delete_leftovers
from anyvpn.backends.adapter_linux_plan import Network
from anyvpn.backends.adapter_linux_resolvers import restore
from anyvpn.errors import TunUnavailable

log = Logger()

DEFAULT_DIRECTORY = Path("/run/anyvpn")


class Journal:
    """Written before each change; raises TunUnavailable where it cannot be."""

    def __init__(self, directory: Path, device: str, resolv_conf: Path) -> None:
        self._path = directory / f"client-{device}.json"
        self._resolv_conf = resolv_conf
        self._routes: tuple[str, ...] = ()
        self._metric = 0

    def write(self, routes: Sequence[Network], metric: int = 0) -> None:
        """These routes are about to be made with this metric, or may have been."""
        self._metric = metric or self._metric
        self._routes = tuple(sorted({str(each) for each in routes} | set(self._routes)))
        note = {
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "routes": self._routes,
            "metric": self._metric,
            "resolv_conf": str(self._resolv_conf),
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps(note))
            draft.chmod(0o600)
            draft.replace(self._path)
        except OSError as error:
            raise TunUnavailable(
                f"{error.filename}: {error.strerror}; set state_directory to a place that can be "
                "written"
            ) from error

    def remove(self) -> None:
        """All is undone."""
        with suppress(OSError):
            self._path.unlink()


def clean_up(directory: Path = DEFAULT_DIRECTORY) -> list[str]:
    """Undo what clients have left that are not alive; gives a line for each thing undone."""
    undone: list[str] = []
    for path in sorted(directory.glob("client-*.json")):
        try:
            note = json.loads(path.read_text())
            pid, started = int(note["pid"]), str(note["started"])
            routes = [ip_network(each) for each in note["routes"]]
            metric = int(note["metric"])
            resolv_conf = Path(note["resolv_conf"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warn("{path} is passed over: {why}", path=str(path), why=error)
            continue
        if _started(pid) == started:
            continue
        delete_leftovers(routes, metric)
        undone += [f"route to {each} deleted" for each in routes]
        if restore(resolv_conf):
            undone.append(f"{resolv_conf} restored")
        with suppress(OSError):
            path.unlink()
    return undone


def _started(pid: int) -> str:
    """When that process was started, in the kernel's ticks; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
