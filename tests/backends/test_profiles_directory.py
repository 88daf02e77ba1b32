from __future__ import annotations

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from anyvpn.backends.profiles_directory import (
    LARGEST_PROFILE_BYTES,
    ProfileDirectory,
    Settings,
    build,
)
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IProfileProvider
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.testing.outcomes import completed
from anyvpn.testing.profiles_contract import ProfilesContract

CAPTURED = Path(__file__).parents[1] / "captures" / "profile_download" / "profile.xml"
ANNOUNCED_SHA1 = "225623179E4A07AFE03CAC35D19FB4646903DC9F"
START = b'<AnyConnectProfile xmlns="http://schemas.xmlsoap.org/encoding/">'
END = b"</AnyConnectProfile>"
SMALL = START + END


def given_to(
    provider: ProfileDirectory, *groups: str, policy: str = "default", user: str = "alice"
) -> list[str]:
    profiles = completed(
        provider.profiles_for(Identity(user, frozenset(groups)), GroupPolicy(policy))
    )
    return [each.name for each in profiles]


def content_of(provider: ProfileDirectory) -> bytes:
    (profile,) = completed(provider.profiles_for(Identity("alice"), GroupPolicy()))
    return profile.content


class ProfileDirectoryContractTests(ProfilesContract, TestCase):
    contents = frozenset((CAPTURED.read_bytes(),))

    def make_profiles(self) -> IProfileProvider:
        return build(Settings(CAPTURED.parent, CAPTURED.name), None)


class ChoiceTests(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        for name in ("default.xml", "lab.xml", "ops.xml", "engineering.xml"):
            (self.directory / name).write_bytes(SMALL)

    def provider(self, **more: Any) -> ProfileDirectory:
        return build(Settings(self.directory, **more), None)

    def test_without_a_directory_nobody_gets_a_profile(self) -> None:
        assert given_to(build(Settings(), None)) == []

    def test_unnamed_files_are_given_to_nobody(self) -> None:
        assert given_to(self.provider()) == []

    def test_group_goes_before_policy_and_policy_before_default(self) -> None:
        provider = self.provider(
            default_profile="default.xml",
            by_policy={"engineering": "engineering.xml", "bare": ""},
            by_group={"ops": "ops.xml", "lab": "lab.xml"},
        )
        assert given_to(provider) == ["default.xml"]
        assert given_to(provider, policy="engineering") == ["engineering.xml"]
        assert given_to(provider, "lab", policy="engineering") == ["lab.xml"]
        assert given_to(provider, "lab", "ops") == ["ops.xml"]
        assert given_to(provider, policy="bare") == []

    def test_hash_is_what_was_announced_for_these_bytes_on_the_wire(self) -> None:
        provider = build(Settings(CAPTURED.parent, CAPTURED.name), None)
        (profile,) = completed(provider.profiles_for(Identity("alice"), GroupPolicy()))
        assert profile.sha1 == ANNOUNCED_SHA1

    def test_names_that_lead_elsewhere_are_refused(self) -> None:
        for name in ("../secret.xml", "/etc/passwd", "a b.xml", ".hidden", "a\n.xml", "ä.xml"):
            with pytest.raises(ValueError, match="must be a file name"):
                Settings(self.directory, name)

    def test_names_without_a_directory_are_refused(self) -> None:
        with pytest.raises(ValueError, match="directory must be given"):
            Settings(None, "default.xml")


class ChangeTests(unittest.TestCase):
    def setUp(self) -> None:
        self.file = Path(self.enterContext(TemporaryDirectory())) / "default.xml"
        self.file.write_bytes(SMALL)
        self.provider = build(Settings(self.file.parent, self.file.name), None)

    def replace(self, content: bytes) -> None:
        new = self.file.with_suffix(".new")
        new.write_bytes(content)
        new.replace(self.file)

    def test_replaced_file_is_given_at_once(self) -> None:
        changed = START + b"<!-- changed -->" + END
        self.replace(changed)
        assert content_of(self.provider) == changed

    def test_file_written_in_place_is_given_at_once(self) -> None:
        changed = SMALL + b"\n"
        self.file.write_bytes(changed)
        assert content_of(self.provider) == changed

    def test_broken_or_missing_file_leaves_the_one_before(self) -> None:
        for content in (b"", b"<broken", SMALL[:-3], b"x" * (LARGEST_PROFILE_BYTES + 1)):
            self.replace(content)
            assert content_of(self.provider) == SMALL
        self.file.unlink()
        assert content_of(self.provider) == SMALL

    def test_file_that_comes_back_is_given(self) -> None:
        self.file.unlink()
        assert content_of(self.provider) == SMALL
        self.file.write_bytes(SMALL + b"\n\n")
        assert content_of(self.provider) == SMALL + b"\n\n"


class RefusalTests(unittest.TestCase):
    def setUp(self) -> None:
        self.file = Path(self.enterContext(TemporaryDirectory())) / "default.xml"

    def refusal(self, content: bytes) -> str:
        self.file.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            build(Settings(self.file.parent, self.file.name), None)
        return str(caught.value)

    def test_bad_xml_is_named_with_its_line(self) -> None:
        text = self.refusal(START + b"\n<ServerList>\n<HostEntry>\n</ServerList>" + END)
        assert text.startswith(f"{self.file}:4: is not well-formed XML: ")

    def test_other_documents_are_refused(self) -> None:
        assert "must have the root element AnyConnectProfile" in self.refusal(b"<html/>")
        assert "not well-formed" in self.refusal(b"")

    def test_names_that_are_none_are_refused(self) -> None:
        for name in (b":", b"a:", b"::", b":a"):
            assert str(self.file) in self.refusal(b"<" + name)

    def test_document_types_and_entities_are_refused(self) -> None:
        bomb = b'<!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]>' + START + b"&y;" + END
        assert "must not have a DOCTYPE" in self.refusal(bomb)
        assert "must not have a DOCTYPE" in self.refusal(b"<!DOCTYPE AnyConnectProfile>" + SMALL)
        assert "not well-formed" in self.refusal(START + b"&nowhere;" + END)

    def test_oversized_file_is_refused(self) -> None:
        padding = b" " * LARGEST_PROFILE_BYTES
        assert "is larger than" in self.refusal(START + padding + END)

    def test_deep_nesting_is_refused(self) -> None:
        depth = 100_000
        text = self.refusal(START + b"<a>" * depth + b"</a>" * depth + END)
        assert "not well-formed" in text

    def test_all_missing_files_are_named_at_once(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            build(Settings(self.file.parent, "one.xml", {"p": "two.xml"}), None)
        assert [each.partition(": ")[0] for each in caught.value.problems] == [
            str(self.file.parent / "one.xml"),
            str(self.file.parent / "two.xml"),
        ]

    def test_directory_in_place_of_a_file_is_refused(self) -> None:
        self.file.mkdir()
        with pytest.raises(ConfigurationError, match="cannot be read"):
            build(Settings(self.file.parent, self.file.name), None)

    @settings(max_examples=100)
    @given(st.integers(0, len(CAPTURED.read_bytes().rstrip()) - 1))
    def test_captured_profile_cut_off_anywhere_is_refused(self, length: int) -> None:
        self.refusal(CAPTURED.read_bytes()[:length])

    @settings(max_examples=100)
    @given(st.binary(max_size=200))
    def test_no_bytes_raise_anything_else(self, content: bytes) -> None:
        self.refusal(content)
