"""A wheel is built with the compiled engine or without it, and it is said which and why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import TestCase
from unittest.mock import patch

import hatch_build
from hatch_build import MODULE, SOURCES, CompiledEngineHook, compile_engine

ROOT = Path(__file__).parent.parent


class BuildTests(TestCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(TemporaryDirectory()))
        shutil.copytree(ROOT / SOURCES, self.root / SOURCES)

    def problem_with(self, **environment: str) -> str:
        with patch.dict(os.environ, environment):
            return compile_engine(self.root)

    def hook(self, **environment: str) -> tuple[dict[str, Any], list[str]]:
        warnings: list[str] = []
        hook = CompiledEngineHook.__new__(CompiledEngineHook)
        said = SimpleNamespace(display_warning=warnings.append)
        data: dict[str, Any] = {"artifacts": []}
        with (
            patch.dict(os.environ, environment),
            patch.object(CompiledEngineHook, "root", str(self.root)),
            patch.object(CompiledEngineHook, "target_name", "wheel"),
            patch.object(CompiledEngineHook, "app", said),
        ):
            hook.initialize("standard", data)
        return data, warnings

    def test_without_a_compiler_it_is_left_out_and_said(self) -> None:
        self.assertIn("no C compiler 'no-such-cc'", self.problem_with(CC="no-such-cc -O2"))
        data, (warning,) = self.hook(CC="no-such-cc")
        self.assertEqual(data, {"artifacts": []})
        self.assertIn("without the compiled packet engine", warning)
        self.assertFalse((self.root / MODULE).exists())

    def test_without_headers_it_says_whose(self) -> None:
        engine = self.root / SOURCES / "engine.h"
        text = engine.read_text()
        for header, package in (("openssl/no.h", "libssl-dev"), ("no/Python.h", "python3-dev")):
            engine.write_text(f"#include <{header}>\n{text}")
            self.assertIn(package, self.problem_with())

    def test_whatever_else_the_compiler_refuses_is_told(self) -> None:
        (self.root / SOURCES / "engine.c").write_text("no C at all\n")
        self.assertIn("error", self.problem_with())

    def test_whoever_requires_it_gets_an_error_and_whoever_refuses_it_nothing(self) -> None:
        with self.assertRaises(RuntimeError):
            self.hook(CC="no-such-cc", ANYVPN_COMPILED="require")
        self.assertEqual(self.hook(CC="no-such-cc", ANYVPN_COMPILED="no"), ({"artifacts": []}, []))

    def test_a_wheel_that_has_it_is_for_its_platform(self) -> None:
        with patch.object(hatch_build, "compile_engine", return_value=""):
            data, warnings = self.hook()
        self.assertEqual(warnings, [])
        self.assertEqual(data["artifacts"], [str(MODULE)])
        self.assertFalse(data["pure_python"])
        self.assertTrue(data["tag"].startswith("cp311-abi3-linux_"))
