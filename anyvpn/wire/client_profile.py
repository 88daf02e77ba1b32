"""The AnyConnect profile as XML.

Source: protocol reference, section 7.
"""

from __future__ import annotations

from lxml import etree

from anyvpn.errors import MalformedMessage
from anyvpn.model.client_profile import ClientProfileSettings, ServerEntry
from anyvpn.wire.xml_document import (
    Element,
    add_element,
    new_root,
    read_document,
    whole_text,
    write_document,
)

# From the protocol
_NAMESPACE = "http://schemas.xmlsoap.org/encoding/"
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_DEFAULT_PROXY_SETTINGS = "Native"
_DEFAULT_PROTOCOL = "SSL"

# Ours
_MAXIMUM_TIMEOUT_S = 3600


def read_client_profile(content: bytes) -> ClientProfileSettings:
    """The parts of a profile that a client applies; the rest of it is passed over.

    A value that makes no sense counts as not given.

    Raises: MalformedMessage, MessageTooLarge.
    """
    root = read_document(content)
    if root.tag != "AnyConnectProfile":
        raise MalformedMessage("a client profile has another root than AnyConnectProfile")
    settings = root.find("ClientInitialization")
    if settings is None:
        settings = new_root("ClientInitialization")
    protocols = _own_text(settings, "IPProtocolSupport").split(",")
    return ClientProfileSettings(
        servers=tuple(
            server
            for entry in root.findall("ServerList/HostEntry")
            if (server := _read_server(entry)) is not None
        ),
        backup_addresses=_read_backups(settings),
        authentication_timeout_s=_read_timeout_s(_own_text(settings, "AuthenticationTimeout")),
        auto_reconnect=_own_text(settings, "AutoReconnect").lower() != "false",
        ip_protocols=tuple(each.strip() for each in protocols if each.strip()),
        proxy_settings=_own_text(settings, "ProxySettings") or _DEFAULT_PROXY_SETTINGS,
        local_lan_access=_own_text(settings, "LocalLanAccess").lower() == "true",
    )


def write_client_profile(settings: ClientProfileSettings) -> bytes:
    """A whole profile that says what `settings` say and leaves the rest to the client."""
    root = etree.Element("AnyConnectProfile", nsmap={None: _NAMESPACE, "xsi": _SCHEMA_INSTANCE})
    root.set(f"{{{_SCHEMA_INSTANCE}}}schemaLocation", f"{_NAMESPACE} AnyConnectProfile.xsd")
    initialization = add_element(root, "ClientInitialization")
    add_element(initialization, "ProxySettings", settings.proxy_settings)
    if settings.authentication_timeout_s:
        add_element(initialization, "AuthenticationTimeout", str(settings.authentication_timeout_s))
    add_element(initialization, "LocalLanAccess", _truth(settings.local_lan_access))
    if settings.ip_protocols:
        add_element(initialization, "IPProtocolSupport", ",".join(settings.ip_protocols))
    reconnect = add_element(initialization, "AutoReconnect", _truth(settings.auto_reconnect))
    if settings.auto_reconnect:
        add_element(reconnect, "AutoReconnectBehavior", "ReconnectAfterResume")
    _write_backups(initialization, settings.backup_addresses)
    servers = add_element(root, "ServerList")
    for server in settings.servers:
        _write_server(servers, server)
    for element in root.iter("*"):
        element.tag = f"{{{_NAMESPACE}}}{element.tag!s}"
    etree.indent(root)
    return write_document(root) + b"\n"


def _read_server(entry: Element) -> ServerEntry | None:
    name, address = _own_text(entry, "HostName"), _own_text(entry, "HostAddress")
    if not (name or address):
        return None
    return ServerEntry(
        name=name or address,
        address=address or name,
        user_group=_own_text(entry, "UserGroup"),
        primary_protocol=_own_text(entry, "PrimaryProtocol") or _DEFAULT_PROTOCOL,
        backup_addresses=_read_backups(entry),
    )


def _read_backups(parent: Element) -> tuple[str, ...]:
    addresses = parent.findall("BackupServerList/HostAddress")
    return tuple(text for text in map(whole_text, addresses) if text)


def _read_timeout_s(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        return 0
    return min(int(text), _MAXIMUM_TIMEOUT_S)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _own_text(parent: Element, name: str) -> str:
    """The text of a child without that of its children, which are settings of their own."""
    child = parent.find(name)
    return "" if child is None else (child.text or "").strip()


def _write_server(servers: Element, server: ServerEntry) -> None:
    entry = add_element(servers, "HostEntry")
    add_element(entry, "HostName", server.name)
    add_element(entry, "HostAddress", server.address)
    if server.user_group:
        add_element(entry, "UserGroup", server.user_group)
    _write_backups(entry, server.backup_addresses)
    if server.primary_protocol != _DEFAULT_PROTOCOL:
        add_element(entry, "PrimaryProtocol", server.primary_protocol)


def _write_backups(parent: Element, addresses: tuple[str, ...]) -> None:
    if addresses:
        backups = add_element(parent, "BackupServerList")
        for address in addresses:
            add_element(backups, "HostAddress", address)
