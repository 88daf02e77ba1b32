"""Tests of anyvpn.cli.connect_options: what options mean, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from anyvpn.cli.connect import connect
from anyvpn.cli.connect_options import find_gateways, read_settings, verbosity_of
from anyvpn.client.settings import ProxySettings
from anyvpn.errors import ConfigurationError

PIN = "pin-sha256:" + "A" * 43 + "="


def options(*arguments: str) -> dict[str, Any]:
    """The options as the command gets them."""
    context = connect.make_context("connect", ["vpn.example.com", *arguments])
    return dict(context.params)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no profile is stored yet, and no proxy is named."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class FileTests:
    def test_a_password_file_is_there_before_anybody_is_asked(self, home: Path) -> None:
        for path, why in ((home / "nosuch", "does not exist"), (home, "is a directory")):
            with pytest.raises(click.BadParameter, match=why):
                options("--password-file", str(path))


class SettingsTests:
    def test_an_ordinary_user_gives_none(self, home: Path) -> None:
        settings = read_settings(options())
        assert settings.protocol_version == 0
        assert settings.trust.system_trust and not settings.trust.allow_untrusted
        assert settings.trust.first_use_file is None
        assert settings.dtls.enabled and settings.dtls.psk and not settings.dtls.legacy
        assert settings.compression == ()
        assert settings.minimum_tls_version == "1.2"
        assert settings.profile_directory == home / "anyvpn" / "profiles"
        assert settings.profiles_required
        assert settings.proxy is None
        assert not settings.follow_traffic

    def test_each_goes_where_it_belongs(self, home: Path) -> None:
        settings = read_settings(
            options(
                *("--authgroup", "staff", "--no-xmlpost", "--servercert", PIN),
                *("--trust-on-first-use", "--no-system-trust", "--cafile", "ca.pem"),
                *("--no-dtls-psk", "--legacy-dtls", "--compression", "all", "--disable-ipv6"),
                *("--mtu", "1300", "--base-mtu", "1400", "--force-dpd", "7", "--no-profile"),
                *("--reconnect-timeout", "11", "--tls-version", "1.3", "--ciphers", "ECDHE"),
                *("--useragent", "AnyConnect Linux", "--version-string", "v5", "--os", "win"),
                *("--local-hostname", "desk", "-vv"),
            )
        )
        assert (settings.group, settings.protocol_version) == ("staff", 1)
        assert settings.trust.pins == (PIN,)
        assert settings.trust.first_use_file == home / "anyvpn" / "known-gateways"
        assert not settings.trust.system_trust
        assert settings.trust.ca_file == Path("ca.pem")
        assert not settings.dtls.psk and settings.dtls.legacy
        assert settings.compression == ("oc-lz4", "lzs", "deflate")
        assert not settings.ipv6
        assert (settings.mtu_bytes, settings.base_mtu_bytes) == (1300, 1400)
        assert (settings.dpd_s, settings.reconnect_time_s) == (7, 11)
        assert not settings.profiles_required
        assert (settings.minimum_tls_version, settings.tls_ciphers) == ("1.3", "ECDHE")
        client = settings.description
        assert (client.user_agent, client.version, client.platform) == (
            "AnyConnect Linux",
            "v5",
            "win",
        )
        assert settings.hostname == "desk"
        assert settings.follow_traffic

    def test_suites_are_a_list(self) -> None:
        dtls = read_settings(options("--dtls-ciphers", "AES256-SHA:AES128-SHA")).dtls
        assert dtls.suites == ("AES256-SHA", "AES128-SHA")

    def test_addresses_of_hosts(self) -> None:
        given = ("--resolve", "VPN.example.com:192.0.2.1", "--resolve", "b:[2001:db8::1]")
        resolve = read_settings(options(*given)).resolve
        assert dict(resolve) == {"vpn.example.com": "192.0.2.1", "b": "2001:db8::1"}

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (("--resolve", "vpn.example.com"), "--resolve 'vpn.example.com' is not HOST:ADDRESS"),
            (("--resolve", "a:b"), "is not HOST:ADDRESS"),
            (("--proxy", "ftp://a:1"), "'ftp://a:1' is no proxy"),
            (("--proxy", "http://:8080"), "is no proxy"),
            (("--proxy", "http://a:99999"), "is no proxy"),
            (("--proxy", f"socks5://{'a' * 256}@b"), "--proxy: a proxy's host, user name"),
            (("--dtls-ciphers", "RC4"), "--dtls-ciphers and --dtls12-ciphers: there is no 'RC4'"),
            (("--sslkey", "key.pem"), "--sslkey is given as often as --certificate"),
            (("--certificate", "/nowhere/a.pem"), "/nowhere/a.pem"),
        ],
    )
    def test_wrong_ones_are_named(self, given: tuple[str, ...], complaint: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            read_settings(options(*given))
        assert complaint in str(raised.value)

    def test_how_much_is_said(self) -> None:
        assert [verbosity_of(options(*each)) for each in ((), ("-v",), ("-vv",), ("-q",))] == [
            *(0, 1, 2, -1)
        ]


class ProxyTests:
    @pytest.mark.parametrize(
        ("text", "proxy"),
        [
            ("http://proxy.example", ProxySettings("http", "proxy.example", 8080)),
            ("proxy.example:3128", ProxySettings("http", "proxy.example", 3128)),
            ("socks5://[2001:db8::1]", ProxySettings("socks5", "2001:db8::1", 1080)),
            (
                "socks5://al%40b:p%3Aw@proxy.example:9",
                ProxySettings("socks5", "proxy.example", 9, "al@b", "p:w"),
            ),
        ],
    )
    def test_a_url_names_it(self, text: str, proxy: ProxySettings) -> None:
        assert read_settings(options("--proxy", text)).proxy == proxy

    def test_the_environment_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
        assert read_settings(options()).proxy == ProxySettings("http", "proxy.example", 3128)
        assert read_settings(options("--no-proxy")).proxy is None


class CertificateTests:
    def write(self, directory: Path, name: str) -> Path:
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(common_name=name)
        path = directory / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def test_one_is_the_users(self, tmp_path: Path) -> None:
        settings = read_settings(options("--certificate", str(self.write(tmp_path, "alice"))))
        [credential] = settings.credentials
        assert "alice" in credential.subject
        assert settings.machine_credential is None

    def test_there_may_be_several(self, tmp_path: Path) -> None:
        paths = [str(self.write(tmp_path, name)) for name in ("alice", "bob")]
        settings = read_settings(options("-c", paths[0], "-c", paths[1]))
        assert len(settings.credentials) == 2
        settings = read_settings(options("-c", paths[0], "-k", paths[0]))
        assert len(settings.credentials) == 1

    def test_a_users_beside_a_machines_needs_one_of_a_machine(self, tmp_path: Path) -> None:
        path = str(self.write(tmp_path, "alice"))
        for given in (("--mca-certificate", path), ("-c", path, "-c", path)):
            with pytest.raises(ConfigurationError, match="needs one --certificate"):
                read_settings(options(*given, "--mca-certificate", path))

    def test_with_a_second_the_first_is_the_machines(self, tmp_path: Path) -> None:
        machine, user = self.write(tmp_path, "laptop"), self.write(tmp_path, "alice")
        settings = read_settings(
            options("--certificate", str(machine), "--mca-certificate", str(user))
        )
        assert settings.machine_credential is not None
        assert "laptop" in settings.machine_credential.subject
        [credential] = settings.credentials
        assert "alice" in credential.subject


class GatewayTests:
    def test_a_url_is_a_gateway(self) -> None:
        assert [str(each) for each in find_gateways("vpn.example.com:444/staff", options())] == [
            "https://vpn.example.com:444/staff"
        ]

    def test_a_group_of_the_url_can_be_given_apart(self) -> None:
        [url] = find_gateways("vpn.example.com", options("--usergroup", "staff"))
        assert str(url) == "https://vpn.example.com/staff"

    def test_a_name_leads_to_its_gateway_and_the_backups(self, home: Path) -> None:
        directory = home / "anyvpn" / "profiles" / "vpn.example.com"
        directory.mkdir(parents=True)
        (directory / "work.xml").write_text(
            '<AnyConnectProfile xmlns="http://schemas.xmlsoap.org/encoding/"><ServerList>'
            "<HostEntry><HostName>Work</HostName><HostAddress>vpn.example.com</HostAddress>"
            "<UserGroup>staff</UserGroup><BackupServerList>"
            "<HostAddress>vpn2.example.com/other</HostAddress></BackupServerList>"
            "</HostEntry></ServerList></AnyConnectProfile>"
        )
        assert [str(each) for each in find_gateways("Work", options())] == [
            "https://vpn.example.com/staff",
            "https://vpn2.example.com/other",
        ]
