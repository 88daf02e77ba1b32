from __future__ import annotations

from twisted.trial.unittest import TestCase

from anyvpn.backends.sessions_memory import Settings, build
from anyvpn.interfaces import ISessionStore
from anyvpn.testing.sessions_contract import SessionsContract


class MemorySessionsContractTests(SessionsContract, TestCase):
    def make_sessions(self) -> ISessionStore:
        return build(Settings(), None)
