"""The documentation can be built, without a single warning."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


class DocumentationTests(unittest.TestCase):
    def test_it_builds_without_warnings_and_has_every_key(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"),
                    *("-d", f"{directory}/doctrees", str(DOCS), f"{directory}/html"),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            reference = Path(directory, "html", "configuration.html").read_text()
        assert "hellos_per_address_per_s" in reference
        assert "max_sessions_per_user" in reference
