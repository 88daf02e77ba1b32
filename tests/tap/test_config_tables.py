"""Every key has its help, and every limit is there."""

from __future__ import annotations

import dataclasses
import unittest

import attrs

from anyvpn.gateway.settings import DTLSSettings, Limits, TLSSettings
from anyvpn.plugins import KINDS, backends
from anyvpn.tap.config_structure import keys_of
from anyvpn.tap.config_tables import MAY_BE_ZERO, SECTIONS, DTLSTable, LimitsTable, TLSTable


def own_and_nested(table: type) -> list[type]:
    found = [table]
    for _, kind in keys_of(table).values():
        for each in (kind, *getattr(kind, "__args__", ())):
            if isinstance(each, type) and attrs.has(each):
                found += own_and_nested(each)
    return found


class HelpTests(unittest.TestCase):
    def test_every_key_of_every_table_and_backend_has_one_line_of_help(self) -> None:
        tables = [each.table for each in SECTIONS if each.table is not None]
        tables += [each.settings_class() for each in backends()]
        for table in [nested for each in tables for nested in own_and_nested(each)]:
            for name, (attribute, _) in keys_of(table).items():
                with self.subTest(f"{table.__module__}.{table.__name__}.{name}"):
                    text = attribute.metadata.get("help", "")
                    assert text.endswith(".")
                    assert "\n" not in text
                    assert len(text) < 100

    def test_every_kind_of_backend_has_a_section(self) -> None:
        of_clients = {"adapter", "responder"}
        assert {each.kind for each in SECTIONS} - {""} == set(KINDS) - of_clients


class LimitsTests(unittest.TestCase):
    def test_what_may_be_zero_is_what_says_so(self) -> None:
        says_so = {
            name
            for name, (attribute, _) in keys_of(LimitsTable).items()
            if "; 0: never" in attribute.metadata["help"]
        }
        assert says_so == MAY_BE_ZERO
        LimitsTable(**dict.fromkeys(MAY_BE_ZERO, 0))


class DefaultTests(unittest.TestCase):
    def test_limits_are_those_of_the_gateway(self) -> None:
        assert {each.name: each.default for each in attrs.fields(LimitsTable)} == (
            dataclasses.asdict(Limits())
        )

    def test_other_defaults_are_those_of_the_gateway(self) -> None:
        dtls, ours = DTLSTable(), DTLSSettings()
        assert (dtls.enabled, dtls.psk, dtls.legacy) == (ours.enabled, ours.psk, ours.legacy)
        tls, settings = attrs.fields(TLSTable), TLSSettings(())
        assert tls.minimum_version.default == settings.minimum_version
        assert tls.ciphers.default == settings.ciphers
