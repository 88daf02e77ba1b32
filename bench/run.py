"""`make bench`: everybody in turn, A B A B, row by row; prints a table and writes JSON.

Needs root, for network namespaces. Only figures of one run can be compared with each other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from anyvpn.packets.engines import EngineChoice
from anyvpn.testing.programs import UnmetExpectation
from bench import profiler
from bench.contest import (
    GATEWAY_MEASURES,
    TUNNEL_MEASURES,
    Peer,
    TunnelMeasure,
    contestants,
)
from bench.machine import machine, versions
from bench.measures.timing import QUICK, Timing
from bench.peers.anyconnect import AnyConnectPeer
from bench.report import show, target_text
from bench.results import Results
from bench.rows import COMPILED, COMPILED_OWN, PYTHON, ROWS, TITLES
from bench.topology import Topology
from bench.tunnel import Channel, OpenTunnel

NEEDED = {
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "nsenter": "util-linux",
    "ocserv": "ocserv",
    "openconnect": "openconnect",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
LAST_RESULT = Path(__file__).with_name("results") / "last.json"
WIDTH = 160
PROFILED = (PYTHON, COMPILED, COMPILED_OWN)
PACKET_PROFILERS: dict[EngineChoice, profiler.Profiler] = {"python": "py-spy", "compiled": "perf"}
LOGIN_PROFILER: profiler.Profiler = "py-spy"
QUICK_ROWS = ("dtls.down.1.*",)

progress = Console(stderr=True, highlight=False)


class Run:
    """One run of all that is wanted; `results` grow with it."""

    def __init__(self, options: argparse.Namespace, timing: Timing) -> None:
        patterns = options.rows or (QUICK_ROWS if options.quick else ("*",))
        self._wanted = frozenset(
            row.key for row in ROWS if any(fnmatchcase(row.key, each) for each in patterns)
        )
        self._subjects = options.subjects
        self._timing = timing
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self.results = Results(date, machine(), versions())

    def everything(self, topology: Topology, directory: Path) -> None:
        """Raises: UnmetExpectation: something did not go as a measure needs it."""
        there = contestants(topology, directory)
        for name, why in there.missing.items():
            if name in self._subjects:
                self.results.skipped[TITLES[name]] = why
        chosen = {name: peer for name, peer in there.peers.items() if name in self._subjects}
        for number in range(1, self._timing.repeats + 1):
            for name, peer in chosen.items():
                self._say(f"round {number} of {self._timing.repeats}: {TITLES[name]}")
                self._measure(topology, name, peer, is_first=number == 1)
        for name, peer in chosen.items():
            if isinstance(peer, AnyConnectPeer) and name in PROFILED:
                self._profile(topology, name, peer)

    def _measure(self, topology: Topology, subject: str, peer: Peer, *, is_first: bool) -> None:
        """One subject's turn."""
        for channel in peer.channels:
            measures = [
                each
                for each in TUNNEL_MEASURES
                if each.channel is channel and self._is_wanted(each.key)
            ]
            if measures:
                with _running(peer), _tunnel(peer, channel) as tunnel:
                    described = f"{tunnel.cipher}, MTU {tunnel.mtu_bytes}"
                    self.results.tunnels[f"{TITLES[subject]}, {channel.value}"] = described
                    for measure in measures:
                        figures = measure.run(topology, tunnel, self._timing)
                        self._add(measure.key, subject, figures)
        for each in GATEWAY_MEASURES:
            is_due = is_first or not each.once
            if is_due and subject in each.subjects and self._is_wanted(each.key):
                assert isinstance(peer, AnyConnectPeer)
                with _running(peer):
                    for figures in each.run(topology, peer, self._timing):
                        self._add(each.key, subject, figures)

    def _profile(self, topology: Topology, subject: str, peer: AnyConnectPeer) -> None:
        """Look where the time goes in tunnels that have missed a target, and in logins."""
        timing = self._timing
        for measure in TUNNEL_MEASURES:
            missed = self.results.missed(measure.key, subject)
            if missed:
                tool = PACKET_PROFILERS[peer.gateway.engine]
                busy_tunnel = partial(_busy_tunnel, topology, peer, measure, timing)
                self._look(subject, missed[0], peer, tool, busy_tunnel)
        for of_gateway in GATEWAY_MEASURES:
            row = f"{of_gateway.key}.cpu"
            if of_gateway.meanwhile is None or subject not in of_gateway.subjects:
                continue
            if row in self._wanted:
                logins = partial(of_gateway.meanwhile, topology, peer.gateway, timing)
                self._look(subject, row, peer, LOGIN_PROFILER, logins)

    def _look(
        self,
        subject: str,
        row: str,
        peer: AnyConnectPeer,
        tool: profiler.Profiler,
        meanwhile: Callable[[], AbstractContextManager[object]],
    ) -> None:
        why_not = profiler.why_not(tool)
        if why_not:
            self.results.skipped[f"profiles of {TITLES[subject]} by {tool}"] = why_not
            return
        self._say(f"profile of {TITLES[subject]}: {row}")
        with _running(peer), meanwhile():
            pid = peer.gateway.processes.pid
            profile = profiler.record(tool, pid, self._timing.time_s)
        self.results.profiles.setdefault(row, {})[subject] = profile

    def _is_wanted(self, key: str) -> bool:
        return any(row.startswith(f"{key}.") for row in self._wanted)

    def _add(self, key: str, subject: str, figures: dict[str, float]) -> None:
        for name, figure in figures.items():
            row = f"{key}.{name}"
            if row in self._wanted:
                self.results.add(row, subject, figure)
        self._say(f"  {key}: " + ", ".join(f"{name} {it:.3g}" for name, it in figures.items()))

    @staticmethod
    def _say(text: str) -> None:
        progress.print(text)


@contextmanager
def _running(peer: Peer) -> Iterator[None]:
    peer.start()
    try:
        yield
    finally:
        peer.stop()


@contextmanager
def _tunnel(peer: Peer, channel: Channel) -> Iterator[OpenTunnel]:
    tunnel = peer.connect(channel)
    try:
        yield tunnel
    finally:
        tunnel.close()


@contextmanager
def _busy_tunnel(
    topology: Topology, peer: Peer, measure: TunnelMeasure, timing: Timing
) -> Iterator[None]:
    with _tunnel(peer, measure.channel) as tunnel, measure.meanwhile(topology, tunnel, timing):
        yield


def give_up(why: str) -> NoReturn:
    """One line, and exit status 1."""
    print(f"make bench: {why}", file=sys.stderr)
    raise SystemExit(1)


def check_system() -> None:
    """Everything that no run can do without must be there."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packages = {package for name, package in NEEDED.items() if not shutil.which(name)}
    if packages:
        give_up(f"please install: {' '.join(sorted(packages))}")
    if os.geteuid() != 0:
        give_up("network namespaces need root")


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for; ends the program when that cannot be."""
    parser = argparse.ArgumentParser("make bench", usage='make bench ARGS="[OPTION]..."')
    parser.add_argument(
        "--rows", action="append", metavar="PATTERN", help="such as 'dtls.*'; several times"
    )
    parser.add_argument(
        "--subjects",
        type=lambda text: text.split(","),
        default=list(TITLES),
        metavar="NAME,...",
        help=f"of {', '.join(TITLES)}",
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds; each has everybody once")
    parser.add_argument("--time", type=int, metavar="S", help="seconds of steady state")
    parser.add_argument("--quick", action="store_true", help="one short round, to see it work")
    parser.add_argument("--json", type=Path, metavar="FILE", default=LAST_RESULT)
    parser.add_argument("--list", action="store_true", help="show the rows' names and targets")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.subjects) - set(TITLES))
    if unknown:
        parser.error(f"nobody is called {unknown[0]!r}; there are {', '.join(TITLES)}")
    for pattern in options.rows or ():
        if not any(fnmatchcase(row.key, pattern) for row in ROWS):
            parser.error(f"no row fits {pattern!r}; --list shows them")
    if min(options.repeats or 1, options.time or 1) < 1:
        parser.error("--repeats and --time begin at 1")
    return options


class _Report(Console):
    """Leaves it to its user when nobody reads any more, instead of ending the program."""

    def on_broken_pipe(self) -> None:
        """Called within the handling of that error."""
        raise BrokenPipeError


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    """Print what `head` and others have no more use for to nowhere."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def list_rows() -> None:
    """The names for --rows, and what is wanted of whom."""
    with _readers_may_leave():
        for row in ROWS:
            wanted = (f"{each.subject} {target_text(row, each)}" for each in row.targets)
            print(f"{row.key:28} {'; '.join((row.measured, *wanted))}")


def print_results(results: Results, written_to: Path) -> None:
    """The table, and where it stands as JSON."""
    console = _Report(highlight=False)
    # In a file or a pipe nobody wants cells of six characters
    with _readers_may_leave():
        show(results, console if console.is_terminal else _Report(highlight=False, width=WIDTH))
        print(f"\nWritten to {written_to}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Give 0 when everything was measured, whether targets are met or not."""
    options = read_options(sys.argv[1:])
    if options.list:
        list_rows()
        return 0
    check_system()
    timing = QUICK if options.quick else Timing()
    timing = replace(
        timing,
        repeats=options.repeats or timing.repeats,
        time_s=options.time or timing.time_s,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    run = Run(options, timing)
    status = 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anyvpn-bench-")))
        try:
            topology = Topology()
            stack.callback(topology.close)
            run.everything(topology, directory)
        except UnmetExpectation as problem:
            print(f"make bench: {problem}", file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            progress.print("\nCleaning up.")
            status = 1
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    run.results.write(options.json)
    print_results(run.results, options.json)
    return status


if __name__ == "__main__":
    sys.exit(main())
