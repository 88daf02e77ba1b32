"""Runs the operator's script when a session starts and ends, with ocserv's variable names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import (
    IProcessTransport,
    IReactorCore,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.backends.accounting import END_TIME_S, Lanes, SessionFacts, session_facts
from anyvpn.backends.process_group import kill_group
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.printable import printable

log = Logger()

# From ocserv: the reasons that its scripts are told
_REASONS = {EventKind.SESSION_STARTED: "connect", EventKind.SESSION_ENDED: "disconnect"}

# Ours
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_OUTPUT_BYTES = 4096
OUTPUT_TIME_S = 0.5
"""How long the output of a script that has ended may be held open by what it has started."""


@attrs.frozen
class Settings:
    """Which scripts, and what they may cost."""

    connect_script: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "Run when a session starts.",
            "example": "/etc/anyvpn/connect",
        },
    )
    disconnect_script: Path | None = attrs.field(
        default=None,
        metadata={"help": "Run when a session ends.", "example": "/etc/anyvpn/disconnect"},
    )
    device: str = attrs.field(
        default="anyvpn0", metadata={"help": "What the scripts are told as DEVICE."}
    )
    time_s: float = attrs.field(
        default=30.0, metadata={"help": "How long a script may run, in seconds; then it is killed."}
    )
    max_parallel: int = attrs.field(
        default=8, metadata={"help": "How many scripts run at a time; others wait."}
    )

    def __attrs_post_init__(self) -> None:
        if self.connect_script is None and self.disconnect_script is None:
            raise ValueError("connect_script or disconnect_script must be set")
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")
        if not 1 <= self.max_parallel <= 256:
            raise ValueError("max_parallel must lie between 1 and 256")


class _Reactor(IReactorCore, IReactorProcess, IReactorTime):
    """What the listener needs of a reactor."""


def build(settings: Settings, reactor: _Reactor) -> ScriptListener:
    """What the configuration `backend = "script"` makes. Raises: ConfigurationError."""
    problems = [
        f"{key}: {path} is no file that can be run"
        for key in ("connect_script", "disconnect_script")
        if (path := getattr(settings, key)) is not None and not os.access(path, os.X_OK)
    ]
    if problems:
        raise ConfigurationError(*problems)
    return ScriptListener(settings, reactor)


@implementer(IEventListener)
class ScriptListener:
    """Scripts of one session run one after the other, those of several side by side."""

    def __init__(self, settings: Settings, reactor: _Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self._lanes = Lanes("the scripts", self._run, count=settings.max_parallel)
        reactor.addSystemEventTrigger("during", "shutdown", self.close)

    def event_happened(self, event: Event) -> None:
        """Run the script for it soon, if there is one."""
        facts = session_facts(event)
        if facts is not None and self._script(facts.kind) is not None:
            self._lanes.put(facts.record.accounting_id, facts)

    def close(self) -> Deferred[None]:
        """Let those that run end, for some time."""
        done = self._lanes.finished()
        done.addTimeout(END_TIME_S, self._reactor)
        done.addErrback(lambda _: log.warn("Scripts of sessions that end did not all run"))
        return done

    def _script(self, kind: EventKind) -> Path | None:
        own = self._settings
        scripts = {
            EventKind.SESSION_STARTED: own.connect_script,
            EventKind.SESSION_ENDED: own.disconnect_script,
        }
        return scripts.get(kind)

    async def _run(self, facts: SessionFacts) -> None:
        script = self._script(facts.kind)
        assert script is not None  # or nobody would have put it there
        process = _Script()
        environment = environment_of(facts, self._settings.device)
        command = ["setsid", str(script)]  # a group of its own, to be killed as one
        try:
            self._reactor.spawnProcess(
                process, command[0], command, env=environment, path=str(script.parent)
            )
        except OSError as error:
            log.error("{script} cannot be run: {why}", script=str(script), why=error.strerror)
            return
        try:
            problem = await process.ended.addTimeout(self._settings.time_s, self._reactor)
        except NotInTime:
            problem = f"ran for more than {self._settings.time_s:g} s and was killed"
        with suppress(NotInTime):
            await process.output_ended.addTimeout(OUTPUT_TIME_S, self._reactor)
        user = facts.record.identity.user
        said = printable(bytes(process.output).decode("utf-8", "replace"))
        if problem:
            log.warn(
                "{script} for {user} {problem}: {said}",
                script=str(script),
                user=user,
                problem=problem,
                said=said,
            )
        elif said:
            log.info("{script} for {user}: {said}", script=str(script), user=user, said=said)


class _Script(ProcessProtocol):
    """A running script, whose output is kept up to a bound."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.output = bytearray()
        self.ended: Deferred[str] = Deferred(lambda _: kill_group(self._process))
        self.output_ended: Deferred[None] = Deferred(lambda _: self.transport.loseConnection())
        self._process = 0

    def connectionMade(self) -> None:
        """It runs; nobody has anything to say to it."""
        assert self.transport.pid is not None
        self._process = self.transport.pid
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """It has printed something."""
        self.output += data[: MOST_OUTPUT_BYTES - len(self.output)]

    errReceived = outReceived

    def processExited(self, reason: Failure) -> None:
        """It is over; what it has started may go on, and hold its output open."""
        if self.ended.called:
            return
        if isinstance(reason.value, ProcessDone):
            self.ended.callback("")
        else:
            status = getattr(reason.value, "exitCode", None)
            number = getattr(reason.value, "signal", None)
            how = f"status {status}" if number is None else f"signal {number}"
            self.ended.callback(f"ended with {how}")

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted gives it
        """Nothing more is said."""
        if not self.output_ended.called:
            self.output_ended.callback(None)


def environment_of(facts: SessionFacts, device: str) -> Mapping[str, str]:
    """What a script is told; names are ocserv's, texts of clients are made printable."""
    record, policy = facts.record, facts.record.policy
    environment = {
        "PATH": PATH,
        "REASON": _REASONS[facts.kind],
        "ID": str(record.session_id),
        "USERNAME": record.identity.user,
        "GROUPNAME": ",".join(sorted(record.identity.groups)),
        "DEVICE": device,
        "IP_REAL": record.peer_address,
        "HOSTNAME": record.hostname,
        "REMOTE_HOSTNAME": record.hostname,
        "USER_AGENT": record.user_agent,
        "VHOST": record.profile,
        **_addresses(facts),
        **_networks(policy),
    }
    if facts.kind is EventKind.SESSION_ENDED:
        environment |= {
            "STATS_BYTES_IN": str(record.counters.received_bytes),
            "STATS_BYTES_OUT": str(record.counters.sent_bytes),
            "STATS_DURATION": f"{facts.duration_s:.0f}",
        }
    return {key: printable(value) for key, value in environment.items() if value}


def _addresses(facts: SessionFacts) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in facts.addresses:
        address = ip_address(text)
        if address.version == 4:
            found["IP_REMOTE"] = text
        else:
            found |= {"IPV6_REMOTE": text, "IPV6_PREFIX": "128"}
    return found


def _networks(policy: GroupPolicy) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, values in (
        ("OCSERV_ROUTES", policy.split_include),
        ("OCSERV_NO_ROUTES", policy.split_exclude),
        ("OCSERV_DNS", policy.dns),
    ):
        found[name] = " ".join(map(str, values))
        for version in (4, 6):
            of_version = (str(each) for each in values if each.version == version)
            found[f"{name}{version}"] = " ".join(of_version)
    return found
