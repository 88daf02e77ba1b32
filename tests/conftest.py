"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings
from twisted.trial.unittest import TestCase

# How long an example takes says more of the machine than of the code
settings.register_profile("anyvpn", deadline=None)
settings.load_profile("anyvpn")


@pytest.fixture(autouse=True)
def temporary_names_of_trial(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lets trial's `mktemp` name files among pytest's own, and not in the working directory."""
    if isinstance(request.cls, type) and issubclass(request.cls, TestCase):
        factory = request.getfixturevalue("tmp_path_factory")
        monkeypatch.setattr(request.cls, "mktemp", lambda _: str(factory.mktemp("trial") / "file"))
