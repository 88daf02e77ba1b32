"""Makes everything that a configuration names: backends, TLS contexts, addresses to listen on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from anyvpn.errors import ConfigurationError, EngineUnavailable
from anyvpn.gateway.settings import (
    DTLSSettings,
    GatewaySettings,
    Limits,
    ProfileBinding,
    ShutdownBehaviour,
    TLSIdentity,
    TLSSettings,
)
from anyvpn.gateway.tls_contexts import ServerContexts
from anyvpn.interfaces import ITunBackend
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.model.downloads import Download
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.packets.engines import engine_class
from anyvpn.tap.config import Draft, read_draft
from anyvpn.tap.config_backends import make_backends, published_documents
from anyvpn.tap.config_checks import check, default_profile_name, dtls_port, listen_addresses
from anyvpn.tap.config_positions import KeyPath
from anyvpn.tap.config_structure import Problem
from anyvpn.tap.config_tables import (
    ConnectionProfileTable,
    ControlTable,
    DTLSTable,
    GatewayTable,
    LimitsTable,
    TLSTable,
    TunTable,
)
from anyvpn.tap.listen_addresses import ListenAddress, Reactor, datagram_addresses

log = Logger()


@dataclass(frozen=True, slots=True)
class LoadedGateway:
    """All that a gateway is made of, before anything is opened."""

    file: Path
    settings: GatewaySettings
    contexts: ServerContexts
    tun: ITunBackend
    tun_mtu_bytes: int
    listen: tuple[ListenAddress, ...]
    datagrams: tuple[tuple[str, int], ...]
    backend_names: Mapping[str, str]
    engine: type[PythonPacketEngine]
    control: Path | None
    """The control socket; None: there is none."""


def load_gateway(file: Path, reactor: Reactor) -> LoadedGateway:
    """Read and check a configuration, and make what it names.

    Raises: ConfigurationError: everything that is wrong, one line each with file and line.
    """
    draft = read_draft(file)
    draft.problems += check(draft, reactor)
    engine = _choose_engine(draft)
    contexts = _make_contexts(draft)
    built = make_backends(draft, reactor)
    documents = published_documents(draft, built)
    if draft.problems:
        raise draft.document.error(draft.problems)
    assert contexts is not None
    gateway = _table(draft, "gateway", GatewayTable)
    dtls = _table(draft, "dtls", DTLSTable)
    control = _table(draft, "control", ControlTable)
    listen, _ = listen_addresses(gateway, reactor)
    port = dtls_port(dtls, listen)
    return LoadedGateway(
        file=draft.document.file,
        settings=_settings(
            draft,
            built,
            gateway,
            documents,
            DTLSSettings(dtls.enabled, port, dtls.psk, dtls.legacy, dtls.verify_hellos),
        ),
        contexts=contexts,
        tun=built["tun",],
        tun_mtu_bytes=_table(draft, "tun", TunTable).mtu_bytes,
        listen=tuple(listen),
        datagrams=datagram_addresses(listen, dtls.interfaces, port) if dtls.enabled else (),
        backend_names={
            ".".join(map(str, path)): each.backend.name for path, each in draft.chosen.items()
        },
        engine=engine,
        control=_control_socket(control, draft.document.file),
    )


def _control_socket(control: ControlTable, file: Path) -> Path | None:
    if not control.enabled:
        return None
    if not control.fits(file):
        log.warn(
            "There is no control socket: {path} is too long for one; name another in [control]",
            path=control.path(file),
        )
        return None
    return control.path(file)


def _choose_engine(draft: Draft) -> type[PythonPacketEngine]:
    gateway = draft.table("gateway", GatewayTable)
    try:
        return engine_class("auto" if gateway is None else gateway.engine)
    except EngineUnavailable as error:
        draft.problems.append(Problem(("gateway", "engine"), str(error)))
        return PythonPacketEngine


def _settings(
    draft: Draft,
    built: Mapping[KeyPath, Any],
    gateway: GatewayTable,
    documents: Mapping[str, Download],
    dtls: DTLSSettings,
) -> GatewaySettings:
    profiles = draft.tables_below("connection_profiles", ConnectionProfileTable)
    limits = _table(draft, "limits", LimitsTable)
    return GatewaySettings(
        name=gateway.name,
        profiles=tuple(
            ProfileBinding(
                ConnectionProfile(each.name, each.alias or each.name, each.group_urls, each.listed),
                built["authenticators", each.authenticator],
            )
            for each in profiles.values()
        ),
        default_profile=default_profile_name(gateway, profiles),
        authorizer=built["authorizer",],
        addresses=built["addresses",],
        profile_provider=built["profiles",],
        sessions=built["sessions",],
        listeners=tuple(each for path, each in built.items() if path[0] == "listeners"),
        documents=documents,
        dtls=dtls,
        limits=Limits(**{each.name: getattr(limits, each.name) for each in fields(Limits)}),
        shutdown=ShutdownBehaviour(gateway.shutdown),
        report_interval_s=gateway.report_interval_s,
    )


def _table(draft: Draft, key: str, kind: type[Any]) -> Any:
    found = draft.table(key, kind)
    assert found is not None, key  # or there would have been problems
    return found


# --- TLS -----------------------------------------------------------------------------------


def _make_contexts(draft: Draft) -> ServerContexts | None:
    tls = draft.table("tls", TLSTable)
    if tls is None:
        return None
    first = TLSIdentity(tls.certificate, tls.key)
    others = [TLSIdentity(each.certificate, each.key, each.names) for each in tls.virtual_hosts]
    draft.problems += _identity_problems(others)

    def contexts(*identities: TLSIdentity) -> ServerContexts:
        return ServerContexts(
            TLSSettings(identities, tls.client_ca, tls.minimum_version, tls.ciphers)
        )

    for identity, path in _with_paths(first, others):
        try:
            contexts(identity)
        except ConfigurationError as error:
            draft.problems += _placed_tls_problems(error, path)
    if any(each.path[0] == "tls" for each in draft.problems):
        return None
    return contexts(first, *others)


def _with_paths(
    first: TLSIdentity, others: list[TLSIdentity]
) -> Iterator[tuple[TLSIdentity, KeyPath]]:
    yield first, ("tls",)
    for number, each in enumerate(others):
        yield each, ("tls", "virtual_hosts", number)


def _identity_problems(others: list[TLSIdentity]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, identity in enumerate(others):
        for place, name in enumerate(identity.names):
            if name.casefold() in seen:
                path: KeyPath = ("tls", "virtual_hosts", number, "names", place)
                yield Problem(path, f'"{name}" has a certificate already; remove one')
            seen.add(name.casefold())


def _placed_tls_problems(error: ConfigurationError, path: KeyPath) -> Iterator[Problem]:
    """The contexts' problems begin with `tls.` and the key, whichever identity it is of."""
    for text in error.problems:
        start, _, said = text.partition(": ")
        key = start.removeprefix("tls").strip(".")
        if key in ("certificate", "key"):
            yield Problem((*path, key), said)
        elif key:
            yield Problem(("tls", key), said)
        else:
            yield Problem(path, said)
