"""Text from elsewhere as it may be shown on a terminal or written to a log."""

from __future__ import annotations

# Ours
LONGEST_CHARACTERS = 4096


def printable(text: str, *, lines: bool = False) -> str:
    """The text without anything that steers a terminal, one line unless `lines`.

    Control characters, escapes, changes of writing direction and surrogates become "?"; a text
    without end is cut.
    """
    shown = []
    for each in text[:LONGEST_CHARACTERS]:
        if each.isprintable():
            shown.append(each)
        elif each in "\n\t ":
            shown.append(each if lines and each == "\n" else " ")
        elif each != "\r":
            shown.append("?")
    if len(text) > LONGEST_CHARACTERS:
        shown.append(" ...")
    return "".join(shown).strip()
