"""`anyvpn init`: what is to be set up, asked for where it was not given, and what to do next."""

from __future__ import annotations

import shlex
import socket
import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from secrets import randbelow, token_bytes
from typing import cast

import click
from pyroute2 import IPRoute

from anyvpn.cli.passwords import at_terminal, read_password
from anyvpn.errors import ConfigurationError
from anyvpn.tap.listen_addresses import (
    ANY_IPV4,
    ANY_IPV6,
    ListenAddress,
    Reactor,
    read_listen_address,
)

Address = IPv4Address | IPv6Address

# From the protocol: RFC 1918, RFC 4193
PRIVATE_IPV4_FIRST_BYTE = 10
UNIQUE_LOCAL_FIRST_BYTE = 0xFD
HTTPS_PORT = 443

# Ours
LONGEST_NAME = 253
LISTEN_IPV4 = "tcp:443"
LISTEN_IPV6 = r"tcp:443:interface=\:\:"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a set-up needs to know."""

    directory: Path
    name: str
    listen: tuple[ListenAddress, ...]
    addresses: tuple[Address, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    user: str
    password: str = field(repr=False)

    @property
    def port(self) -> int:
        """The TCP port that clients use."""
        return next((each.port for each in self.listen if each.port), HTTPS_PORT)

    @property
    def host_and_port(self) -> str:
        """What clients connect to, as it stands in a URL."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


def make_plan(
    directory: Path,
    name: str | None,
    listen: tuple[str, ...],
    user: str | None,
    password_file: str | None,
) -> Plan:
    """What was asked for, completed by questions at the terminal.

    Raises: ConfigurationError: something is wrong, or missing with nobody to ask.
    """
    name = check_host_name(_given(name, "--name", "Name by which clients reach the gateway"))
    addresses = _listen(listen or _default_listen())
    user = _given(user, "--user", "Name of the first user")
    password = read_password(password_file, user)
    return Plan(
        directory=directory.absolute(),
        name=name,
        listen=addresses,
        addresses=_own_addresses(addresses),
        networks=random_networks(),
        user=user,
        password=password,
    )


def next_steps(plan: Plan) -> str:
    """What to type now, on the gateway and on a client."""
    program = Path(sys.executable).with_name("twistd")
    twistd = str(program) if program.exists() else "twistd"
    anyvpn = sys.argv[0] if Path(sys.argv[0]).name == "anyvpn" else "anyvpn"
    configuration = str(plan.directory / "gateway.toml")
    ca_file = str(plan.directory / "ca.pem")
    start = shlex.join([twistd, "--nodaemon", "anyvpn-gateway", "--config", configuration])
    connect = shlex.join(
        [
            *("openconnect", "--cafile", ca_file, "--user", plan.user),
            f"https://{plan.host_and_port}",
        ]
    )
    return f"""\
The gateway {plan.name} is set up in {plan.directory}.

Start it, as root:
  {start}

Connect, from another machine, with a copy of {ca_file}:
  {connect}

Further users:
  {shlex.join([anyvpn, "user", "add", "NAME", "--config", configuration])}

Keep {plan.directory / "ca-key.pem"} somewhere else: the gateway does not need it."""


def check_host_name(name: str) -> str:
    """A host name or an IP address. Raises: ConfigurationError."""
    try:
        return str(ip_address(name.strip("[]")))
    except ValueError:
        pass
    labels = name.rstrip(".").split(".")
    good = all(
        0 < len(label) <= 63
        and label.isascii()
        and label.replace("-", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )
    if not good or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f'"{name}": must be a host name such as vpn.example.com, or an IP address'
        )
    return name.rstrip(".").lower()


def random_networks() -> tuple[IPv4Network, IPv6Network]:
    """Networks for clients that hardly anybody else has chosen: 10.x.y.0/24 and fdxx::/64."""
    ipv4 = bytes((PRIVATE_IPV4_FIRST_BYTE, randbelow(256), randbelow(256), 0))
    ipv6 = bytes((UNIQUE_LOCAL_FIRST_BYTE,)) + token_bytes(5) + bytes(10)
    return IPv4Network((ipv4, 24)), IPv6Network((ipv6, 64))


def _given(value: str | None, option: str, question: str) -> str:
    if value:
        return value
    if not at_terminal():
        raise ConfigurationError(f"{option} is needed: {question[0].lower()}{question[1:]}")
    asked: str = click.prompt(question, err=True)
    return asked


def _default_listen() -> tuple[str, ...]:
    return (LISTEN_IPV4, LISTEN_IPV6) if socket.has_dualstack_ipv6() else (LISTEN_IPV4,)


def _listen(texts: tuple[str, ...]) -> tuple[ListenAddress, ...]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    problems: list[str] = []
    found: list[ListenAddress] = []
    for text in dict.fromkeys(texts):
        try:
            found.append(read_listen_address(cast(Reactor, reactor), text))
        except ConfigurationError as error:
            problems += [f"--listen {each}" for each in error.problems]
    if problems:
        raise ConfigurationError(*problems)
    return tuple(found)


def _own_addresses(listen: tuple[ListenAddress, ...]) -> tuple[Address, ...]:
    """The addresses that clients may connect to: those listened on, "all" meaning this host's."""
    wanted = {each.interface for each in listen}
    found: list[Address] = []
    if ANY_IPV4 in wanted or ANY_IPV6 in wanted or "" in wanted:
        found += _host_addresses()
    found += [ip_address(each) for each in wanted if each not in ("", ANY_IPV4, ANY_IPV6)]
    return tuple(sorted(set(found), key=lambda each: (each.version, int(each))))


def _host_addresses() -> list[Address]:
    with IPRoute() as routes:
        texts = [dict(each["attrs"]).get("IFA_ADDRESS") for each in routes.get_addr()]
    addresses = [ip_address(text) for text in texts if text]
    return [each for each in addresses if not each.is_loopback and not each.is_link_local]
