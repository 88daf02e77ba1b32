"""A gateway in memory, and the reports of it."""

from __future__ import annotations

from anyvpn.control.reports import Reports
from anyvpn.control.status import SessionStatus
from tests.gateway.gateway_in_memory import HOST, GatewayCase

STARTED_AT_S = 999_000.0


class ReportsCase(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.reports = Reports(
            self.gateway,
            self.engine,
            self.device,
            name=HOST,
            listen=("tcp:4443",),
            dtls_port=4443,
            started_at_s=STARTED_AT_S,
            seconds=self.clock.seconds,
        )

    def sessions(self) -> list[SessionStatus]:
        return [each for some in self.reports.sessions(10) for each in some]
