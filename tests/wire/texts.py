"""Texts for hypothesis: what XML can carry, and what it cannot."""

from __future__ import annotations

from hypothesis import strategies as st

xml_text = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=40
) | st.sampled_from(
    ["<&>\"']]>", "a\nb", "\r", "%s", "%", "<opaque></opaque>", "<!-- -->", "&amp;"]
)

trimmed = xml_text.map(str.strip)

one_line = xml_text.map(lambda text: " ".join(text.split()))

field_names = st.from_regex(r"[a-z][a-z0-9_-]{0,15}", fullmatch=True)

any_text = st.text(max_size=60)
