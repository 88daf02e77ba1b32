"""The engine is the one that was asked for, or there is a clear word."""

from __future__ import annotations

import sys
from unittest import TestCase
from unittest.mock import patch

from anyvpn.errors import EngineUnavailable
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.packets.engines import engine_class

WITHOUT = {"anyvpn.packets.compiled_engine": None}


class EngineChoiceTests(TestCase):
    def test_the_compiled_one_is_taken_where_it_is_there(self) -> None:
        self.assertIs(engine_class("auto"), CompiledPacketEngine)
        self.assertIs(engine_class("compiled"), CompiledPacketEngine)
        self.assertIs(engine_class("python"), PythonPacketEngine)

    def test_python_serves_where_nothing_was_compiled(self) -> None:
        with patch.dict(sys.modules, WITHOUT):
            self.assertIs(engine_class("auto"), PythonPacketEngine)

    def test_whoever_insists_is_told_what_is_missing(self) -> None:
        with patch.dict(sys.modules, WITHOUT), self.assertRaises(EngineUnavailable) as caught:
            engine_class("compiled")
        self.assertIn("libssl-dev", str(caught.exception))
