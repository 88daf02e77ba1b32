"""Tests of anyvpn.model.printable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anyvpn.model.printable import LONGEST_CHARACTERS, printable


class PrintableTests:
    def test_text_stays_as_it_is(self) -> None:
        assert printable("Grüße, 東京!") == "Grüße, 東京!"

    def test_escapes_lose_their_power(self) -> None:
        assert printable("\x1b[2Jgone\x07") == "?[2Jgone?"

    def test_writing_direction_cannot_be_turned(self) -> None:
        assert printable("a\u202eb") == "a?b"

    def test_a_line_stays_one_line(self) -> None:
        assert printable("a\r\nb\tc") == "a b c"

    def test_lines_stay_lines_where_they_may(self) -> None:
        assert printable("a\r\nb", lines=True) == "a\nb"

    def test_a_text_without_end_is_cut(self) -> None:
        assert len(printable("a" * 10**6)) < LONGEST_CHARACTERS + 10

    @given(st.text())
    def test_nothing_else_ever_comes_out(self, text: str) -> None:
        assert printable(text).isprintable()
