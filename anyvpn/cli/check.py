"""`anyvpn check`: everything that is wrong with a configuration, or what it says."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from anyvpn.tap.config_build import LoadedGateway, load_gateway
from anyvpn.tap.listen_addresses import Reactor


def check_file(file: Path) -> str:
    """A short summary. Raises: ConfigurationError: everything that is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    loaded = load_gateway(file, cast(Reactor, reactor))
    return "\n".join([f"{file}: correct", *(f"  {line}" for line in _summary(loaded))])


def _summary(loaded: LoadedGateway) -> list[str]:
    settings, dtls = loaded.settings, loaded.settings.dtls
    udp = f"UDP port {dtls.port}" if dtls.enabled else "no DTLS"
    profiles = ", ".join(
        each.profile.name
        + ("" if each.profile.listed else " (not listed)")
        + (" (default)" if each.profile.name == settings.default_profile else "")
        for each in settings.profiles
    )
    names = ", ".join(f"{key}: {name}" for key, name in loaded.backend_names.items())
    inner = ", ".join(str(each.network) for each in settings.addresses.gateway_addresses)
    return [
        f"gateway              {settings.name}",
        f"listens on           {', '.join(each.text for each in loaded.listen)}; {udp}",
        f"connection profiles  {profiles}",
        f"inner networks       {inner}",
        f"backends             {names}",
    ]
