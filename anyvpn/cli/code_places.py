"""Where the devices of one-time codes are kept: the file or the Redis that a command means."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from anyvpn.backends.one_time_code_authenticator import CodeSettings, open_store
from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_code_store import CodeStore
from anyvpn.backends.one_time_codes import Kind
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.tap.config import read_section

Work = Callable[[CodeStore], Coroutine[Any, Any, None]]

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")


@dataclass(frozen=True, slots=True)
class CodePlace:
    """What an authenticator says of it, and of new devices."""

    settings: CodeSettings
    period_s: int = 30


def find_place(
    kind: Kind | None, configuration: Path | None, file: Path | None, authenticator: str | None
) -> CodePlace:
    """Where the codes of this kind are kept. Raises: ConfigurationError: nowhere, or ambiguous."""
    if file is not None:
        if configuration is not None or authenticator is not None:
            raise ConfigurationError("--file says it all: leave --config and --authenticator out")
        return CodePlace(CodeSettings(file=file))
    configuration = configuration or DEFAULT_CONFIGURATION
    found = {
        str(path[-1]): chosen.settings
        for path, chosen in read_section(configuration, "authenticators").items()
        if isinstance(chosen.settings, CodeSettings) and kind in (None, chosen.backend.name)
    }
    what = kind or "totp or hotp"
    if authenticator is None and len(found) > 1:
        raise ConfigurationError(
            f"{configuration}: several authenticators are {what}: choose one of "
            f"{', '.join(found)} by --authenticator"
        )
    settings = found.get(authenticator or next(iter(found), ""))
    if settings is None:
        which = f'"{authenticator}" that is {what}' if authenticator else f"that is {what}"
        raise ConfigurationError(f"{configuration}: no authenticator {which}")
    return CodePlace(settings, getattr(settings, "period_s", 30))


def do_at(place: CodePlace, work: Work) -> None:
    """Work with the store of a place; a file needs no reactor.

    Raises: ConfigurationError: the store cannot be used, or what the work raises.
    """
    settings = place.settings
    try:
        if settings.file is not None:
            _do_at_once(work(CodeFile(settings.file)))
        else:
            _do_with_reactor(settings, work)
    except BackendFailed as error:
        raise ConfigurationError(str(error)) from None


def _do_at_once(working: Coroutine[Any, Any, None]) -> None:
    with suppress(StopIteration):
        working.send(None)
        raise AssertionError("a file waits for nothing")


def _do_with_reactor(settings: CodeSettings, work: Work) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    outcome: list[Failure | None] = []

    async def go() -> None:
        await work(open_store(settings, reactor))

    def begin() -> None:
        working = Deferred.fromCoroutine(go())
        working.addBoth(outcome.append)
        working.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    # without its handlers, who is asked for a code can interrupt that, as everywhere
    reactor.run(installSignalHandlers=False)  # type: ignore[call-arg]  # every reactor takes it
    [failure] = outcome
    if failure is not None:
        failure.raiseException()
