"""The compiled core's filter, asked as the Python engine's is."""

from __future__ import annotations

from collections.abc import Sequence

from anyvpn.model.packet_filter import FilterRule
from anyvpn.packets._compiled import Core
from anyvpn.packets.core_rules import core_rules

ANYWHERE = [(bytes(4), 0), (bytes(16), 0)]
LONGEST = 65535


class CoreFilter:
    """A core whose only tunnel has these rules, and every address."""

    def __init__(self, rules: Sequence[FilterRule], header: int = 0) -> None:
        self.core = Core(True, header)
        self.core.attach(1, ANYWHERE, 0, LONGEST, core_rules(tuple(rules)))
        self.core.set_cstp(1, True, False)

    def passing(self, packets: Sequence[bytes], now_s: float, *, from_client: bool) -> list[bytes]:
        """Those of the packets that pass."""
        self.core.set_time(now_s)
        if from_client:
            self.core.take_packets(1, list(packets))
            return self.core.written()
        self.core.take_frames(list(packets))
        return self.core.take_waiting(1, len(packets))[1]

    @property
    def filtered(self) -> int:
        """How many it has dropped so far."""
        told = self.core.counters(1)
        assert told is not None
        return told[8]
