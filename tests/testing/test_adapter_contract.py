"""The contract of adapters can be kept, and breaking it is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.testing.adapter_contract import AdapterContract, pong
from anyvpn.testing.memory_tun import MemoryAdapter, MemoryAdapterBackend
from tests.testing.test_contracts import failures


class InMemory(AdapterContract):
    """The host of an adapter in memory is the test."""

    async def take_away(self, adapter: IAdapter) -> None:
        assert isinstance(adapter, MemoryAdapter)
        adapter.refuse_writes = True
        adapter.on_lost("somebody took it away")

    async def let_it_happen(self, adapter: IAdapter) -> None:
        assert isinstance(adapter, MemoryAdapter)
        asked, adapter.written = adapter.written, []
        adapter.inject([pong(each) for each in asked])


class MemoryAdapterTests(TestCase, InMemory):
    def make_backend(self) -> IAdapterBackend:
        return MemoryAdapterBackend()


class BrokenAdapter(MemoryAdapter):
    fault = ""

    def start_reading(self, packets_ready: Callable[[], None]) -> None:
        if self.fault != "never announces":
            super().start_reading(packets_ready)

    def read_packets(self, limit: int) -> list[bytes]:
        packets = super().read_packets(1000 if self.fault == "ignores the limit" else limit)
        return packets[::-1] if self.fault == "reverses" else packets

    def write_packets(self, packets: Iterable[bytes]) -> int:
        if self.fault == "takes lists alone" and not isinstance(packets, list):
            raise TypeError("a list is wanted")
        refused = super().write_packets(packets)
        return 0 if self.fault == "swallows" else refused

    async def apply(self, settings: AdapterSettings) -> None:
        if self.fault == "wants both families":
            assert settings.granted.lease.ipv6 is not None
        mtu_bytes = self.mtu_bytes
        await super().apply(settings)
        if self.fault == "keeps its MTU":
            self.mtu_bytes = mtu_bytes

    async def prepare_reconnect(self) -> None:
        if self.fault == "closes for a reconnect":
            await super().close()

    async def close(self) -> None:
        if self.is_closed and self.fault == "closes once":
            raise OSError("bad file descriptor")
        if self.fault == "takes closing for a loss":
            self.on_lost("closed")
        if self.fault == "stays open":
            return
        await super().close()


class Backend(MemoryAdapterBackend):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self._fault = fault

    async def open(self, settings: AdapterSettings) -> MemoryAdapter:
        if self.adapters and self._fault == "can be opened once":
            raise TunUnavailable("there was one before")
        adapter: Any = BrokenAdapter("broken0", settings)
        adapter.fault = self._fault
        if self._fault == "is nameless":
            adapter.name = ""
        if self._fault == "cannot be lost":
            del adapter.on_lost
        self.adapters.append(adapter)
        return adapter  # type: ignore[no-any-return]  # it is one


class FakeAdapterContract(InMemory):
    """Nothing is cleaned up: it is all in memory."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def addCleanup(self, *work: object) -> None:
        pass

    def make_backend(self) -> IAdapterBackend:
        return Backend(self._fault)

    async def take_away(self, adapter: IAdapter) -> None:
        if self._fault != "does not notice":
            await super().take_away(adapter)


CLOSED = "test_a_closed_one_reads_nothing_and_refuses_everything"


@pytest.mark.parametrize(
    ("fault", "noticed_by"),
    [
        ("cannot be lost", "test_the_interfaces_are_provided"),
        ("is nameless", "test_an_adapter_says_what_it_is"),
        ("reverses", "test_packets_pass_in_order_both_ways"),
        ("takes lists alone", "test_packets_pass_in_order_both_ways"),
        ("ignores the limit", "test_no_more_are_read_than_asked_for"),
        ("never announces", "test_waiting_packets_are_announced"),
        ("keeps its MTU", "test_new_settings_apply_while_it_is_up"),
        ("wants both families", "test_a_family_may_come_and_go"),
        ("closes for a reconnect", "test_preparing_a_reconnect_interrupts_nothing"),
        ("swallows", CLOSED),
        ("stays open", CLOSED),
        ("closes once", "test_closing_twice_does_no_harm_and_is_no_loss"),
        ("takes closing for a loss", "test_closing_twice_does_no_harm_and_is_no_loss"),
        ("can be opened once", "test_after_one_there_may_be_another"),
        ("does not notice", "test_a_device_that_is_gone_is_told_once"),
        ("takes closing for a loss", "test_a_device_that_is_gone_is_told_once"),
    ],
)
class AdapterContractTests:
    def test_good_fake_passes(self, fault: str, noticed_by: str) -> None:
        assert failures(FakeAdapterContract("")) == set()

    def test_fault_is_noticed(self, fault: str, noticed_by: str) -> None:
        assert noticed_by in failures(FakeAdapterContract(fault))
