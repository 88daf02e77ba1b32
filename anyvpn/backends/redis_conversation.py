"""One connection to a Redis server, over which whatever comes is bounded."""

from __future__ import annotations

from typing import Any

import txredisapi
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.python.failure import Failure

from anyvpn.model.printable import printable

# From the protocol: how each reply begins
_REPLIES = frozenset("+-:$*")

# Ours
LARGEST_ANSWER_BYTES = 1 << 20
LONGEST_REFUSAL = 200
NO_REPLY = "answers what is no Redis reply"


class RedisConversation(txredisapi.BaseRedisProtocol):  # type: ignore[misc]  # it has no types
    """Texts of replies stay bytes."""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._problem = "closes the connection"
        self.transport: Any
        self._received_bytes = 0

    def problem_of(self, error: Exception) -> str:
        """What is wrong with the server, in words that go behind its name."""
        match error:
            case txredisapi.ResponseError():
                return f"refuses: {printable(str(error)[:LONGEST_REFUSAL])}"
            case txredisapi.ConnectionError():
                return self._problem
        return NO_REPLY

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > LARGEST_ANSWER_BYTES:
            self._give_up(f"answers more than {LARGEST_ANSWER_BYTES} bytes")
            return
        try:
            super().dataReceived(data, unpause)
        except Exception:  # the library reads what it expects, and trips over the rest
            self._give_up(NO_REPLY)

    def lineReceived(self, line: str) -> None:
        if line[:1] in _REPLIES:
            super().lineReceived(line)
        else:
            self._give_up(NO_REPLY)

    def lineLengthExceeded(self, _: bytes) -> None:
        self._give_up(NO_REPLY)

    def connectionLost(self, why: Failure) -> None:
        match why.value:
            case SSL.Error(args=[[(*_, reason), *_]]):
                self._problem = f"cannot be reached by TLS: {reason}"
            case VerificationError():
                self._problem = "cannot be trusted: its certificate is another server's"
        super().connectionLost(why)

    def _give_up(self, problem: str) -> None:
        self._problem = problem
        self.transport.abortConnection()
