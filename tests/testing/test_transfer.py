from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from anyvpn.testing import transfer

POLL_S = 0.01
CLOSING_TIME_S = 0.1


@pytest.fixture
def port() -> Iterator[int]:
    with transfer.Server(("::", 0), transfer.Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class TransferTests:
    @pytest.mark.parametrize("wanted", ["download", "upload"])
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_whole_transfer_matches(self, port: int, wanted: str, address: str) -> None:
        result = transfer.transfer(wanted, address, port, 2)
        assert result["matches"] is True
        assert result["bytes"] == 2 * transfer.MEGABYTE

    def test_every_megabyte_differs(self) -> None:
        parts = list(transfer.content(3, seed=1))
        assert len(set(parts)) == 3
        assert [len(part) for part in parts] == [transfer.MEGABYTE] * 3

    def test_download_with_one_wrong_byte_does_not_match(
        self, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def send_wrongly(connection: socket.socket, megabytes: int, seed: int) -> str:
            for part in transfer.content(megabytes, seed):
                connection.sendall(part[:-1] + bytes([part[-1] ^ 1]))
            connection.shutdown(socket.SHUT_WR)
            return ""

        monkeypatch.setattr(transfer, "send", send_wrongly)
        assert transfer.transfer("download", "127.0.0.1", port, 1)["matches"] is False

    def test_the_server_does_not_close_before_everything_has_arrived(self, port: int) -> None:
        """The kernel gives a connection that nobody holds up too soon where much is lost."""
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"download 1 7\n")
            assert transfer.receive(connection)[1] == transfer.MEGABYTE
            time.sleep(CLOSING_TIME_S)
            connection.sendall(b"x")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
