"""A whole file: what it means, and every way in which it can be wrong."""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Network
from pathlib import Path

from anyvpn.cli.init_certificates import make_certificates
from anyvpn.errors import ConfigurationError
from anyvpn.gateway.settings import ShutdownBehaviour
from anyvpn.plugins import backends
from anyvpn.tap.config import read_document
from tests.tap.set_up import ConfigurationCase


class GoodFileTests(ConfigurationCase):
    def test_settings_are_what_the_file_says(self) -> None:
        self.change("#keep_alive_s = 120", "keep_alive_s = 5")
        self.change("#[limits]", "[limits]")
        self.change('#shutdown = "resume"', 'shutdown = "disconnect"')
        self.change("#mtu_bytes = 1500", "mtu_bytes = 1400")
        self.change("#legacy = false", "legacy = true")
        self.change('#alias = ""', 'alias = "Staff"\ngroup_urls = ["/staff"]')
        loaded = self.set_up.load()
        settings = loaded.settings
        assert settings.name == "vpn.test"
        assert settings.limits.keep_alive_s == 5.0
        assert settings.shutdown is ShutdownBehaviour.DISCONNECT
        assert loaded.tun_mtu_bytes == 1400
        assert (settings.dtls.port, settings.dtls.psk, settings.dtls.legacy) == (4433, True, True)
        [binding] = settings.profiles
        assert (binding.profile.name, binding.profile.alias) == ("default", "Staff")
        assert binding.profile.group_urls == ("/staff",)
        assert settings.default_profile == "default"
        assert settings.addresses.gateway_addresses[0].network == IPv4Network("10.9.8.0/24")
        assert [each.text for each in loaded.listen] == ["tcp:0:interface=127.0.0.1"]
        assert loaded.datagrams == (("127.0.0.1", 4433),)
        assert len(settings.listeners) == 1

    def test_alias_is_the_name_when_it_is_not_given(self) -> None:
        assert self.set_up.load().settings.profiles[0].profile.alias == "default"

    def test_no_datagrams_without_dtls(self) -> None:
        self.change("#enabled = true", "enabled = false")
        assert self.set_up.load().datagrams == ()

    def test_sections_that_may_be_left_out_have_defaults(self) -> None:
        kept = ("gateway", "tls", "connection_profiles", "authenticators", "addresses", "dtls")
        tables = tomllib.loads(self.set_up.file.read_text())
        text = self.set_up.file.read_text()
        for key in tables:
            if key not in kept:
                text = "\n".join(_without(text.splitlines(), key))
        self.set_up.file.write_text(text)
        assert set(tomllib.loads(text)) == set(kept)
        loaded = self.set_up.load()
        assert loaded.backend_names["sessions"] == "sqlite"
        assert loaded.backend_names["listeners.0"] == "log"

    def test_virtual_hosts_have_their_own_certificate(self) -> None:
        other = make_certificates("other.test", ())
        (self.set_up.directory / "other.pem").write_bytes(other.server)
        (self.set_up.directory / "other-key.pem").write_bytes(other.server_key)
        for line in (
            "#[[tls.virtual_hosts]]",
            '#names = ["other.example.com"]',
            '#certificate = "other.pem"',
            '#key = "other-key.pem"',
        ):
            self.change(line, line[1:])
        contexts = self.set_up.load().contexts
        assert contexts.certificate_hash("other.example.com") != contexts.certificate_hash("")


class UnreadableFileTests(ConfigurationCase):
    def test_missing_file_is_named(self) -> None:
        self.set_up.file.unlink()
        assert self.only_problem() == "gateway.toml: cannot be read: No such file or directory"

    def test_directory_is_named(self) -> None:
        self.set_up.file.unlink()
        self.set_up.file.mkdir()
        assert self.only_problem() == "gateway.toml: cannot be read: Is a directory"

    def test_syntax_error_has_line_and_column(self) -> None:
        line = self.change("[tls]", "[tls")
        assert self.only_problem().startswith(f"gateway.toml:{line}:5: is not TOML: Expected ']'")

    def test_table_that_is_there_twice_is_told_with_both_lines(self) -> None:
        for text, said in (
            ('a = 1\n["b c".d]\n\n[e]\n["b c".d]', '5: ["b c".d] is there twice, first in line 2'),
            ("[a]\nb.c = 1\n[a.b]\n", "3: [a.b] is there twice, first in line 2"),
            ("[a]\n[a", "2: [a] is there twice, first in line 1"),
            ("[[a]]\n[a.b]\n[a.b]", "3: [a.b] is there twice"),
        ):
            self.set_up.file.write_text(text)
            assert self.only_problem() == f"gateway.toml:{said}"

    def test_file_that_ends_too_early_has_its_last_line(self) -> None:
        self.set_up.file.write_text('a = 1\nb = "')
        assert self.only_problem().startswith("gateway.toml:2:6: is not TOML")

    def test_file_in_another_encoding_has_the_line(self) -> None:
        self.set_up.file.write_bytes(b"a = 1\nb = '\xe4'\n")
        assert self.only_problem() == "gateway.toml:2: is not UTF-8 text"

    def test_absurd_nesting_and_size_are_refused(self) -> None:
        self.set_up.file.write_text("a = " + "[" * 100_000)
        assert self.only_problem() == "gateway.toml: is nested too deeply"
        with self.set_up.file.open("wb") as file:
            file.truncate(20_000_000)
        assert "larger" in self.only_problem()

    def test_relative_name_is_shown_in_full(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, f"^{Path.cwd()}/no.toml"):
            read_document(Path("no.toml"))


class WrongFileTests(ConfigurationCase):
    def test_all_problems_are_shown_at_once_in_the_order_of_the_file(self) -> None:
        lines = [
            self.change('name = "vpn.test"', 'name = ""'),
            self.change('certificate = "server.pem"', 'certificate = "nowhere.pem"'),
            self.change("#psk = true", "psk = 1"),
            self.change('authenticator = "password"', 'authenticator = "pasword"'),
            self.change("#dpd_s = 30", "dpd_s = -1"),
            self.change('network = "10.9.8.0/24"', 'network = "10.9.8.1/24"'),
            self.change('directory = "profiles"', 'directory = "no-profiles"'),
            self.change('#forwarding = "check"', 'forwarding = "yes"'),
            self.change('#omit = ["session_progress"]', 'omit = ["tls_fail"]'),
        ]
        found = self.problems()
        assert [int(each.split(":")[1]) for each in found if "no-profiles" not in each] == [
            each for each in lines if each != lines[6]
        ]
        for problem, words in zip(
            found,
            (
                "gateway.name: name must not be empty",
                "tls.certificate: cannot read nowhere.pem: No such file",
                "dtls.psk: must be true or false, not 1",
                'connection_profiles[0].authenticator: there is no authenticator "pasword"; '
                'did you mean "password"?',
                "authorizer.policies.default.dpd_s: dpd_s must lie between 0",
                'addresses.pools[0].network: 10.9.8.1/24 has host bits set; use "10.9.8.0/24"',
                "profiles: no-profiles/anyvpn.xml: cannot be read",
                "tun.forwarding: forwarding must be one of",
                'listeners[0].omit: there is no event "tls_fail", did you mean',
            ),
            strict=True,
        ):
            assert words in problem

    def test_unknown_table_is_told_what_it_may_mean(self) -> None:
        line = self.change("[tun]", "[tunn]")
        assert self.only_problem() == (
            f'gateway.toml:{line}: tunn: unknown table; did you mean "tun"?'
        )

    def test_key_under_a_header_that_is_still_a_comment_is_told_where_it_belongs(self) -> None:
        line = self.change("#keep_alive_s = 120", "keep_alive_s = 60")
        assert self.only_problem() == (
            f"gateway.toml:{line}: listeners[0].keep_alive_s: unknown key; it belongs into "
            "[limits]: this line must stand above it, without #"
        )

    def test_missing_tables_are_named(self) -> None:
        self.set_up.file.write_text("")
        found = self.problems()
        for header in (
            *("[gateway]", "[tls]", "[[connection_profiles]]", "[authenticators.NAME]"),
            "[addresses]",
        ):
            assert any(header in each for each in found), header
        assert len(found) == 5

    def test_empty_lists_of_profiles_and_authenticators_are_refused(self) -> None:
        self.set_up.file.write_text("connection_profiles = []\nauthenticators = {}\n")
        found = [each for each in self.problems() if "is empty" in each]
        assert [each.split(":")[1] for each in found] == ["1", "2"]

    def test_wrong_shapes_of_tables_are_refused(self) -> None:
        self.set_up.file.write_text(
            "gateway = 1\nconnection_profiles = [1]\nauthenticators = {a = 1}\ntls = []\n"
        )
        found = [each for each in self.problems() if "must be a table" in each]
        assert [each.split(":")[1] for each in found] == ["1", "2", "3", "4"]

    def test_unknown_and_missing_backends_are_told_what_there_is(self) -> None:
        line = self.change('backend = "password_file"', 'backend = "passwordfile"')
        names = [each.name for each in backends() if each.kind == "authenticator"]
        assert self.only_problem() == (
            f"gateway.toml:{line}: authenticators.password.backend: there is no authenticator "
            'backend "passwordfile"; did you mean "password_file"? '
            f"(there are {', '.join(names)})"
        )
        line = self.change('backend = "passwordfile"', "")
        quoted = ", ".join(f'"{each}"' for each in names)
        assert f"is missing; it must name one of {quoted}" in self.only_problem()

    def test_numbers_out_of_range_are_refused(self) -> None:
        self.change("#[limits]", "[limits]")
        self.change("#handshake_time_s = 10", "handshake_time_s = 0")
        self.change("#failures_before_ban = 20", "failures_before_ban = 0")
        self.change("#mtu_bytes = 1500", "mtu_bytes = 100")
        self.change("port = 4433", "port = 65536")
        found = self.problems()
        assert len(found) == 3
        assert "dtls.port: port must lie between 1 and 65535" in found[0]
        assert "tun.mtu_bytes: mtu_bytes must lie between 1280 and 9000" in found[1]
        assert "limits.handshake_time_s: handshake_time_s must be more than 0" in found[2]

    def test_bad_lines_of_the_user_file_are_shown(self) -> None:
        (self.set_up.directory / "users").write_text("alice:nothing\nbob\n")
        found = self.problems()
        assert len(found) == 2
        assert "authenticators.password: users:1: " in found[0]
        assert "authenticators.password: users:2: " in found[1]

    def test_settings_that_contradict_each_other_are_placed_at_their_key(self) -> None:
        line = self.change('#nat_interface = ""', 'nat_interface = "eth0"')
        assert self.only_problem() == (
            f"gateway.toml:{line}: tun.nat_interface: nat_interface is set, but nat is off: "
            "set nat = true"
        )


class CertificateTests(ConfigurationCase):
    def test_certificate_that_does_not_fit_the_key_is_named(self) -> None:
        line = self.change('certificate = "server.pem"', 'certificate = "ca.pem"')
        problem = self.only_problem()
        assert problem.startswith(f"gateway.toml:{line}: tls.certificate: ca.pem does not fit")
        assert "server-key.pem" in problem

    def test_certificate_of_a_virtual_host_has_its_own_line(self) -> None:
        for line in (
            "#[[tls.virtual_hosts]]",
            '#names = ["other.example.com"]',
            '#certificate = "other.pem"',
        ):
            self.change(line, line[1:])
        number = self.change('#key = "other-key.pem"', 'key = "server-key.pem"')
        assert self.only_problem().startswith(
            f"gateway.toml:{number - 2}: tls.virtual_hosts[0].certificate: cannot read other.pem"
        )

    def test_host_name_with_two_certificates_is_refused(self) -> None:
        self.change(
            "#[[tls.virtual_hosts]]",
            "".join(
                f'[[tls.virtual_hosts]]\nnames = ["{name}"]\n'
                'certificate = "server.pem"\nkey = "server-key.pem"\n'
                for name in ("a.test", "A.test")
            ),
        )
        assert 'virtual_hosts[1].names[0]: "A.test" has a certificate' in self.only_problem()

    def test_ciphers_and_client_ca_are_looked_at(self) -> None:
        self.change('#ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20"', 'ciphers = "none"')
        self.change('#client_ca = "client-ca.pem"', 'client_ca = "users"')
        found = self.problems()
        assert any("tls.client_ca: users holds no PEM certificate" in each for each in found)
        assert any("tls.ciphers: 'none' names no cipher" in each for each in found)


def _without(lines: list[str], key: str) -> list[str]:
    """The file without the tables of a section."""
    kept, inside = [], False
    for line in lines:
        if line.startswith("["):
            inside = line.strip("[]").split(".")[0] == key
        if not inside:
            kept.append(line)
    return kept
