"""A pytest plugin: takes the compiled engine from ANYVPN_ENGINE, for tools/check-engine."""

from __future__ import annotations

import importlib.util
import os
import sys

NAME = "anyvpn.packets._compiled"

spec = importlib.util.spec_from_file_location(NAME, os.environ["ANYVPN_ENGINE"])
assert spec is not None and spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])
