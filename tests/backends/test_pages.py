"""The pages under docs/backends: each backend has one, and its samples can be used as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anyvpn.backends.listener_log import describe
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.plugins import backends
from anyvpn.tap.client_config_tables import CLIENT_SECTIONS
from anyvpn.tap.config import read_draft
from anyvpn.tap.config_tables import SECTIONS

DIRECTORY = Path(__file__).parents[2] / "docs" / "backends"
OURS = tuple(
    each for each in backends() if str(getattr(each, "module", "")).startswith("anyvpn.backends.")
)


def page_of(kind: str, name: str) -> str:
    return (DIRECTORY / f"{kind}_{name}.md").read_text()


class PageTests:
    @pytest.mark.parametrize(
        ("kind", "name"), [(each.kind, each.name) for each in OURS], ids=lambda text: text
    )
    def test_samples_are_configurations(self, kind: str, name: str, tmp_path: Path) -> None:
        samples = re.findall(r"```toml\n(.*?)```", page_of(kind, name), re.DOTALL)
        sections = SECTIONS if kind in {each.kind for each in SECTIONS} else CLIENT_SECTIONS
        chosen: set[tuple[str, str]] = set()
        for sample in samples:
            file = tmp_path / "file.toml"
            file.write_text(sample)
            draft = read_draft(file, sections)
            shown = draft.document.tables
            assert [each for each in draft.problems if each.path[0] in shown] == []
            found = (each for path, each in draft.chosen.items() if path[0] in shown)
            chosen |= {(each.backend.kind, each.backend.name) for each in found}
        assert (kind, name) in chosen

    def test_every_page_is_of_a_backend(self) -> None:
        pages = {each.name for each in DIRECTORY.glob("*_*.md")}
        assert pages == {f"{each.kind}_{each.name}.md" for each in OURS}

    def test_log_s_page_names_every_kind_of_event_and_shows_them_as_they_are(self) -> None:
        text = page_of("listener", "log")
        assert [kind.value for kind in EventKind if f"`{kind.value}`" not in text] == []
        event = Event(
            EventKind.SESSION_ENDED,
            1.0,
            user="alice",
            peer="192.0.2.7",
            session_id=1804289383,
            profile="staff",
            detail="idle time-out",
            counters=Counters(311, 40112, 502, 610233),
        )
        assert describe(event, 5021.3) in text.splitlines()
