"""A gateway whose packet engine has two threads, each with a queue and a socket of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.site import Site

CLIENTS = 4
MEGABYTES = 20


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"gateway": {"engine": "compiled"}, "tun": {"queues": 2}}


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return tuple(f"user{number}" for number in range(CLIENTS))


@pytest.mark.extension
class QueueTests:
    def test_each_thread_serves_some_of_the_clients(self, site: Site) -> None:
        tasks = Path(f"/proc/{site.gateway.program.pid}/task")
        names = [each.read_text().strip() for each in tasks.glob("*/comm")]
        assert names.count("anyvpn-packets") == 2
        address = str(site.gateway.inner_addresses[0])
        for number in range(CLIENTS):
            options = ["--no-dtls"] if number % 2 else []
            client = site.connect(f"user{number}", host=number + 1, options=options)
            if not options:
                client.wait_for_dtls()
            for wanted in ("upload", "download"):
                done = site.transfer(client.namespace, wanted, address, megabytes=MEGABYTES)
                assert done.matches
