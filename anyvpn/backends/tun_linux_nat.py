"""Masquerades inner addresses by nftables, for exactly as long as the gateway lives.

The table belongs to one `nft` process (flag "owner"): nobody else changes it, and the kernel
removes it with that process. The process ends when our end of its input closes, so the rules are
gone even when the gateway is killed, and closing needs no privileges.

Source: nft(8), "flags owner"; Linux 5.12 and later.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from tempfile import TemporaryFile
from typing import IO

from twisted.logger import Logger

from anyvpn.errors import TunUnavailable

log = Logger()

# From the protocol: RFC 4193
_UNIQUE_LOCAL = IPv6Network("fc00::/7")

# Ours
_PROGRAM = "nft"
_SETUP_TIME_S = 5.0
_LOOK_AGAIN_S = 0.02
_END_TIME_S = 2.0
_LONGEST_COMPLAINT_BYTES = 2000


def translation_rules(
    device: str, networks: Sequence[IPv4Network | IPv6Network], interface: str
) -> list[str]:
    """The commands that make the table, to be given in one transaction."""
    table = f"inet {table_name(device)}"
    leaving = f'oifname "{interface}"' if interface else f'oifname != "{device}"'
    commands = [
        f"create table {table} {{ flags owner; }}",
        f"add chain {table} leaving {{ type nat hook postrouting priority srcnat; }}",
    ]
    for network in networks:
        if isinstance(network, IPv4Network):
            commands.append(f"add rule {table} leaving ip saddr {network} {leaving} masquerade")
        elif network.subnet_of(_UNIQUE_LOCAL):
            commands.append(f"add rule {table} leaving ip6 saddr {network} {leaving} masquerade")
    return commands


def table_name(device: str) -> str:
    """The table of a device; nft knows letters, digits and _ in names only."""
    return "anyvpn_" + "".join(each if each.isalnum() else "_" for each in device)


class AddressTranslation:
    """The rules of one device, and the process that holds them."""

    def __init__(
        self, device: str, networks: Sequence[IPv4Network | IPv6Network], interface: str
    ) -> None:
        """Returns when the kernel has the rules. Raises: TunUnavailable."""
        commands = translation_rules(device, networks, interface)
        with TemporaryFile() as complaints:
            self._holder = _start(complaints)
            try:
                # One line is one transaction: no rule gets into a table of somebody else
                self._tell("; ".join(commands) + "\n")
                self._wait_for(table_name(device), len(commands) - 2, complaints)
            except BaseException:
                self.close()
                raise

    @property
    def ended(self) -> bool:
        """Whether the process, and so the rules, are gone."""
        return self._holder.poll() is not None

    def close(self) -> None:
        """Remove the rules; closing twice does no harm."""
        assert self._holder.stdin is not None
        try:
            self._holder.stdin.close()
            self._holder.wait(_END_TIME_S)
        except (BrokenPipeError, subprocess.TimeoutExpired) as error:
            log.warn(
                "The nft process {pid} that holds the NAT rules does not end: {reason}",
                pid=self._holder.pid,
                reason=str(error),
            )

    def _tell(self, commands: str) -> None:
        assert self._holder.stdin is not None
        try:
            self._holder.stdin.write(commands.encode("ascii"))
            self._holder.stdin.flush()
        except OSError as error:
            raise TunUnavailable(f"{_PROGRAM} takes no NAT rules: {error.strerror}") from error

    def _wait_for(self, table: str, rule_count: int, complaints: IO[bytes]) -> None:
        deadline_at_s = time.monotonic() + _SETUP_TIME_S
        while True:
            shown = subprocess.run(  # noqa: S603 (no foreign text in it)
                [_PROGRAM, "list", "table", "inet", table],
                capture_output=True,
                check=False,
            )
            if shown.returncode == 0 and shown.stdout.count(b"masquerade") >= rule_count:
                return
            complaints.seek(0)
            complaint = complaints.read(_LONGEST_COMPLAINT_BYTES).decode("utf-8", "replace")
            if complaint or self._holder.poll() is not None:
                raise TunUnavailable(_why_refused(complaint, table))
            if time.monotonic() > deadline_at_s:
                raise TunUnavailable(f"{_PROGRAM} did not set the NAT rules up in time")
            time.sleep(_LOOK_AGAIN_S)


def _start(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (no foreign text in it)
            [_PROGRAM, "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            # Ctrl-C on a terminal is for the gateway, which then closes this one
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise TunUnavailable(
            f"NAT needs the program {_PROGRAM}: install Debian's package nftables, or set "
            "nat = false"
        ) from error
    except OSError as error:
        raise TunUnavailable(f"{_PROGRAM} cannot be started: {error.strerror}") from error


def _why_refused(complaint: str, table: str) -> str:
    first_line = complaint.strip().partition("\n")[0] or "it ended"
    if "permitted" in complaint:
        return "NAT rules may not be set: start the gateway as root, or give it CAP_NET_ADMIN"
    return (
        f"{_PROGRAM} refuses the NAT rules ({first_line}): they need Linux 5.12, nftables 0.9.9 "
        f"and no table {table} of somebody else (`nft list tables`); or set nat = false"
    )
