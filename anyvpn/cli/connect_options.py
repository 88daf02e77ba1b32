"""The options of `connect`, `authenticate` and `run`: openconnect's names where it has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from anyvpn.client.credentials import ClientCredential, load_credential
from anyvpn.client.gateway_url import GatewayURL, parse_gateway_url
from anyvpn.client.profile_store import ProfileStore, default_directory
from anyvpn.client.settings import (
    ClientSettings,
    DTLSOptions,
    ProxySettings,
    default_description,
)
from anyvpn.client.trust import TrustSettings
from anyvpn.errors import ConfigurationError
from anyvpn.model.client_profile import ServerEntry
from anyvpn.packets.engines import ENGINE_CHOICES

Options = dict[str, Any]
_FILE = click.Path(path_type=Path)
_SECRET_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)  # before a login is begun
_PROXY_PORTS = {"http": 8080, "socks5": 1080, "socks": 1080}
_FIRST_USE_FILE = "known-gateways"

_OPTIONS = (
    click.option("-u", "--user", metavar="NAME", help="User name."),
    click.option("--authgroup", metavar="GROUP", help="Group to log in to, as the menu has it."),
    click.option("-g", "--usergroup", metavar="GROUP", help="Group to log in to, as in the URL."),
    click.option("--passwd-on-stdin", is_flag=True, help="Read the password from standard input."),
    click.option(
        "--password-file", type=_SECRET_FILE, help="File whose first line is the password."
    ),
    click.option(
        "-F",
        "--form-entry",
        multiple=True,
        metavar="FIELD=TEXT",
        help="Answer to a field of a form (FORM:FIELD=TEXT works too); several times.",
    ),
    click.option(
        "--keyring", metavar="SERVICE", help="Take the password of --user from the keyring."
    ),
    click.option(
        "--token-mode", type=click.Choice(["totp"]), help="Make one-time codes of --token-secret."
    ),
    click.option(
        "--token-secret", metavar="SECRET|@FILE", help="Secret of the codes: base32, or 0x and hex."
    ),
    click.option(
        "--password-command", metavar="COMMAND", help="Program that answers what is asked."
    ),
    click.option(
        "--external-browser", metavar="COMMAND", help="Program that opens a login's web page."
    ),
    click.option("--non-inter", is_flag=True, help="Ask nothing at the terminal."),
    click.option(
        "-c",
        "--certificate",
        type=_FILE,
        multiple=True,
        help="Client certificate: PEM or PKCS#12. Of several, the gateway's authorities choose.",
    ),
    click.option(
        "-k",
        "--sslkey",
        type=_FILE,
        multiple=True,
        help="Its key, when in a file of its own; of several, in the order of the certificates.",
    ),
    click.option("-p", "--key-password", metavar="TEXT", help="Passphrase of the key."),
    click.option("--mca-certificate", type=_FILE, help="User's certificate beside a machine's."),
    click.option("--mca-key", type=_FILE, help="Its key."),
    click.option("--cafile", type=_FILE, help="Authorities to trust, PEM."),
    click.option(
        "--resolve", multiple=True, metavar="HOST:IP", help="Address of a host, without DNS."
    ),
    click.option("--no-system-trust", is_flag=True, help="Trust --cafile alone."),
    click.option(
        "--servercert",
        multiple=True,
        metavar="PIN",
        help="Accept the gateway with this key: pin-sha256:..., sha256:..., sha1:...",
    ),
    click.option("--trust-on-first-use", is_flag=True, help="Remember keys of unknown gateways."),
    click.option("--allow-untrusted", is_flag=True, help="Accept any certificate, with a warning."),
    click.option("--no-dtls", is_flag=True, help="Use the TLS channel alone."),
    click.option("--no-dtls-psk", is_flag=True, help="No DTLS of the PSK-NEGOTIATE kind."),
    click.option("--legacy-dtls", is_flag=True, help="Offer old CBC suites for DTLS too."),
    click.option("--dtls-ciphers", metavar="LIST", help="Offer these for DTLS, first one best."),
    click.option("--dtls12-ciphers", metavar="LIST", help="Offer these for DTLS 1.2."),
    click.option("--no-xmlpost", is_flag=True, help="Log in by version 1 of the protocol."),
    click.option(
        "--tls-version",
        type=click.Choice(["1.0", "1.2", "1.3"]),
        default="1.2",
        help="The oldest TLS version to accept.",
    ),
    click.option("--ciphers", metavar="LIST", help="TLS 1.2 ciphers, in OpenSSL's format."),
    click.option("--disable-ipv6", is_flag=True, help="Ask for IPv4 addresses alone."),
    click.option("-m", "--mtu", type=click.IntRange(576, 16376), help="MTU to ask for."),
    click.option("--base-mtu", type=click.IntRange(1280, 65535), help="MTU of the way there."),
    click.option(
        "--force-dpd", type=click.FloatRange(1), metavar="S", help="Probe each S seconds."
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINE_CHOICES),
        default="auto",
        show_default=True,
        help="Packet engine; auto: the compiled one where it is installed.",
    ),
    click.option(
        "--reconnect-timeout",
        type=click.FloatRange(0),
        default=300.0,
        metavar="S",
        show_default=True,
        help="Try for S seconds to get a lost tunnel back.",
    ),
    click.option(
        "--compression",
        type=click.Choice(["none", "stateless", "all"]),
        default="none",
        show_default=True,
        help="Compression to offer; it helps eavesdroppers.",
    ),
    click.option("-P", "--proxy", metavar="URL", help="http:// or socks5:// proxy."),
    click.option("--no-proxy", is_flag=True, help="Take no proxy from the environment."),
    click.option("--useragent", metavar="TEXT", help="What to call ourselves in HTTP."),
    click.option("--version-string", metavar="TEXT", help="Version to report."),
    click.option(
        "--os",
        "platform",
        type=click.Choice(["linux", "linux-64", "win", "mac-intel", "android", "apple-ios"]),
        help="Platform to report.",
    ),
    click.option("--local-hostname", metavar="NAME", help="Host name to report."),
    click.option("--no-profile", is_flag=True, help="Go on when a profile cannot be had."),
    click.option("-v", "--verbose", count=True, help="Say more; -vv: requests, secrets masked."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors alone."),
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def verbosity_of(options: Options) -> int:
    """-1 for quiet, else how often -v was given."""
    return -1 if options["quiet"] else int(options["verbose"])


def read_settings(options: Options) -> ClientSettings:
    """The client's settings. Raises: ConfigurationError."""
    description = default_description()
    description = replace(
        description,
        user_agent=options["useragent"] or description.user_agent,
        version=options["version_string"] or description.version,
        platform=options["platform"] or description.platform,
    )
    credentials, machine = _credentials(options)
    directory = default_directory()
    encodings = {"none": (), "stateless": ("oc-lz4", "lzs"), "all": ("oc-lz4", "lzs", "deflate")}
    return ClientSettings(
        group=options["authgroup"] or "",
        description=description,
        hostname=options["local_hostname"] or "",
        protocol_version=1 if options["no_xmlpost"] else 0,
        trust=TrustSettings(
            ca_file=options["cafile"],
            system_trust=not options["no_system_trust"],
            pins=tuple(options["servercert"]),
            allow_untrusted=options["allow_untrusted"],
            first_use_file=(
                directory.with_name(_FIRST_USE_FILE) if options["trust_on_first_use"] else None
            ),
        ),
        credentials=credentials,
        machine_credential=machine,
        minimum_tls_version=options["tls_version"],
        tls_ciphers=options["ciphers"] or "",
        proxy=_proxy(options),
        dtls=_dtls(options),
        compression=encodings[options["compression"]],
        ipv6=not options["disable_ipv6"],
        resolve=_resolve(options["resolve"]),
        base_mtu_bytes=options["base_mtu"] or 0,
        mtu_bytes=options["mtu"] or 0,
        dpd_s=options["force_dpd"] or 0.0,
        profile_directory=directory,
        profiles_required=not options["no_profile"],
        reconnect_time_s=options["reconnect_timeout"],
        engine=options["engine"],
        follow_traffic=options["verbose"] > 1,
    )


def find_gateways(target: str, options: Options) -> list[GatewayURL]:
    """Where NAME or URL leads: the gateway, then its backups, as stored profiles know them.

    Raises: ConfigurationError.
    """
    server = ProfileStore(default_directory()).find_server(target)
    urls = [parse_gateway_url(target)] if server is None else _urls_of(server)
    group = options["usergroup"]
    return [replace(url, path=f"/{group}") if group else url for url in urls]


def _urls_of(server: ServerEntry) -> list[GatewayURL]:
    urls = []
    for address in (server.address, *server.backup_addresses):
        url = parse_gateway_url(address)
        if server.user_group and url.path == "/":
            url = replace(url, path=f"/{server.user_group}")
        urls.append(url)
    return urls


def _credentials(
    options: Options,
) -> tuple[tuple[ClientCredential, ...], ClientCredential | None]:
    """The user's certificates, and the machine's where there are to be both."""

    def ask(prompt: str) -> str:
        given, options["key_password"] = options["key_password"], None
        if given:
            return str(given)
        if options["non_inter"]:
            return ""
        text = prompt.rstrip(": ")
        return str(click.prompt(text, hide_input=True, err=True, default="", show_default=False))

    certificates, keys = options["certificate"], options["sslkey"]
    if len(keys) not in (0, len(certificates)):
        raise ConfigurationError("--sslkey is given as often as --certificate, or not at all")
    loaded = tuple(
        load_credential(certificate, key, ask)
        for certificate, key in zip_longest(certificates, keys)
    )
    if not options["mca_certificate"]:
        return loaded, None
    if len(loaded) != 1:
        raise ConfigurationError("--mca-certificate needs one --certificate: the machine's")
    return (load_credential(options["mca_certificate"], options["mca_key"], ask),), loaded[0]


def _resolve(entries: tuple[str, ...]) -> dict[str, str]:
    addresses: dict[str, str] = {}
    for entry in entries:
        host, _, address = entry.partition(":")
        try:
            addresses[host.lower()] = str(ip_address(address.strip("[]")))
        except ValueError:
            raise ConfigurationError(f"--resolve {entry!r} is not HOST:ADDRESS") from None
    return addresses


def _dtls(options: Options) -> DTLSOptions:
    try:
        return DTLSOptions(
            enabled=not options["no_dtls"],
            psk=not options["no_dtls_psk"],
            legacy=options["legacy_dtls"],
            suites=_names(options["dtls_ciphers"]),
            suites12=_names(options["dtls12_ciphers"]),
        )
    except ValueError as error:
        raise ConfigurationError(f"--dtls-ciphers and --dtls12-ciphers: {error}") from None


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(given.split(":")) if given else ()


def _proxy(options: Options) -> ProxySettings | None:
    text = options["proxy"]
    if not text and not options["no_proxy"]:
        text = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or ""
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PROXY_PORTS or not parts.hostname:
        raise ConfigurationError(
            f"{text!r} is no proxy; write http://host:port or socks5://user:password@host:port"
        )
    try:
        return ProxySettings(
            kind="http" if parts.scheme == "http" else "socks5",
            host=parts.hostname,
            port=port or _PROXY_PORTS[parts.scheme],
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )
    except ValueError as error:
        raise ConfigurationError(f"--proxy: {error}") from None
