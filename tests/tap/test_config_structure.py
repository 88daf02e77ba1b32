"""Tables are read strictly, and every problem is found at once."""

from __future__ import annotations

import unittest
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Literal

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.tap.config_positions import format_path
from anyvpn.tap.config_structure import WrongValues, describe_type, structure

DIRECTORY = Path("/somewhere")


@attrs.frozen
class Inner:
    name: str
    size: int = 3


def _is_even(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value % 2:
        raise ValueError(f"{attribute.name} must be even")


@attrs.frozen
class Sample:
    text: str = ""
    flag: bool = False
    whole: int = 0
    number: float = 0.0
    even: int = attrs.field(default=0, validator=_is_even)
    file: Path | None = None
    address: IPv4Address | IPv6Address | None = None
    interface: IPv4Interface | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    choice: Literal["one", "two"] = "one"
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] = attrs.field(factory=dict)
    words: dict[str, tuple[str, ...]] | None = None

    def __attrs_post_init__(self) -> None:
        if self.text == "forbidden":
            raise ValueError("text: is forbidden; say something else")
        if self.text == "everything":
            raise ValueError("it is all wrong")


def read(**content: object) -> Sample:
    return structure(content, Sample, DIRECTORY, ("sample",))


def problems(**content: object) -> list[str]:
    try:
        read(**content)
    except WrongValues as wrong:
        return [f"{format_path(each.path)}: {each.text}" for each in wrong.found]
    return []


class GoodValueTests(unittest.TestCase):
    def test_values_of_every_type_are_read(self) -> None:
        made = read(
            text="a",
            flag=True,
            whole=2,
            number=3,
            file="users",
            address="fd00::1",
            interface="10.0.0.1/24",
            networks=["10.0.0.0/8", "fd00::/8"],
            choice="two",
            inner={"name": "i"},
            several=[{"name": "s", "size": 1}],
            named={"n": {"name": "m"}},
            words={"w": ["x", "y"]},
        )
        assert (made.text, made.flag, made.whole, made.choice) == ("a", True, 2, "two")
        assert made.number == 3.0
        assert isinstance(made.number, float)
        assert made.file == Path("/somewhere/users")
        assert made.address == IPv6Address("fd00::1")
        assert made.interface == IPv4Interface("10.0.0.1/24")
        assert made.networks == (IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"))
        assert made.inner == Inner("i")
        assert made.several == (Inner("s", 1),)
        assert made.named == {"n": Inner("m")}
        assert made.words == {"w": ("x", "y")}

    def test_absolute_file_names_stay_as_they_are(self) -> None:
        assert read(file="/etc/users").file == Path("/etc/users")


class WrongValueTests(unittest.TestCase):
    def test_nothing_is_converted_from_another_type(self) -> None:
        assert problems(text=1) == ["sample.text: must be text, not 1"]
        assert problems(flag="yes") == ['sample.flag: must be true or false, not "yes"']
        assert problems(flag=1) == ["sample.flag: must be true or false, not 1"]
        assert problems(whole="3") == ['sample.whole: must be a whole number, not "3"']
        assert problems(whole=True) == ["sample.whole: must be a whole number, not true"]
        assert problems(whole=1.5) == ["sample.whole: must be a whole number, not 1.5"]
        assert problems(number="1") == ['sample.number: must be a number, not "1"']
        assert problems(number=float("inf")) == ["sample.number: must be a number, not inf"]
        assert problems(file=[]) == ["sample.file: must be a file name, not a list"]
        assert problems(file="") == ['sample.file: must be a file name, not ""']
        assert problems(file="a\0b")

    def test_text_is_no_list_and_a_list_is_no_table(self) -> None:
        assert problems(networks="10.0.0.0/8") == [
            'sample.networks: must be a list, each an IP network, not "10.0.0.0/8"'
        ]
        assert problems(several={}) == ["sample.several: must be a list, each a table, not a table"]
        assert problems(named=[]) == [
            "sample.named: must be a table, each value a table, not a list"
        ]
        assert problems(inner="x") == ['sample.inner: must be a table, not "x"']

    def test_addresses_say_what_would_be_right(self) -> None:
        assert problems(networks=["10.0.0.1/8"]) == [
            'sample.networks[0]: 10.0.0.1/8 has host bits set; use "10.0.0.0/8"'
        ]
        assert problems(address="10.0.0") == ['sample.address: must be an IP address, not "10.0.0"']
        assert problems(address=5) == ["sample.address: must be an IP address, not 5"]
        assert problems(interface="::1/64")

    def test_choices_are_named(self) -> None:
        assert problems(choice="three") == [
            'sample.choice: must be one of "one", "two", not "three"'
        ]

    def test_unknown_key_is_told_what_it_may_mean(self) -> None:
        assert problems(flak=True) == ['sample.flak: unknown key; did you mean "flag"?']
        assert problems(inner={"name": "i", "zzz": 1}) == [
            "sample.inner.zzz: unknown key; there are name, size"
        ]

    def test_missing_key_is_told_what_it_must_be(self) -> None:
        assert problems(several=[{}]) == ["sample.several[0].name: is missing; it must be text"]

    def test_all_problems_are_found_at_once(self) -> None:
        assert problems(
            text=1, several=[{"name": 1}, {"size": "x"}], named={"n m": {"name": []}}, x=1
        ) == [
            "sample.text: must be text, not 1",
            "sample.several[0].name: must be text, not 1",
            "sample.several[1].name: is missing; it must be text",
            'sample.several[1].size: must be a whole number, not "x"',
            'sample.named."n m".name: must be text, not a list',
            "sample.x: unknown key; there are text, flag, whole, number, even, file, address, "
            "interface, networks, choice, inner, several, named, words",
        ]

    def test_check_of_a_class_is_not_hidden_by_other_problems(self) -> None:
        assert problems(even=3, whole="x", text="forbidden") == [
            'sample.whole: must be a whole number, not "x"',
            "sample.even: even must be even",
            "sample.text: is forbidden; say something else",
        ]

    def test_check_of_a_class_is_placed_at_the_key_that_it_names(self) -> None:
        assert problems(even=3) == ["sample.even: even must be even"]
        assert problems(text="forbidden") == ["sample.text: is forbidden; say something else"]
        assert problems(text="everything") == ["sample: it is all wrong"]


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


class AnyContentTests(unittest.TestCase):
    @settings(max_examples=200)
    @given(
        st.dictionaries(
            st.sampled_from([each.name for each in attrs.fields(Sample)]), ANYTHING, max_size=5
        )
    )
    def test_nothing_but_wrong_values_is_raised(self, content: dict[str, object]) -> None:
        try:
            assert isinstance(structure(content, Sample, DIRECTORY, ()), Sample)
        except WrongValues as wrong:
            assert wrong.found


class TypeDescriptionTests(unittest.TestCase):
    def test_types_have_words(self) -> None:
        assert describe_type(int | None) == "a whole number"
        assert describe_type(tuple[str, ...] | None) == "a list, each text"
        assert describe_type(IPv4Network | IPv6Network) == "an IP network"
        assert describe_type(dict[str, tuple[IPv4Address, ...]]) == (
            "a table, each value a list, each an IPv4 address"
        )
