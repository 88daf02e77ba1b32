"""`twistd anyvpn-client`: its options, and the service that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.application.service import Service
from twisted.python import usage

from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import ConfigurationError
from anyvpn.tap.client_config import read_client_config
from anyvpn.tap.client_service import ClientService, log_event


class Options(usage.Options):
    """What follows `anyvpn-client` on the command line."""

    synopsis = "--config FILE"
    longdesc = (
        "An AnyConnect-compatible SSL VPN client for links without a user: it reconnects, logs "
        "in again when the session is over, and goes on for ever."
    )
    optParameters = [  # noqa: RUF012 - Twisted looks for this attribute
        ["config", "c", None, "The configuration file (client.toml)."],
    ]

    def postOptions(self) -> None:
        """Without a configuration there is nowhere to connect to."""
        if not self["config"]:
            raise usage.UsageError("please name the configuration file: --config FILE")


def makeService(options: Options) -> Service:
    """The client of a configuration; called before twistd becomes a daemon.

    A configuration that is wrong ends the process with exit status 1, all problems on stderr.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 - twistd installs it first

    reactor = cast(ClientReactor, installed)
    try:
        found = read_client_config(Path(options["config"]), reactor)
        client = VPNClient(
            reactor, found.url, found.responder, found.adapters, found.settings, on_event=log_event
        )
    except ConfigurationError as error:
        raise SystemExit("\n".join(error.problems)) from None
    return ClientService(reactor, client)
