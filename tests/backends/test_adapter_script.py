"""Tests of anyvpn.backends.adapter_script: what reaches a script, and what never does."""

from __future__ import annotations

import os
import signal
import time
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from anyvpn.backends.adapter_script import Settings, _Run
from anyvpn.backends.adapter_script_environment import script_environment
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

LEASE = Lease(IPv4Interface("10.1.2.3/24"), IPv6Interface("fd00::3/64"))
EVIL = "$(reboot) `reboot` ; reboot\nPATH=/evil \x1b[2J \\ \" ' | & < >"


def environment(**granted: object) -> dict[str, str]:
    settings = TunnelSettings(LEASE, 1400, **granted)  # type: ignore[arg-type]
    return script_environment(
        "connect", "tun7", AdapterSettings(settings, 1390, ip_address("192.0.2.1"))
    )


class EnvironmentTests:
    def test_addresses_are_told_as_vpnc_script_wants_them(self) -> None:
        expected = {
            "reason": "connect",
            "TUNDEV": "tun7",
            "VPNGATEWAY": "192.0.2.1",
            "INTERNAL_IP4_ADDRESS": "10.1.2.3",
            "INTERNAL_IP4_NETMASK": "255.255.255.0",
            "INTERNAL_IP4_NETMASKLEN": "24",
            "INTERNAL_IP4_NETADDR": "10.1.2.0",
            "INTERNAL_IP4_MTU": "1390",
            "INTERNAL_IP6_ADDRESS": "fd00::3",
            "INTERNAL_IP6_NETMASK": "fd00::3/64",
        }
        assert expected.items() <= environment().items()

    def test_routes_are_numbered_by_family(self) -> None:
        found = environment(
            split_include=(ip_network("10.20.0.0/16"), ip_network("fd00:20::/48")),
            split_exclude=(ip_network("10.20.30.0/24"),),
        )
        assert found["CISCO_SPLIT_INC"] == "1"
        assert found["CISCO_SPLIT_INC_0_ADDR"] == "10.20.0.0"
        assert found["CISCO_SPLIT_INC_0_MASK"] == "255.255.0.0"
        assert found["CISCO_IPV6_SPLIT_INC_0_MASKLEN"] == "48"
        assert found["CISCO_SPLIT_EXC_0_MASKLEN"] == "24"

    def test_resolvers_by_family(self) -> None:
        found = environment(dns=(ip_address("10.1.2.1"), ip_address("fd00::1")))
        assert found["INTERNAL_IP4_DNS"] == "10.1.2.1"
        assert found["INTERNAL_IP6_DNS"] == "fd00::1"

    def test_nothing_that_a_shell_would_run_gets_through(self) -> None:
        found = environment(
            banner=EVIL,
            default_domain=f"corp.example {EVIL}",
            split_dns=(EVIL, "lab.example"),
            proxy={"MSIE-Proxy-PAC-URL": f"http://a/{EVIL}"},
        )
        assert found["CISCO_DEF_DOMAIN"].split()[0] == "corp.example"
        assert found["CISCO_SPLIT_DNS"] == "lab.example"
        assert "CISCO_PROXY_PAC" not in found
        for name in ("CISCO_BANNER", "CISCO_DEF_DOMAIN"):
            assert not set(found[name]) & set("$`;\n\x1b\\\"'|&<>()"), name

    def test_little_of_ours_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "x")
        assert "SECRET" not in environment()


class SettingsTests:
    @pytest.mark.parametrize("script", ["", "   ", "'unbalanced"])
    def test_a_command_line_that_cannot_be_is_refused(self, script: str) -> None:
        with pytest.raises(ValueError, match="script"):
            Settings(script=script)


class RunTests(TestCase):
    async def test_what_a_script_leaves_running_is_not_waited_for(self) -> None:
        """A daemon of a hook, as of vpnc-script's, holds the output open."""
        run = _Run(reactor, 60.0)  # type: ignore[arg-type]  # trial's own
        reactor.spawnProcess(run, "sh", ["sh", "-c", "sleep 10 & echo $!; exit 3"], {})  # type: ignore[attr-defined]
        begun_s = time.monotonic()
        assert await run.ended == "failed with status 3"
        assert time.monotonic() - begun_s < 5
        os.kill(int(run.output), signal.SIGKILL)
