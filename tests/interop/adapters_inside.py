"""The contract of adapters against the kernel; run in a network namespace of its own.

See test_adapter_contract.py, which does so.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from anyvpn.backends import adapter_linux, adapter_namespace, adapter_script
from anyvpn.backends.adapter_namespace import NamespaceAdapter
from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.testing.adapter_contract import AdapterContract

SCRIPT = """#!/bin/sh
set -eu
case "$reason" in
connect|reconnect)
    ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
    ip address flush dev "$TUNDEV" scope global
    ip address replace "$INTERNAL_IP4_ADDRESS/24" dev "$TUNDEV"
    ;;
esac
"""
HERE = cast(Any, reactor)


class KernelCase(TestCase, AdapterContract):
    timeout = 30

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    async def take_away(self, adapter: IAdapter) -> None:
        await deferToThread(subprocess.run, ["ip", "link", "delete", adapter.name], check=True)


class LinuxTests(KernelCase):
    offloads = True

    def make_backend(self) -> IAdapterBackend:
        resolv_conf = self.directory / "resolv.conf"
        resolv_conf.write_text("nameserver 192.0.2.53\n")
        settings = adapter_linux.Settings(
            offloads=self.offloads, resolv_conf=resolv_conf, state_directory=self.directory
        )
        return adapter_linux.build(settings, HERE)


class PlainLinuxTests(LinuxTests):
    offloads = False


class ScriptTests(KernelCase):
    def make_backend(self) -> IAdapterBackend:
        script = self.directory / "script"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        return adapter_script.build(adapter_script.Settings(script=str(script)), HERE)


class NamespaceTests(KernelCase):
    """It makes yet another namespace, inside of which its device is."""

    def make_backend(self) -> IAdapterBackend:
        return adapter_namespace.build(adapter_namespace.Settings(), HERE)

    async def take_away(self, adapter: IAdapter) -> None:
        assert isinstance(adapter, NamespaceAdapter)
        assert await adapter.run(["ip", "link", "delete", adapter.name]) == 0


del KernelCase
