"""Looks after the host's IP forwarding, without which tunnels lead no further than the host."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

from twisted.logger import Logger

from anyvpn.errors import TunUnavailable

log = Logger()

# From Linux: Documentation/networking/ip-sysctl.rst
_SWITCHES = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_SYSTEM = Path("/proc/sys")


def look_after_forwarding(choice: str, families: AbstractSet[int]) -> None:
    """Say what is off (check), switch it on (enable), or leave it alone (ignore).

    Raises: TunUnavailable: it is to be enabled and cannot.
    """
    if choice == "ignore":
        return
    off = [_SWITCHES[family] for family in sorted(families) if not _is_on(_SWITCHES[family])]
    if not off:
        return
    if choice == "enable":
        for switch in off:
            _switch_on(switch)
            log.info("Switched {switch} on; it stays on after the gateway", switch=switch)
        return
    log.warn(
        "IP forwarding is off, so clients reach this host and each other only; to change that: "
        'sysctl -w {switches}, or forwarding = "enable"',
        switches=" ".join(f"{switch}=1" for switch in off),
    )


def _path(switch: str) -> Path:
    return _SYSTEM / switch.replace(".", "/")


def _is_on(switch: str) -> bool:
    try:
        return _path(switch).read_text("ascii").strip() != "0"
    except OSError:
        return False  # a host without this family forwards none of it


def _switch_on(switch: str) -> None:
    try:
        _path(switch).write_text("1\n", "ascii")
    except OSError as error:
        raise TunUnavailable(
            f"{switch} cannot be switched on ({error.strerror}): set it on the host, in a "
            f'container with --sysctl {switch}=1, and leave forwarding at "check"'
        ) from error
