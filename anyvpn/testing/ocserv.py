"""Debian's ocserv in a network namespace, with the configuration that a test wants."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

EXECUTABLE = "/usr/sbin/ocserv"
NAME = "vpn.test"
PORT = 4443
PASSWORD = "test-pass"
START_TIME_S = 15.0

_DEFAULTS: Mapping[str, str | Sequence[str]] = {
    "auth": "plain[passwd=./passwd]",
    "tcp-port": str(PORT),
    "udp-port": str(PORT),
    "run-as-user": "nobody",
    "run-as-group": "daemon",
    "socket-file": "./socket",
    "server-cert": "./server.pem",
    "server-key": "./server.key",
    "ca-cert": "./ca.pem",
    "isolate-workers": "false",
    "max-clients": "0",
    "max-same-clients": "0",
    "keepalive": "20",
    "dpd": "10",
    "try-mtu-discovery": "false",
    "cert-user-oid": "0.9.2342.19200300.100.1.1",
    "cert-group-oid": "2.5.4.11",
    "tls-priorities": "NORMAL:%SERVER_PRECEDENCE:%COMPAT:-VERS-TLS1.0:-VERS-TLS1.1",
    "auth-timeout": "240",
    "max-ban-score": "0",
    "cookie-timeout": "300",
    "deny-roaming": "false",
    "rekey-time": "172800",
    "rekey-method": "ssl",
    "use-occtl": "true",
    "occtl-socket-file": "./occtl.sock",
    "pid-file": "./ocserv.pid",
    "device": "ocs",
    "predictable-ips": "true",
    "ipv4-network": "192.168.77.0",
    "ipv4-netmask": "255.255.255.0",
    "ipv6-network": "fd00:77::/64",
    "ping-leases": "false",
    "cisco-client-compat": "true",
    "dtls-legacy": "true",
    "compression": "false",
}


class Ocserv:
    """An ocserv's directory, and its process, which may be started again and again.

    `changes` lay over the defaults; a sequence becomes a line for each value, None takes a key
    away. `certificate` and `certificate_key` are a user's, of user "alice" in group "staff".
    """

    gateway_address = "192.168.77.1"
    gateway_address_ipv6 = "fd00:77::1"

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        addresses: Sequence[str],
        users: Sequence[str] = ("alice", "bob"),
        changes: Mapping[str, str | Sequence[str] | None] | None = None,
        profile: bytes = b"",
    ) -> None:
        self.namespace = namespace
        self.directory = directory
        self._program: Program | None = None
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.pem")
        server = authority.issue_cert(NAME, *addresses)
        server.private_key_pem.write_to_path(directory / "server.key")
        (directory / "server.pem").write_bytes(
            b"".join(each.bytes() for each in server.cert_chain_pems)
        )
        self._write_user_certificate(authority)
        for user in users:
            self.set_password(user, PASSWORD)
        if profile:
            (directory / "profile.xml").write_bytes(profile)
        settings = {**_DEFAULTS, **(changes or {})}
        lines = []
        for key, value in settings.items():
            values = [value] if isinstance(value, str) else value or []
            lines += [f"{key} = {each}" for each in values]
        (directory / "ocserv.conf").write_text("\n".join([*lines, ""]))

    @property
    def ca_file(self) -> Path:
        """What clients trust."""
        return self.directory / "ca.pem"

    @property
    def certificate(self) -> Path:
        """A user's certificate."""
        return self.directory / "user.pem"

    @property
    def certificate_key(self) -> Path:
        """Its key."""
        return self.directory / "user.key"

    @property
    def program(self) -> Program:
        """The running process."""
        assert self._program is not None, "not started"
        return self._program

    def set_password(self, user: str, password: str, group: str = "") -> None:
        """Add a user, or change the password of one."""
        command = ["ocpasswd", "-c", "passwd", *(["-g", group] if group else []), user]
        subprocess.run(
            command,
            input=f"{password}\n{password}\n",
            text=True,
            cwd=self.directory,
            check=True,
            capture_output=True,
        )

    def start(self, *options: str) -> None:
        """Start the process and wait until it serves."""
        self._program = Program(
            "ocserv",
            self.namespace.command(
                [EXECUTABLE, "-f", "-d", "3", *options, "-c", str(self.directory / "ocserv.conf")]
            ),
            directory=self.directory,
        )
        self._program.wait_for("listening \\(UDP\\)|initialized ocserv", limit_s=START_TIME_S)

    def occtl(self, *arguments: str) -> str:
        """Ask or tell the running process something."""
        command = ["occtl", "-s", str(self.directory / "occtl.sock"), *arguments]
        return self.namespace.run(*command)

    def stop(self) -> None:
        """End it as an operator does."""
        if self._program is not None:
            program, self._program = self._program, None
            program.stop(signal.SIGTERM)  # clients are told nothing, and try to come back

    def kill(self) -> None:
        """End it as a power cut does."""
        program, self._program = self.program, None
        program.kill()

    def _write_user_certificate(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert(common_name="Alice", organization_unit_name="staff")
        # ocserv takes the user from the UID, which trustme does not write
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        ca_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
        ca = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        original = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "Alice"),
                x509.NameAttribute(NameOID.USER_ID, "alice"),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "staff"),
            ]
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca.subject)
            .public_key(key.public_key())  # type: ignore[arg-type]  # of a kind that trustme makes
            .serial_number(original.serial_number)
            .not_valid_before(original.not_valid_before_utc)
            .not_valid_after(original.not_valid_after_utc)
            .add_extension(
                x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
            .sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]  # likewise
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.private_key_pem.write_to_path(self.certificate_key)
