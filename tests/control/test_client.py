"""Asking a gateway that may be gone, shut, or no gateway at all."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import TestCase
from unittest.mock import patch

from anyvpn.control import client
from anyvpn.control.client import ask_sessions, ask_status
from anyvpn.errors import ControlFailed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class AskTests(TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "gateway.sock"

    @contextmanager
    def answering(self, content: bytes | None) -> Iterator[None]:
        """Whatever is asked, this is answered; None: nothing is, and nothing is closed."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.path))
            listening.listen()

            def answer() -> None:
                with listening.accept()[0] as opened:
                    opened.recv(4096)
                    if content is not None:
                        opened.sendall(content)
                    else:
                        opened.recv(4096)

            thread = threading.Thread(target=answer)
            thread.start()
            yield
            thread.join()

    def refusal(self, content: bytes | None) -> str:
        with self.answering(content), self.assertRaises(ControlFailed) as caught:
            ask_status(self.path)
        return str(caught.exception).replace(f"{self.path}", "SOCKET")

    def test_a_gateway_that_does_not_run_is_named(self) -> None:
        for _ in range(2):
            with self.assertRaises(ControlFailed) as caught:
                ask_status(self.path)
            self.assertEqual(
                str(caught.exception), f"no gateway listens at {self.path}: is it running?"
            )
            if not self.path.exists():
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.bind(str(self.path))

    def test_who_may_ask_is_said_to_whom_may_not(self) -> None:
        refused = patch.object(client._UnixConnection, "connect", side_effect=PermissionError)
        with refused, self.assertRaises(ControlFailed) as caught:
            ask_status(self.path)
        self.assertIn("permission denied; ask as root", str(caught.exception))

    def test_garbage_is_named(self) -> None:
        cases = {
            b"": "not HTTP",
            b"SSH-2.0-OpenSSH_9.2\r\n": "not HTTP",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n": "404 Not Found",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}": "cannot be understood",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\n{}": "not HTTP",
            ANSWER % (2, b"{}"): "cannot be understood",
            ANSWER % (5, b"\xff\0\1\2\3"): "cannot be understood",
        }
        for content, why in cases.items():
            with self.subTest(content=content):
                said = self.refusal(content)
                self.assertTrue(said.startswith("SOCKET: the answer "), said)
                self.assertIn(why, said)
                self.path.unlink()

    def test_one_that_says_nothing_is_not_waited_for(self) -> None:
        with patch.object(client, "CONNECTION_TIME_S", 0.05):
            self.assertEqual(self.refusal(None), "SOCKET: no answer within 0.05 s")

    def test_an_answer_without_end_is_cut(self) -> None:
        with patch.object(client, "LARGEST_ANSWER_BYTES", 100):
            self.assertIn("more than 100 bytes", self.refusal(ANSWER % (200, bytes(200))))

    def test_no_sessions_are_a_list(self) -> None:
        with self.answering(ANSWER % (3, b"[]\n")):
            self.assertEqual(ask_sessions(self.path), ())
