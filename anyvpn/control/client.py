"""Asks a running gateway, by its control socket, what it is and does."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

from anyvpn.control.status import (
    CONNECTION_TIME_S,
    SESSIONS_PATH,
    STATUS_PATH,
    GatewayStatus,
    SessionStatus,
    read_json,
)
from anyvpn.errors import ControlFailed

Value = TypeVar("Value")

# Ours
LARGEST_ANSWER_BYTES = 64 << 20
"""About a hundred thousand sessions."""


def ask_status(path: Path) -> GatewayStatus:
    """The gateway as a whole. Raises: ControlFailed."""
    return _ask(path, STATUS_PATH, GatewayStatus)


def ask_sessions(path: Path) -> tuple[SessionStatus, ...]:
    """All of its sessions. Raises: ControlFailed."""
    return _ask(path, SESSIONS_PATH, tuple[SessionStatus, ...])


def _ask(path: Path, what: str, kind: type[Value]) -> Value:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", what)
        response = connection.getresponse()
        content = response.read(LARGEST_ANSWER_BYTES + 1)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlFailed(f"no gateway listens at {path}: is it running?") from error
    except PermissionError as error:
        raise ControlFailed(
            f"{path}: permission denied; ask as root, or as the user that the gateway runs as"
        ) from error
    except TimeoutError as error:
        raise ControlFailed(f"{path}: no answer within {CONNECTION_TIME_S:g} s") from error
    except HTTPException as error:
        raise ControlFailed(f"{path}: the answer is not HTTP") from error
    except OSError as error:
        raise ControlFailed(f"{path}: {error.strerror or error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ControlFailed(f"{path}: the answer is {response.status} {response.reason}")
    if len(content) > LARGEST_ANSWER_BYTES:
        raise ControlFailed(f"{path}: the answer has more than {LARGEST_ANSWER_BYTES} bytes")
    try:
        return read_json(content, kind)
    except ControlFailed as error:
        raise ControlFailed(f"{path}: {error}") from error


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("gateway", timeout=CONNECTION_TIME_S)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
