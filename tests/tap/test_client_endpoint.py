"""Endpoint strings: what they become, and what is shared."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from twisted.internet.endpoints import clientFromString
from twisted.internet.testing import MemoryReactorClock

from anyvpn.client.endpoint import VPNClientEndpoint
from anyvpn.errors import ConfigurationError
from anyvpn.tap import client_endpoint


class EndpointStringTests(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name, "client.toml")
        self.file.write_text('[client]\nurl = "vpn.test"\n[adapter]\nbackend = "namespace"\n')
        self.reactor = MemoryReactorClock()
        shared = patch.object(client_endpoint, "_shared", {})
        self.shared = shared.start()
        self.addCleanup(shared.stop)

    def endpoint(self, text: str = "host.inside:22", options: str = "") -> VPNClientEndpoint:
        found = clientFromString(self.reactor, f"anyvpn:{text}:config={self.file}{options}")
        assert isinstance(found, VPNClientEndpoint)
        return found

    def test_twisted_finds_it_by_its_first_word(self) -> None:
        self.endpoint()
        self.endpoint(r"fd00\:\:1:22", ":timeout=5:linger=1.5")

    def test_nothing_is_connected_yet(self) -> None:
        self.endpoint()
        self.assertEqual((self.reactor.tcpClients, self.reactor.readers), ([], set()))

    def test_one_file_is_one_tunnel(self) -> None:
        self.endpoint("a:1")
        self.endpoint("b:2")
        self.assertEqual(len(self.shared), 1)
        other = self.file.with_name("other.toml")
        other.write_text(self.file.read_text())
        clientFromString(self.reactor, f"anyvpn:a:1:config={other}")
        clientFromString(MemoryReactorClock(), f"anyvpn:a:1:config={other}")
        self.assertEqual(len(self.shared), 3)

    def test_a_wrong_file_is_told_at_once(self) -> None:
        self.file.write_text("[client]\n")
        with self.assertRaisesRegex(ConfigurationError, "url"):
            self.endpoint()

    def test_strings_that_mean_nothing(self) -> None:
        for text, options in (("h:x", ""), ("h:0", ""), ("h:65536", ""), ("h:1", ":linger=x")):
            with self.assertRaises(ValueError):
                self.endpoint(text, options)
        with self.assertRaises(TypeError):
            clientFromString(self.reactor, "anyvpn:h:1")
