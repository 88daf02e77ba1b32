"""The pages under docs/backends: each backend has one, and its sample can be used as it is."""

from __future__ import annotations

import re
import tomllib
import unittest
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import Any

from cattrs import Converter

from anyvpn.model.events import EventKind
from anyvpn.model.group_policy import Address, Network
from anyvpn.plugins import find_backend

PAGES = Path(__file__).parents[2] / "docs" / "backends"
TABLES = {
    "authenticator": ("authenticators", "password"),
    "authorizer": ("authorizer",),
    "addresses": ("addresses",),
    "profiles": ("profiles",),
    "tun": ("tun",),
    "sessions": ("sessions",),
    "listener": ("listeners", 0),
    "adapter": ("adapter",),
    "responder": ("responders", 0),
}
BACKENDS = (
    ("authenticator", "password_file"),
    ("authorizer", "static"),
    ("addresses", "pool"),
    ("profiles", "directory"),
    ("tun", "linux"),
    ("sessions", "sqlite"),
    ("sessions", "memory"),
    ("listener", "log"),
    ("adapter", "namespace"),
    ("responder", "given"),
    ("responder", "command"),
    ("responder", "totp"),
)


def converter() -> Converter:
    made = Converter(forbid_extra_keys=True)
    for each in (IPv4Address, IPv6Address, IPv4Network, IPv6Network, Path):
        made.register_structure_hook(each, lambda text, kind: kind(text))
    made.register_structure_hook(Address, lambda text, _: ip_address(text))
    made.register_structure_hook(Address | None, lambda text, _: ip_address(text))
    made.register_structure_hook(Network, lambda text, _: ip_network(text))
    return made


class PageTests(unittest.TestCase):
    def test_every_sample_is_a_configuration_of_its_backend(self) -> None:
        for kind, name in BACKENDS:
            text = (PAGES / f"{kind}_{name}.md").read_text()
            found = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
            assert found is not None, name
            table: Any = tomllib.loads(found[1])
            for key in TABLES[kind]:
                table = table[key]
            assert table.pop("backend") == name
            settings_class = find_backend(kind, name).settings_class()
            assert isinstance(converter().structure(table, settings_class), settings_class)

    def test_listener_s_page_names_every_kind_of_event(self) -> None:
        text = (PAGES / "listener_log.md").read_text()
        assert [kind.value for kind in EventKind if f"`{kind.value}`" not in text] == []
