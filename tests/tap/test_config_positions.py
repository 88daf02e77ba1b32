"""Every key is found where it stands."""

from __future__ import annotations

import json
import tomllib
import unittest
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from anyvpn.tap.config_positions import KeyPath, find_positions, format_path

DOCUMENT = '''# a comment with [brackets] = and "quotes
top = 1
[tables."with.dots"]
dotted.key = [ 1, # one ]
  {inline = 2, "odd}]" = "}"},
  """
several lines \\""" "" """]
after = 'literal # not a comment'
[[pools]]
name = 1
[pools.inner]
key = 2
[[pools]]
[pools.inner]
key = { deep = [ "a",
  "b" ] }
last = 1979-05-27 07:32:00
'''


class PositionTests(unittest.TestCase):
    def line(self, *path: str | int) -> int:
        return find_positions(DOCUMENT).line(path)

    def test_document_is_toml(self) -> None:
        assert tomllib.loads(DOCUMENT)["pools"][1]["inner"]["last"]

    def test_keys_of_every_kind_of_table_are_found(self) -> None:
        assert self.line("top") == 2
        assert self.line("tables", "with.dots") == 3
        assert self.line("tables", "with.dots", "dotted", "key") == 4
        assert self.line("tables", "with.dots", "after") == 8

    def test_elements_of_arrays_and_keys_of_inline_tables_are_found(self) -> None:
        key: KeyPath = ("tables", "with.dots", "dotted", "key")
        assert self.line(*key, 0) == 4
        assert self.line(*key, 1, "inline") == 5
        assert self.line(*key, 1, "odd}]") == 5
        assert self.line(*key, 2) == 6

    def test_tables_below_an_element_belong_to_the_last_one_before_them(self) -> None:
        assert self.line("pools", 0, "inner", "key") == 12
        assert self.line("pools", 1, "inner", "key") == 15
        assert self.line("pools", 1, "inner", "key", "deep", 1) == 16
        assert self.line("pools", 1, "inner", "last") == 17

    def test_path_that_is_not_there_has_the_line_of_what_is_around_it(self) -> None:
        assert self.line("pools", 1, "inner", "missing", "deeper") == 14
        assert self.line("nothing") == 1
        assert not find_positions(DOCUMENT).knows(("nothing",))

    def test_lines_that_end_as_on_windows_count_once(self) -> None:
        assert find_positions("a = 1\r\nb = 2\r\n").line(("b",)) == 2

    def test_paths_read_as_operators_write_them(self) -> None:
        assert format_path(("profiles", 0, "a b", "c")) == 'profiles[0]."a b".c'
        assert format_path(("a\nb\x1b[2J",)) == '"a b?[2J"'


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
SCALARS = st.integers() | st.booleans() | NAMES
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


class EveryPositionTests(unittest.TestCase):
    @settings(max_examples=150)
    @given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4))
    @example({"]": {'"': ["#", "'", ["[[", "}"]]}})
    def test_each_key_of_a_document_has_its_own_line(
        self, tables: dict[str, dict[str, Any]]
    ) -> None:
        lines, expected = [], {}
        for table, keys in tables.items():
            lines.append(f"[{_text(table)}]")
            expected[table,] = len(lines)
            for key, value in keys.items():
                lines.append(f"{_text(key)} = {_text(value)} # comment")
                expected[table, key] = len(lines)
        document = "\n".join(lines)
        assert tomllib.loads(document) == tables
        positions = find_positions(document)
        assert {path: positions.line(path) for path in expected} == expected

    @settings(max_examples=150)
    @given(st.text(alphabet="[]{}\"'=.,# \na1\\", max_size=60))
    def test_nothing_makes_it_fail_or_go_on_for_ever(self, document: str) -> None:
        assert find_positions(document).line(("a",)) >= 1


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
