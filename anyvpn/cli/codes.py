"""`anyvpn user totp` and `hotp`: the devices that make users' one-time codes."""

from __future__ import annotations

import secrets
import time
from base64 import b32decode, b32encode
from binascii import Error as NotBase32
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import click
import qrcode

from anyvpn.backends.one_time_code_authenticator import CodeSettings
from anyvpn.backends.one_time_codes import CodeFile, CodeMaker, Kind
from anyvpn.cli.passwords import at_terminal, read_first_line
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.model.credentials import read_name
from anyvpn.tap.config import read_section

Result = TypeVar("Result")

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")
NEW_SECRET_BYTES = 20  # what RFC 4226 recommends, and every application takes
DEFAULT_ISSUER = "anyvpn"


@dataclass(frozen=True, slots=True)
class CodePlace:
    """The file that is meant, and what new devices in it are like."""

    file: CodeFile
    digits: int = 6
    algorithm: str = "sha1"
    period_s: int = 30


def _device_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--remove", is_flag=True, help="Forget the user's device."),
        click.option("--replace", is_flag=True, help="Put it into the place of another one."),
        click.option(
            "--secret-file",
            metavar="FILE|-",
            help="File whose first line is the device's secret (base32); - reads it from standard "
            "input. Without this option there is a new one.",
        ),
        click.option(
            "--no-check", is_flag=True, help="Do not ask for a code before the device is kept."
        ),
        click.option(
            "--issuer", default=DEFAULT_ISSUER, help="Name of the VPN on the user's phone."
        ),
        click.option(
            "--authenticator",
            metavar="NAME",
            help="Which of the configuration's authenticators; needed if there are several.",
        ),
        click.option("--file", type=click.Path(path_type=Path), help="The file of codes itself."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="The configuration that names the file.  [default: gateway.toml]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@_device_options
def totp(*, name: str, **options: Any) -> None:
    """Give the user NAME a device of time-based codes, such as an application on a phone.

    At a terminal the secret is shown as a picture to take a photo of, and kept when the device
    has shown a right code.
    """
    _keep_device("totp", name, 0, **options)


@click.command()
@click.argument("name")
@click.option("--counter", default=0, help="Number of the next code that the device shows.")
@_device_options
def hotp(*, name: str, counter: int, **options: Any) -> None:
    """Give the user NAME a device of counted codes, such as a token with a button."""
    _keep_device("hotp", name, counter, **options)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def devices(*, file: Path) -> None:
    """List the devices in the FILE of one-time codes, each with its user."""
    for line in list_devices(CodePlace(CodeFile(file))):
        click.echo(line)


def _keep_device(
    kind: Kind,
    name: str,
    counter: int,
    *,
    remove: bool,
    replace: bool,
    secret_file: str | None,
    no_check: bool,
    issuer: str,
    authenticator: str | None,
    file: Path | None,
    config: Path | None,
) -> None:
    place = find_place(kind, config, file, authenticator)
    if remove:
        remove_device(place, kind, name)
        click.echo(f"removed the {kind} device of {name} from {place.file.path}")
        return
    secret = None if secret_file is None else read_first_line(secret_file, "secret")
    maker = new_device(place, kind, name, secret, counter)
    check_is_new(place, maker, replaces=replace)
    if secret is None:
        for line in describe_device(maker, issuer, is_terminal=at_terminal()):
            click.echo(line)
    code = None
    if at_terminal() and not no_check:
        code = click.prompt("Code that the device shows now", err=True)
    save_device(place, maker, code)
    checked = "" if code else ", without having seen a code of it"
    click.echo(f"{name} has a {kind} device in {place.file.path}{checked}")


def find_place(
    kind: Kind, configuration: Path | None, file: Path | None, authenticator: str | None
) -> CodePlace:
    """Where the codes of this kind are kept. Raises: ConfigurationError: nowhere, or ambiguous."""
    if file is not None:
        if configuration is not None or authenticator is not None:
            raise ConfigurationError("--file says it all: leave --config and --authenticator out")
        return CodePlace(CodeFile(file))
    configuration = configuration or DEFAULT_CONFIGURATION
    found = {
        str(path[-1]): chosen.settings
        for path, chosen in read_section(configuration, "authenticators").items()
        if isinstance(chosen.settings, CodeSettings) and chosen.backend.name == kind
    }
    if authenticator is None and len(found) > 1:
        raise ConfigurationError(
            f"{configuration}: several authenticators are {kind}: choose one of "
            f"{', '.join(found)} by --authenticator"
        )
    settings = found.get(authenticator or next(iter(found), ""))
    if settings is None:
        which = f'"{authenticator}" that is {kind}' if authenticator else f"that is {kind}"
        raise ConfigurationError(f"{configuration}: no authenticator {which}")
    period_s = getattr(settings, "period_s", 30)
    return CodePlace(CodeFile(settings.file), settings.digits, settings.algorithm, period_s)


def new_device(
    place: CodePlace, kind: Kind, name: str, secret: str | None, counter: int
) -> CodeMaker:
    """A device for a user, with a new secret unless one is given (base32).

    Raises: ConfigurationError: the name or the secret cannot be used.
    """
    name = _user(name)
    key = secrets.token_bytes(NEW_SECRET_BYTES) if secret is None else _decoded(secret)
    try:
        return CodeMaker(name, kind, key, place.algorithm, place.digits, place.period_s, counter)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def check_is_new(place: CodePlace, maker: CodeMaker, *, replaces: bool) -> None:
    """Raises: ConfigurationError: the user has a device, and shall keep it."""
    if not replaces and _try(lambda: place.file.find(maker.user, maker.kind)) is not None:
        raise ConfigurationError(
            f'{place.file.path}: "{maker.user}" has a {maker.kind} device already; '
            "--replace puts this one into its place"
        )


def save_device(place: CodePlace, maker: CodeMaker, code: str | None) -> None:
    """Keep it, once a code of it has been shown; without one it is taken on trust.

    Raises: ConfigurationError: the code is not the device's, or the file cannot be written.
    """
    if code is not None:
        window = 1 if maker.kind == "totp" else 10
        period = int(time.time() // maker.period_s)
        start = max(0, period - window) if maker.kind == "totp" else maker.next_counter
        counter = maker.find("".join(code.split()), range(start, start + 2 * window + 1))
        if counter is None:
            raise ConfigurationError("this is not the device's code; nothing was changed")
        maker = replace(maker, next_counter=counter + 1)
    _try(lambda: place.file.put(maker))


def remove_device(place: CodePlace, kind: Kind, name: str) -> None:
    """Forget it. Raises: ConfigurationError: there is none."""
    name = _user(name)
    if not _try(lambda: place.file.remove(name, kind)):
        raise ConfigurationError(f'{place.file.path}: "{name}" has no {kind} device')


def describe_device(maker: CodeMaker, issuer: str, *, is_terminal: bool) -> Iterator[str]:
    """What a user's application or token needs to know: the picture, the address, the secret."""
    address = maker.address(issuer)
    if is_terminal:
        yield _picture(address)
    yield f"address: {address}"
    yield f"secret:  {b32encode(maker.secret).decode('ascii').rstrip('=')}"


def list_devices(place: CodePlace) -> Iterator[str]:
    """One line for each device."""
    for each in _try(place.file.users):
        yield f"{each.user}\t{each.kind}\t{each.digits} digits, {each.algorithm}"


def _user(name: str) -> str:
    try:
        return read_name(name)
    except LoginRejected as error:
        raise ConfigurationError(f"{name!r}: {error}") from None


def _picture(address: str) -> str:
    code = qrcode.QRCode(border=2)
    code.add_data(address)
    drawn = StringIO()
    code.print_ascii(out=drawn, invert=True)
    return drawn.getvalue()


def _decoded(secret: str) -> bytes:
    text = "".join(secret.split()).upper().rstrip("=")
    try:
        return b32decode(text + "=" * (-len(text) % 8))
    except (NotBase32, ValueError):
        raise ConfigurationError("the secret is not base32 text") from None


def _try(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except BackendFailed as error:
        raise ConfigurationError(str(error)) from None
