"""`twistd anyvpn-gateway`: its options, and the service that it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.application.service import MultiService
from twisted.python import usage

from anyvpn.errors import ConfigurationError
from anyvpn.tap.config_build import load_gateway
from anyvpn.tap.gateway_service import GatewayReactor, GatewayService


class Options(usage.Options):
    """What follows `anyvpn-gateway` on the command line."""

    synopsis = "--config FILE"
    longdesc = (
        "An AnyConnect-compatible SSL VPN gateway. `anyvpn init` makes a configuration, "
        "`anyvpn check` looks at one. It needs root or CAP_NET_ADMIN when it starts; "
        "twistd's --uid and --gid take these rights away before the first client is served."
    )
    optParameters = [  # noqa: RUF012 - Twisted looks for this attribute
        ["config", "c", None, "The configuration file (gateway.toml)."],
    ]

    def postOptions(self) -> None:
        """Without a configuration there is no gateway."""
        if not self["config"]:
            raise usage.UsageError("please name the configuration file: --config FILE")


def makeService(options: Options) -> MultiService:
    """The gateway of a configuration; called before twistd becomes a daemon.

    A configuration that is wrong ends the process with exit status 1, all problems on stderr.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 - twistd installs it first

    reactor = cast(GatewayReactor, installed)
    try:
        loaded = load_gateway(Path(options["config"]), reactor)
    except ConfigurationError as error:
        raise SystemExit("\n".join(error.problems)) from None
    return GatewayService(reactor, loaded, StandardError())


class StandardError:
    """The terminal's stderr, kept across twistd's way to a daemon until it is closed."""

    def __init__(self) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.dup(2)
        except OSError:  # there is none, so nobody waits for words from it
            return
        os.set_inheritable(self._descriptor, False)

    def write(self, line: str) -> None:
        """Say one line."""
        if self._descriptor >= 0:
            os.write(self._descriptor, f"{line}\n".encode())

    def close(self) -> None:
        """Let go of it, or whoever waits for its end waits as long as the daemon lives."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
