"""The network behind the adapter that needs no privileges keeps the contract of inner networks."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from anyvpn.backends.adapter_namespace import NamespaceAdapter, Settings, build
from anyvpn.interfaces import IInnerNetwork
from anyvpn.testing.adapter_contract import GATEWAY, SETTINGS
from anyvpn.testing.inner_network_contract import ECHO, TIME_S, InnerNetworkContract


class NamespaceNetworkTests(TestCase, InnerNetworkContract):
    timeout = 30
    echo = ("127.0.0.1", 7)
    refusing = ("127.0.0.1", 9)
    silent = (str(GATEWAY), 7)

    async def make_network(self) -> IInnerNetwork:
        adapter = await build(Settings(), cast(Any, reactor)).open(SETTINGS)
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        echoing = Deferred.fromCoroutine(
            adapter.run([sys.executable, "-c", ECHO, str(self.echo[1])])
        )
        echoing.addBoth(lambda _: None)
        while not await self.answers(adapter):
            await deferLater(cast(Any, reactor), 0.02)
        return adapter

    async def answers(self, adapter: NamespaceAdapter) -> bool:
        try:
            descriptor = await adapter.connect(*self.echo, TIME_S)
        except ConnectError:
            return False

        os.close(descriptor)
        return True
