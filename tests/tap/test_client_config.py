"""A client's configuration file: what it becomes, and every problem at once."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from twisted.internet.testing import MemoryReactor
from zope.interface.verify import verifyObject

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IAdapterBackend, IResponder
from anyvpn.tap.client_config import ClientSetUp, read_client_config

PIN = "pin-sha256:" + "A" * 43 + "="
WHOLE = f"""
[client]
url = "vpn.test:4443/staff"
group = "Staff"
resolve = {{ "VPN.test" = "192.0.2.1" }}
profile_directory = "profiles"
profiles_required = false
ipv6 = false
reconnect_time_s = 5

[trust]
system_trust = false
pins = ["{PIN}"]

[dtls]
psk = false
legacy = true

[[responders]]
backend = "given"
username = "alice"
password = "secret"

[adapter]
backend = "namespace"
offloads = false
"""


class ClientConfigTests(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name, "client.toml")

    def read(self, text: str) -> ClientSetUp:
        self.file.write_text(text)
        return read_client_config(self.file, MemoryReactor())

    def problems(self, text: str) -> list[str]:
        with self.assertRaises(ConfigurationError) as caught:
            self.read(text)
        prefix = f"{self.file}:"
        for each in caught.exception.problems:
            self.assertTrue(each.startswith(prefix), each)
        return [each.removeprefix(prefix) for each in caught.exception.problems]

    def test_a_whole_file(self) -> None:
        found = self.read(WHOLE)
        settings = found.settings
        self.assertEqual(found.url, GatewayURL("vpn.test", 4443, "/staff"))
        verifyObject(IResponder, found.responder)
        verifyObject(IAdapterBackend, found.adapters)
        self.assertEqual(settings.group, "Staff")
        self.assertEqual(dict(settings.resolve), {"vpn.test": "192.0.2.1"})
        self.assertEqual(settings.profile_directory, self.file.parent / "profiles")
        self.assertEqual(
            (settings.profiles_required, settings.ipv6, settings.reconnect_time_s),
            (False, False, 5.0),
        )
        self.assertEqual((settings.trust.pins, settings.trust.system_trust), ((PIN,), False))
        self.assertEqual(
            (settings.dtls.enabled, settings.dtls.psk, settings.dtls.legacy), (True, False, True)
        )

    def test_one_line_is_enough(self) -> None:
        found = self.read('[client]\nurl = "vpn.test"\n')
        self.assertEqual(str(found.url), "https://vpn.test/")
        self.assertTrue(found.settings.trust.system_trust)

    def test_every_problem_is_told_with_its_line(self) -> None:
        found = self.problems(
            '[client]\nurl = "http://vpn.test"\nresolve = { h = "nowhere" }\n'
            'certificate = "missing.pem"\n[trust]\npins = ["x"]\n[dtls]\nallow = true\n'
            '[[responders]]\nbackend = "telepathy"\n[gateway]\nname = "x"\n'
        )
        for number, part in (
            (2, "client.url"),
            (3, "must be an IP address"),
            (4, "missing.pem"),
            (5, "is no pin"),
            (8, "dtls.allow: unknown key"),
            (10, "telepathy"),
            (11, "gateway: unknown table"),
        ):
            lines = [each for each in found if each.startswith(f"{number}:")]
            self.assertTrue(any(part in each for each in lines), (number, part, found))

    def test_a_key_without_its_certificate(self) -> None:
        [problem] = self.problems('[client]\nurl = "vpn.test"\nkey = "k.pem"\n')
        self.assertIn("client.key", problem)

    def test_a_password_does_not_get_into_a_problem(self) -> None:
        found = self.problems(WHOLE.replace('"vpn.test:4443/staff"', "1"))
        self.assertNotIn("secret", "".join(found))

    def test_no_gateway(self) -> None:
        [problem] = self.problems("")
        self.assertIn("[client]", problem)
