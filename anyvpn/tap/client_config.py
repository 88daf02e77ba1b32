"""Reads a client's configuration file: which gateway, who answers it, what to set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from anyvpn.client.credentials import ClientCredential, load_credential
from anyvpn.client.gateway_url import GatewayURL, parse_gateway_url
from anyvpn.client.responders import ResponderChain
from anyvpn.client.settings import ClientSettings, DTLSOptions
from anyvpn.client.trust import GatewayTrust, TrustSettings
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IAdapterBackend
from anyvpn.tap.client_config_tables import CLIENT_SECTIONS, ClientTable, DTLSTable, TrustTable
from anyvpn.tap.config import Draft, read_draft
from anyvpn.tap.config_backends import make_backends
from anyvpn.tap.config_structure import Problem


@dataclass(frozen=True, slots=True)
class ClientSetUp:
    """What a file says, made: all that a `VPNClient` takes."""

    url: GatewayURL
    responder: ResponderChain
    adapters: IAdapterBackend
    settings: ClientSettings


def read_client_config(path: Path, reactor: object) -> ClientSetUp:
    """Read and check a client's configuration, and make what it names.

    Raises: ConfigurationError: everything that is wrong, one line each with file and line.
    """
    draft = read_draft(path, CLIENT_SECTIONS)
    built = make_backends(draft, reactor)
    client = draft.table("client", ClientTable)
    trust = draft.table("trust", TrustTable)
    url = None if client is None else _read_url(draft, client)
    credentials = () if client is None else _read_credentials(draft, client)
    resolve = {} if client is None else _read_addresses(draft, client.resolve)
    settings = TrustSettings() if trust is None else _read_trust(draft, trust)
    if draft.problems:
        raise draft.document.error(draft.problems)
    dtls = draft.table("dtls", DTLSTable)
    assert client is not None and url is not None and dtls is not None
    return ClientSetUp(
        url=url,
        responder=ResponderChain([each for path, each in built.items() if path[0] == "responders"]),
        adapters=built["adapter",],
        settings=ClientSettings(
            group=client.group,
            trust=settings,
            credentials=credentials,
            dtls=DTLSOptions(enabled=dtls.enabled, psk=dtls.psk, legacy=dtls.legacy),
            ipv6=client.ipv6,
            resolve=resolve,
            profile_directory=client.profile_directory,
            profiles_required=client.profiles_required,
            reconnect_time_s=client.reconnect_time_s,
            engine=client.engine,
        ),
    )


def _read_url(draft: Draft, client: ClientTable) -> GatewayURL | None:
    try:
        return parse_gateway_url(client.url)
    except ConfigurationError as error:
        draft.problems += (Problem(("client", "url"), text) for text in error.problems)
    return None


def _read_credentials(draft: Draft, client: ClientTable) -> tuple[ClientCredential, ...]:
    if client.certificate is None:
        if client.key is not None:
            draft.problems.append(Problem(("client", "key"), "is of use with a certificate alone"))
        return ()
    try:
        return (load_credential(client.certificate, client.key),)
    except ConfigurationError as error:
        draft.problems += (Problem(("client", "certificate"), text) for text in error.problems)
    return ()


def _read_addresses(draft: Draft, resolve: Mapping[str, str]) -> dict[str, str]:
    addresses: dict[str, str] = {}
    for host, text in resolve.items():
        try:
            addresses[host.lower()] = str(ip_address(text))
        except ValueError:
            path = ("client", "resolve", host)
            draft.problems.append(Problem(path, "must be an IP address"))
    return addresses


def _read_trust(draft: Draft, trust: TrustTable) -> TrustSettings:
    settings = TrustSettings(
        ca_file=trust.ca_file,
        system_trust=trust.system_trust,
        pins=trust.pins,
        allow_untrusted=trust.allow_untrusted,
    )
    try:
        GatewayTrust(settings)
    except ConfigurationError as error:
        draft.problems += (Problem(("trust",), text) for text in error.problems)
    return settings
