"""Debian's slapd with a small organisation in it, as a real LDAP directory for tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program, wait_until

# From Debian
_SCHEMA = Path("/etc/ldap/schema")
_MODULES = Path("/usr/lib/ldap")

# Ours
SUFFIX = "dc=example,dc=com"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
SERVICE = f"cn=vpn,{SUFFIX}"
ADMIN = f"cn=admin,{SUFFIX}"
SERVICE_PASSWORD = "service-pass"
ADMIN_PASSWORD = "admin-pass"

_CONFIGURATION = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
pidfile {directory}/slapd.pid
modulepath {modules}
moduleload back_mdb
moduleload memberof
moduleload ppolicy
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSVerifyClient never
sizelimit 50
database mdb
suffix "{suffix}"
rootdn "{admin}"
rootpw {admin_password}
directory {directory}/data
maxsize 10485760
access to attrs=userPassword by self write by anonymous auth by * none
access to * by dn.exact="{service}" read by self read by * none
overlay memberof
overlay ppolicy
ppolicy_default "cn=default,{suffix}"
ppolicy_use_lockout
"""

_ENTRIES = """
dn: {suffix}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {admin}
objectClass: organizationalRole
cn: admin

dn: {service}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: vpn
userPassword: {service_password}

dn: cn=default,{suffix}
objectClass: device
objectClass: pwdPolicyChecker
objectClass: pwdPolicy
cn: default
pwdAttribute: userPassword
pwdMinLength: 8
pwdCheckQuality: 1
pwdInHistory: 3
pwdMaxFailure: 5
pwdLockout: TRUE
pwdMustChange: TRUE
pwdAllowUserChange: TRUE

dn: cn=strict,{suffix}
objectClass: device
objectClass: pwdPolicy
cn: strict
pwdAttribute: userPassword
pwdMaxAge: 1
pwdAllowUserChange: TRUE

dn: cn=grace,{suffix}
objectClass: device
objectClass: pwdPolicy
cn: grace
pwdAttribute: userPassword
pwdMaxAge: 1
pwdGraceAuthNLimit: 5
pwdAllowUserChange: TRUE

dn: {people}
objectClass: organizationalUnit
ou: people

dn: {groups}
objectClass: organizationalUnit
ou: groups
"""


def person(name: str, password: str, *lines: str) -> str:
    """An entry of somebody, with further lines of LDIF."""
    more = "".join(f"{line}\n" for line in lines)
    return (
        f"dn: uid={name},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\n"
        f"sn: {name}\nuserPassword: {password}\n{more}"
    )


def group(name: str, *members: str) -> str:
    """An entry of a group, with the DNs of its members."""
    lines = "".join(f"member: {each}\n" for each in members)
    return f"dn: cn={name},{GROUPS}\nobjectClass: groupOfNames\ncn: {name}\n{lines}"


class Slapd:
    """The server, which may be killed and started again; it answers on two ports."""

    def __init__(
        self,
        directory: Path,
        *,
        address: str,
        certificate: Path,
        key: Path,
        namespace: Namespace | None = None,
        port: int = 389,
        tls_port: int = 636,
    ) -> None:
        self._directory = directory
        self._namespace = namespace
        self.address = address
        self.port = port
        self.tls_port = tls_port
        self._program: Program | None = None
        (directory / "data").mkdir(parents=True)
        self._names = {
            "suffix": SUFFIX,
            "people": PEOPLE,
            "groups": GROUPS,
            "service": SERVICE,
            "service_password": SERVICE_PASSWORD,
            "admin": ADMIN,
            "admin_password": ADMIN_PASSWORD,
        }
        self._file = directory / "slapd.conf"
        self._file.write_text(
            _CONFIGURATION.format(
                schema=_SCHEMA,
                modules=_MODULES,
                directory=directory,
                certificate=certificate,
                key=key,
                **self._names,
            )
        )
        entries = _ENTRIES.format(**self._names)
        self._run(["slapadd", "-f", str(self._file)], entries)

    def start(self) -> None:
        """Start it and wait until it answers."""
        urls = f"ldap://{self.address}:{self.port} ldaps://{self.address}:{self.tls_port}"
        command = ["slapd", "-d", "stats", "-f", str(self._file), "-h", urls]
        self._program = Program("slapd", self._here(command))
        self._program.wait_for("slapd starting")
        wait_until(self._answers, "slapd answers")  # it says so before it listens

    def add(self, *entries: str) -> None:
        """Add entries as the administrator, so that overlays see them."""
        self._run(self._client("ldapadd"), "\n".join(entries))

    def modify(self, changes: str) -> None:
        """Apply changes in LDIF as the administrator."""
        self._run(self._client("ldapmodify"), changes)

    @property
    def program(self) -> Program:
        """The running server."""
        assert self._program is not None, "not started"
        return self._program

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.program.kill()

    def _answers(self) -> bool:
        url = f"ldap://{self.address}:{self.port}"
        asked = self._here(["ldapwhoami", "-x", "-H", url])
        return subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0

    def _client(self, name: str) -> list[str]:
        url = f"ldap://{self.address}:{self.port}"
        return [name, "-x", "-H", url, "-D", ADMIN, "-w", ADMIN_PASSWORD]

    def _here(self, command: Sequence[str]) -> list[str]:
        return list(command) if self._namespace is None else self._namespace.command(command)

    def _run(self, command: Sequence[str], text: str) -> None:
        done = subprocess.run(
            self._here(command), input=text, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
