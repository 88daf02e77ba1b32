"""The scripted client against Debian's ocserv."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.ocserv_site import OcservSite
from tests.interop.scripted_ways import BadWays, GoodWays, run_the_page_s_example


class OcservTests(GoodWays, BadWays):
    @pytest.fixture
    def peer(self, ocserv: OcservSite) -> OcservSite:
        return ocserv


def test_the_page_s_example_passes(ocserv: OcservSite, tmp_path: Path) -> None:
    run_the_page_s_example(ocserv, tmp_path)
