"""Who answers the steps of a login, as the options of the command line say."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyvpn.backends import (
    responder_browser,
    responder_command,
    responder_given,
    responder_keyring,
    responder_terminal,
    responder_totp,
)
from anyvpn.cli.connect_options import Options
from anyvpn.client.responders import ResponderChain
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IResponder
from anyvpn.wire.authentication_client import GROUP_FIELD

_DESKTOPS = ("DISPLAY", "WAYLAND_DISPLAY")


def make_responder(options: Options, reactor: Any, show: Callable[[str], None]) -> IResponder:
    """What is given ahead, then programs and keyrings, then the browser, then the terminal.

    `show` takes a line for the user. Raises: ConfigurationError.
    """
    responders: list[IResponder] = [responder_given.build(_given(options), reactor)]
    if options["keyring"]:
        if not options["user"]:
            raise ConfigurationError("--keyring needs the --user whose password it keeps")
        keyring = _settings(
            "--keyring",
            responder_keyring.Settings,
            service=options["keyring"],
            username=options["user"],
        )
        responders.append(responder_keyring.build(keyring, reactor))
    if bool(options["token_mode"]) != bool(options["token_secret"]):
        raise ConfigurationError("--token-mode totp and --token-secret go together")
    if options["token_mode"]:
        totp = _settings("--token-secret", responder_totp.Settings, **_secret(options))
        responders.append(responder_totp.build(totp, reactor))
    if options["password_command"]:
        command = _words("--password-command", options["password_command"])
        settings = _settings("--password-command", responder_command.Settings, command=command)
        responders.append(responder_command.build(settings, reactor))
    has_desktop = not options["non_inter"] and any(os.environ.get(each) for each in _DESKTOPS)
    if options["external_browser"] or has_desktop:
        command = _words("--external-browser", options["external_browser"] or "")
        browser = _settings("--external-browser", responder_browser.Settings, command=command)
        responders.append(
            responder_browser.BrowserResponder(
                browser,
                reactor,
                lambda page: show(f"-  Log in with a browser of this host: {page}"),
            )
        )
    if not options["non_inter"]:
        responders.append(responder_terminal.build(responder_terminal.Settings(), reactor))
    return ResponderChain(responders)


def _given(options: Options) -> responder_given.Settings:
    answers: dict[str, str] = {}
    for entry in options["form_entry"]:
        field, equals, text = entry.partition("=")
        if not equals or not field:
            raise ConfigurationError(f"--form-entry {entry!r} is not FIELD=TEXT")
        answers[field.rpartition(":")[2]] = text
    if options["authgroup"]:
        answers.setdefault(GROUP_FIELD, options["authgroup"])
    password = ""
    if options["passwd_on_stdin"]:
        password = sys.stdin.readline().rstrip("\r\n")
    return responder_given.Settings(
        username=options["user"] or "",
        password=password,
        password_file=options["password_file"],
        answers=answers,
    )


def _secret(options: Options) -> dict[str, Any]:
    secret = options["token_secret"] or ""
    if secret.startswith("@"):
        return {"secret_file": Path(secret[1:])}
    return {"secret": secret}


def _words(option: str, command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _settings(option: str, kind: Callable[..., Any], **values: Any) -> Any:
    """The settings of a backend, whose complaint names the option."""
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None
