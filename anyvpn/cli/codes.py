"""`anyvpn user totp` and `hotp`: the devices that make users' one-time codes."""

from __future__ import annotations

import secrets
import time
from base64 import b32decode, b32encode
from binascii import Error as NotBase32
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import click
import qrcode

from anyvpn.backends.one_time_code_store import CodeStore
from anyvpn.backends.one_time_codes import LARGEST_COUNTER, CodeMaker, Kind
from anyvpn.cli.code_places import CodePlace, do_at, find_place
from anyvpn.cli.passwords import at_terminal, read_first_line
from anyvpn.errors import ConfigurationError, LoginRejected
from anyvpn.model.credentials import read_name

# Ours
NEW_SECRET_BYTES = 20  # what RFC 4226 recommends, and every application takes
DEFAULT_ISSUER = "anyvpn"
AUTHENTICATOR_HELP = "Which of the configuration's authenticators; needed if there are several."
CONFIG_HELP = "The configuration that names the file or the Redis.  [default: gateway.toml]"


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
            help=AUTHENTICATOR_HELP,
        ),
        click.option("--file", type=click.Path(path_type=Path), help="The file of codes itself."),
        click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP),
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
@click.option(
    "--counter",
    type=click.IntRange(0, LARGEST_COUNTER),
    default=0,
    help="Number of the next code that the device shows.",
)
@_device_options
def hotp(*, name: str, counter: int, **options: Any) -> None:
    """Give the user NAME a device of counted codes, such as a token with a button."""
    _keep_device("hotp", name, counter, **options)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--authenticator", metavar="NAME", help=AUTHENTICATOR_HELP)
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
def devices(*, file: Path | None, authenticator: str | None, config: Path | None) -> None:
    """List the devices in the FILE of one-time codes, or where the configuration keeps them."""

    async def work(store: CodeStore) -> None:
        for each in await store.devices():
            click.echo(f"{each.user}\t{each.kind}\t{each.digits} digits, {each.algorithm}")

    if file is not None:
        try:
            file.open("rb").close()  # who names a file means one that is there
        except OSError as error:
            raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    do_at(find_place(None, config, file, authenticator), work)


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
        do_at(place, lambda store: remove_device(store, kind, name))
        return
    secret = None if secret_file is None else read_first_line(secret_file, "secret")
    maker = new_device(place, kind, name, secret, counter)

    async def work(store: CodeStore) -> None:
        await check_is_new(store, maker, replaces=replace)
        await store.prepare()
        if secret is None:
            for line in describe_device(maker, issuer, is_terminal=at_terminal()):
                click.echo(line)
        code = None
        if at_terminal() and not no_check:
            code = click.prompt("Code that the device shows now", err=True)
        await store.put(maker if code is None else checked(maker, code))
        how = "" if code else ", without having seen a code of it"
        click.echo(f"{name} has a {kind} device in {store}{how}")

    do_at(place, work)


def new_device(
    place: CodePlace, kind: Kind, name: str, secret: str | None, counter: int
) -> CodeMaker:
    """A device for a user, with a new secret unless one is given (base32).

    Raises: ConfigurationError: the name or the secret cannot be used.
    """
    name = _user(name)
    own = place.settings
    key = secrets.token_bytes(NEW_SECRET_BYTES) if secret is None else _decoded(secret)
    try:
        return CodeMaker(name, kind, key, own.algorithm, own.digits, place.period_s, counter)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def check_is_new(store: CodeStore, maker: CodeMaker, *, replaces: bool) -> None:
    """Raises: ConfigurationError: the user has a device, and shall keep it."""
    if not replaces and await store.find(maker.user, maker.kind) is not None:
        raise ConfigurationError(
            f'{store}: "{maker.user}" has a {maker.kind} device already; '
            "--replace puts this one into its place"
        )


def checked(maker: CodeMaker, code: str) -> CodeMaker:
    """The device after a code of it. Raises: ConfigurationError: the code is not the device's."""
    window = 1 if maker.kind == "totp" else 10
    period = int(time.time() // maker.period_s)
    start = max(0, period - window) if maker.kind == "totp" else maker.next_counter
    counter = maker.find("".join(code.split()), range(start, start + 2 * window + 1))
    if counter is None:
        raise ConfigurationError("this is not the device's code; nothing was changed")
    return replace(maker, next_counter=counter + 1)


async def remove_device(store: CodeStore, kind: Kind, name: str) -> None:
    """Forget it. Raises: ConfigurationError: there is none."""
    name = _user(name)
    if not await store.remove(name, kind):
        raise ConfigurationError(f'{store}: "{name}" has no {kind} device')
    click.echo(f"removed the {kind} device of {name} from {store}")


def describe_device(maker: CodeMaker, issuer: str, *, is_terminal: bool) -> Iterator[str]:
    """What a user's application or token needs to know: the picture, the address, the secret."""
    address = maker.address(issuer)
    if is_terminal:
        yield _picture(address)
    yield f"address: {address}"
    yield f"secret:  {b32encode(maker.secret).decode('ascii').rstrip('=')}"


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
