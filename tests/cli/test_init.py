"""`anyvpn init`: a set-up that works, or nothing at all."""

from __future__ import annotations

import errno
import os
import pty
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from anyvpn.backends.authenticator_password_file_users import matches, read_users
from anyvpn.cli import init_files
from anyvpn.cli.init_certificates import make_certificates
from anyvpn.cli.init_plan import check_host_name, random_networks
from anyvpn.errors import ConfigurationError
from anyvpn.tap.config_build import load_gateway
from anyvpn.wire.client_profile import read_client_profile
from tests.cli.test_main import CommandCase
from tests.tap.set_up import Reactor

REPOSITORY = Path(__file__).parents[2]


class InitCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = self.directory / "etc" / "gateway"
        self.complete = (
            *("init", str(self.target), "--name", "vpn.test", "--user", "alice"),
            *("--listen", "tcp:4443", "--listen", r"tcp:4443:interface=\:\:"),
            *("--password-file", "-"),
        )


class SetUpTests(InitCase):
    def test_set_up_works_as_it_is(self) -> None:
        said = self.succeed(*self.complete, stdin="secret word\n")
        loaded = load_gateway(self.target / "gateway.toml", Reactor())
        assert loaded.settings.name == "vpn.test"
        assert loaded.settings.dtls.port == 4443
        assert loaded.datagrams == (("::", 4443),)
        assert matches(read_users(self.target / "users")["alice"].password_hash, "secret word")
        assert f"anyvpn-gateway --config {self.target}/gateway.toml" in said
        assert (
            f"openconnect --cafile {self.target}/ca.pem --user alice https://vpn.test:4443\n"
            in said
        )
        assert "secret" not in said

    def test_secrets_are_readable_by_their_owner_alone(self) -> None:
        self.succeed(*self.complete, stdin="x\n")
        for name in ("ca-key.pem", "server-key.pem", "users"):
            assert (self.target / name).stat().st_mode & 0o777 == 0o600, name
        assert self.target.stat().st_mode & 0o777 == 0o700

    def test_client_profile_leads_to_the_gateway(self) -> None:
        self.succeed(*self.complete, stdin="x\n")
        profile = read_client_profile((self.target / "profiles" / "anyvpn.xml").read_bytes())
        [server] = profile.servers
        assert (server.name, server.address) == ("vpn.test", "vpn.test:4443")

    def test_certificate_is_good_for_the_name_and_fits_the_key(self) -> None:
        self.succeed(*self.complete, stdin="x\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.target / "server.pem", self.target / "server-key.pem")
        ca = x509.load_pem_x509_certificate((self.target / "ca.pem").read_bytes())
        server = x509.load_pem_x509_certificate((self.target / "server.pem").read_bytes())
        policy = PolicyBuilder().store(Store([ca]))
        policy.build_server_verifier(x509.DNSName("vpn.test")).verify(server, [])

    def test_default_is_port_443_at_all_addresses(self) -> None:
        self.succeed(
            *("init", str(self.target), "--name", "VPN.Test.", "--user", "a"),
            *("--password-file", "-"),
            stdin="x\n",
        )
        loaded = load_gateway(self.target / "gateway.toml", Reactor())
        assert loaded.listen[0].text == "tcp:443"
        assert loaded.settings.name == "vpn.test"

    def test_existing_directory_is_used_and_left_as_it_is(self) -> None:
        self.target.mkdir(parents=True, mode=0o755)
        (self.target / "other").write_text("mine")
        self.succeed(*self.complete, stdin="x\n")
        assert (self.target / "other").read_text() == "mine"
        assert (self.target / "gateway.toml").exists()


class RefusalTests(InitCase):
    def test_nothing_is_overwritten(self) -> None:
        for name in ("gateway.toml", "ca.pem", "users"):
            with self.subTest(name):
                self.target.mkdir(parents=True, exist_ok=True)
                (self.target / name).write_text("mine")
                line = self.fail_with(*self.complete, stdin="x\n")
                assert line == (
                    f"anyvpn: {self.target / name}: is there already; nothing is overwritten"
                )
                assert [each.name for each in self.target.iterdir()] == [name]
                assert (self.target / name).read_text() == "mine"
                (self.target / name).unlink()

    def test_failure_half_way_leaves_nothing_behind(self) -> None:
        self.target.mkdir(parents=True)
        (self.target / "profiles").write_text("a file where a directory must be")
        self.fail_with(*self.complete, stdin="x\n")
        assert [each.name for each in self.target.iterdir()] == ["profiles"]

    def test_a_full_disk_is_told_with_the_file(self) -> None:
        with patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "No space left")):
            said = self.fail_with(*self.complete, stdin="x\n")
        assert f"{self.target / 'ca.pem'}: cannot be written: No space left" in said

    def test_interrupt_leaves_nothing_behind(self) -> None:
        with patch.object(init_files, "add_user", side_effect=KeyboardInterrupt):
            result = self.run_command(*self.complete, stdin="x\n")
        assert result.exit_code == 130
        assert list(self.directory.iterdir()) == []

    def test_bad_password_leaves_nothing_behind(self) -> None:
        assert "1024" in self.fail_with(*self.complete, stdin="x" * 1025 + "\n")
        assert list(self.directory.iterdir()) == []

    def test_file_in_place_of_the_directory_is_named(self) -> None:
        self.target.parent.write_text("")
        assert str(self.target.parent) in self.fail_with(*self.complete, stdin="x\n")

    def test_missing_values_are_named_when_nobody_can_be_asked(self) -> None:
        start = ("init", str(self.target))
        assert "--name is needed" in self.fail_with(*start)
        assert "--user is needed" in self.fail_with(*start, "--name", "vpn.test")
        assert "--password-file" in self.fail_with(*start, "--name", "vpn.test", "--user", "a")

    def test_bad_names_and_endpoints_are_refused(self) -> None:
        for name in ("a b", "-x.test", "x..test", "x" * 64 + ".test", "https://vpn.test", "é.test"):
            assert "must be a host name" in self.fail_with("init", self.target, "--name", name)
        result = self.run_command(
            "init", self.target, "--name", "a", "--listen", "tls:1", "--listen", "443"
        )
        assert result.exit_code == 1
        assert [line.startswith("anyvpn: --listen ") for line in result.stderr.splitlines()] == [
            True,
            True,
        ]

    def test_bad_user_name_leaves_nothing_behind(self) -> None:
        assert "user name must" in self.fail_with(
            "init", self.target, "--name", "a", "--user", "a b", "--password-file", "-", stdin="x\n"
        )
        assert list(self.directory.iterdir()) == []


class TerminalTests(InitCase):
    def test_what_is_missing_is_asked_for_and_the_password_twice(self) -> None:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "anyvpn.cli.main", "init", str(self.target)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=REPOSITORY,
            start_new_session=True,
        )
        os.close(slave)
        self.addCleanup(os.close, master)
        said = ""
        for question, answer in (
            ("Name by which clients reach", "vpn.test"),
            ("Name of the first user", "alice"),
            ("Password for alice", "one"),
            ("The same again", "other"),
            ("Password for alice", "same secret"),
            ("The same again", "same secret"),
        ):
            said = self.read_until(master, question)
            os.write(master, f"{answer}\n".encode())
        said = self.read_until(master, "Keep ")
        assert "same secret" not in said
        assert process.wait(20) == 0
        assert matches(read_users(self.target / "users")["alice"].password_hash, "same secret")

    def read_until(self, descriptor: int, text: str) -> str:
        said = ""
        while not re.search(f"{text}.*: |{text}.*\n", said):
            try:
                said += os.read(descriptor, 4096).decode()
            except OSError:  # what Linux says when the other end is closed
                raise AssertionError(f"it ended instead of saying {text!r}: {said}") from None
        return said


class CertificateTests(InitCase):
    def test_server_certificate_has_what_clients_look_for(self) -> None:
        now = datetime.now(UTC)
        made = make_certificates("vpn.test", [ip_address("192.0.2.1"), ip_address("fd00::1")], now)
        server = x509.load_pem_x509_certificate(made.server)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["vpn.test"]
        assert names.get_values_for_type(x509.IPAddress) == [
            ip_address("192.0.2.1"),
            IPv6Address("fd00::1"),
        ]
        key = server.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
        usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
        life = server.not_valid_after_utc - server.not_valid_before_utc
        assert life <= timedelta(days=825)
        assert server.not_valid_before_utc < now

    def test_authority_signs_nothing_but_certificates_for_ten_years(self) -> None:
        ca = x509.load_pem_x509_certificate(make_certificates("vpn.test", ()).ca)
        constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (constraints.ca, constraints.path_length) == (True, 0)
        years = (ca.not_valid_after_utc - ca.not_valid_before_utc) / timedelta(days=365.25)
        assert 9.9 < years < 10.1

    def test_address_as_name_is_an_address_in_the_certificate(self) -> None:
        made = make_certificates("fd00::1", [ip_address("fd00::1")])
        server = x509.load_pem_x509_certificate(made.server)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == []
        assert names.get_values_for_type(x509.IPAddress) == [IPv6Address("fd00::1")]

    def test_keys_are_not_shown(self) -> None:
        assert "PRIVATE" not in repr(make_certificates("vpn.test", ()))

    def test_long_name_still_gives_a_certificate(self) -> None:
        name = ".".join(["x" * 60] * 4)
        assert check_host_name(name) == name
        server = x509.load_pem_x509_certificate(make_certificates(name, ()).server)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]


class NameTests(InitCase):
    def test_names_and_addresses_are_brought_into_one_form(self) -> None:
        assert check_host_name("VPN.Example.com.") == "vpn.example.com"
        assert check_host_name("192.0.2.1") == "192.0.2.1"
        assert check_host_name("[FD00::0001]") == "fd00::1"
        with self.assertRaises(ConfigurationError):
            check_host_name("")

    def test_networks_are_private_and_differ(self) -> None:
        made = {random_networks() for _ in range(20)}
        assert len(made) > 15
        for ipv4, ipv6 in made:
            assert str(ipv4).startswith("10.")
            assert ipv4.prefixlen == 24
            assert str(ipv6).startswith("fd")
            assert ipv6.prefixlen == 64
            assert ipv6.is_private
