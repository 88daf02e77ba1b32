"""Lets a Python function of the operator's say what an identity may have."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from pathlib import Path
from types import ModuleType

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.errors import AccessDenied, BackendFailed, ConfigurationError
from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity, LoginRequest
from anyvpn.model.group_policy import GroupPolicy, PolicyLayer, merge
from anyvpn.model.packet_filter import FilterRule

log = Logger()

Verdict = GroupPolicy | Mapping[str, object] | None
Function = Callable[[Identity, LoginRequest], Verdict | Awaitable[Verdict]]


@attrs.frozen
class Settings:
    """Which function, in a module that is installed or in a file of its own."""

    module: str = attrs.field(
        default="",
        metadata={"help": "An installed module that has the function.", "example": "our_vpn.rules"},
    )
    file: Path | None = attrs.field(
        default=None, metadata={"help": "Or a file with Python code that has it."}
    )
    function: str = attrs.field(
        default="policy",
        metadata={"help": "The function: takes identity and request, gives a policy or values."},
    )
    time_s: float = attrs.field(
        default=15.0, metadata={"help": "How long it may take when it awaits, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if bool(self.module) == (self.file is not None):
            raise ValueError("either module or file must be set")
        if self.time_s <= 0:
            raise ValueError("time_s must be more than 0")


def build(settings: Settings, reactor: IReactorTime) -> PythonAuthorizer:
    """What the configuration `backend = "python"` makes. Raises: ConfigurationError."""
    module = _import_file(settings.file) if settings.file else _import_module(settings.module)
    function = getattr(module, settings.function, None)
    where = settings.file or settings.module
    if not callable(function):
        raise ConfigurationError(f'function: {where} has no function "{settings.function}"')
    return PythonAuthorizer(function, f"{where}:{settings.function}", settings.time_s, reactor)


@implementer(IAuthorizer)
class PythonAuthorizer:
    """Calls the function on the reactor's thread; it must not block, and may be a coroutine."""

    def __init__(self, function: Function, name: str, time_s: float, reactor: IReactorTime) -> None:
        self._function = function
        self._name = name
        self._time_s = time_s
        self._reactor = reactor

    async def authorize(self, identity: Identity, request: LoginRequest) -> GroupPolicy:
        """The policy that it gives, or that its values make.

        Raises: AccessDenied: it gives None, or raises this itself.
        Raises: BackendFailed: it raises something else, never ends, or gives what is no policy.
        """
        try:
            verdict = self._function(identity, request)
            if isawaitable(verdict):
                waiting: Deferred[Verdict] = Deferred.fromCoroutine(_waited_for(verdict))
                verdict = await waiting.addTimeout(self._time_s, self._reactor)
        except (AccessDenied, BackendFailed, CancelledError):
            raise
        except NotInTime:
            raise BackendFailed(f"{self._name} took more than {self._time_s:g} s") from None
        except Exception as error:  # whatever foreign code raises costs this login alone
            log.failure("{name} raised an error", name=self._name)
            raise BackendFailed(f"{self._name} raised {type(error).__name__}") from None
        return self._policy(identity, verdict)

    def _policy(self, identity: Identity, verdict: Verdict) -> GroupPolicy:
        if verdict is None:
            raise AccessDenied(f"{identity.user} is denied by {self._name}")
        if isinstance(verdict, GroupPolicy):
            return verdict
        if not isinstance(verdict, Mapping):
            raise BackendFailed(f"{self._name} gave {type(verdict).__name__}, which is no policy")
        values = dict(verdict)
        name = str(values.pop("name", self._name))
        try:
            if "filters" in values:
                values["filters"] = _rules(values["filters"])
            return merge(name, [PolicyLayer(self._name, values)])
        except (TypeError, ValueError) as error:
            raise BackendFailed(f"{self._name} gave a policy that cannot be: {error}") from None


async def _waited_for(verdict: Awaitable[Verdict]) -> Verdict:
    return await verdict


def _rules(given: object) -> tuple[FilterRule, ...]:
    """Rules, or texts that stand for them."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError("filters must be a list of rules")
    return tuple(
        each if isinstance(each, FilterRule) else FilterRule.read(str(each)) for each in given
    )


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever foreign code raises while it is imported
        raise ConfigurationError(f"module: {name} cannot be imported: {error!r}") from None


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigurationError(f"file: {file} is no file")
    found = importlib.util.spec_from_file_location(f"anyvpn_policy_{file.stem}", file)
    if found is None or found.loader is None:
        raise ConfigurationError(f'file: {file} must end in ".py"')
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:  # likewise
        raise ConfigurationError(f"file: {file} cannot be imported: {error!r}") from None
    return module
