"""The file that `anyvpn init` writes: every key explained, and true."""

from __future__ import annotations

import re
import tomllib
import unittest
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.plugins import find_backend
from anyvpn.tap.config_reference import write_reference
from anyvpn.tap.config_structure import keys_of
from anyvpn.tap.config_tables import SECTIONS
from anyvpn.tap.config_write import write_configuration, write_value
from tests.tap.set_up import ConfigurationCase

EXAMPLES = ('""', '"client-ca.pem"')
NOT_SET = re.compile(r"#([A-Za-z_0-9]+) = (.*)")


class ExplanationTests(ConfigurationCase):
    def test_every_key_is_there_with_its_help_above_it(self) -> None:
        lines = self.set_up.file.read_text().splitlines()
        for section in SECTIONS:
            tables = [section.table] if section.table is not None else []
            if section.kind:
                name = {"authenticator": "password_file", "listener": "log"}.get(
                    section.kind, section.default_backend
                )
                tables.append(find_backend(section.kind, name).settings_class())
            for table in tables:
                for key, (attribute, _) in keys_of(table).items():
                    with self.subTest(f"{section.key}.{key}"):
                        assert f"# {attribute.metadata['help']}" in lines

    def test_commented_defaults_change_nothing_when_they_are_set(self) -> None:
        before = self.set_up.load()
        lines = self.set_up.file.read_text().splitlines()
        written = []
        header = ""
        for line in lines:
            if line.startswith(("[", "#[")):
                header = line
            found = NOT_SET.fullmatch(line)
            is_default = found and found[2] not in EXAMPLES and not header.startswith("#")
            written.append(line[1:] if is_default else line)
        assert written != lines
        self.set_up.file.write_text("\n".join(written).replace("#[limits]", "[limits]"))
        after = self.set_up.load()
        assert after.settings.limits == before.settings.limits
        assert after.settings.dtls.legacy == before.settings.dtls.legacy
        assert [each.profile for each in after.settings.profiles] == [
            each.profile for each in before.settings.profiles
        ]

    def test_commented_limits_are_the_defaults(self) -> None:
        text = self.set_up.file.read_text()
        start = text.index("#[limits]")
        self.set_up.file.write_text(text[:start] + re.sub("(?m)^#(?! )", "", text[start:]))
        tables = tomllib.loads(self.set_up.file.read_text())
        assert tables["limits"]["handshake_time_s"] == 10
        assert self.problems() == []

    def test_no_line_is_too_long_to_read(self) -> None:
        assert max(map(len, self.set_up.file.read_text().splitlines())) <= 100


class ValueTests(unittest.TestCase):
    @settings(max_examples=150)
    @given(
        st.recursive(
            st.booleans()
            | st.integers(-(2**62), 2**62)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(codec="utf-8")),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        )
    )
    def test_values_are_read_back_as_they_were(self, value: Any) -> None:
        assert tomllib.loads(f"v = {write_value(value)}")["v"] == value

    @settings(max_examples=50)
    @given(st.text(st.characters(codec="utf-8"), min_size=1))
    def test_names_are_read_back_as_they_were(self, name: str) -> None:
        text = write_configuration({"authenticators": {name: {"backend": "password_file"}}})
        assert tomllib.loads(text)["authenticators"] == {name: {"backend": "password_file"}}


class ReferenceTests(unittest.TestCase):
    def test_every_section_and_backend_has_its_table(self) -> None:
        text = write_reference()
        for section in SECTIONS:
            assert f"## `{section.shape.value.format(section.key)}`" in text
        assert '### `[sessions]` with `backend = "memory"`\n' in text
        assert "| `handshake_time_s` | a number | `10` | Seconds that a TLS handshake" in text
        assert "| `file` | a file name | must be set |" in text
        assert "| `policies.NAME.dpd_s` |" in text
