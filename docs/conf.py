"""Sphinx: how the documentation is made; the configuration reference comes from the code."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

from anyvpn import __version__
from anyvpn.tap.config_reference import write_reference

project = "anyvpn"
version = release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"anyvpn {version}"
myst_heading_anchors = 3

CONFIGURATION_PAGE = "configuration"


def add_reference(_: Sphinx, page: str, source: list[str]) -> None:
    """Put the tables of all keys behind the words of the configuration page."""
    if page == CONFIGURATION_PAGE:
        source[0] += "\n" + write_reference()


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_reference)
