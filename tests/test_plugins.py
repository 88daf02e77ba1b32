from __future__ import annotations

import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import cast

import pytest
from twisted import plugins as dropins
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from anyvpn.errors import BackendUnavailable, ConfigurationError
from anyvpn.interfaces import IBackend, ISessionStore
from anyvpn.plugins import KINDS, Backend, backends, find_backend

BUILT_IN = {
    ("adapter", "linux"),
    ("adapter", "namespace"),
    ("adapter", "script"),
    ("responder", "given"),
    ("responder", "terminal"),
    ("addresses", "pool"),
    ("authenticator", "oidc"),
    ("authenticator", "password_file"),
    ("authorizer", "static"),
    ("listener", "log"),
    ("profiles", "directory"),
    ("sessions", "memory"),
    ("sessions", "sqlite"),
    ("tun", "linux"),
}


class Folder:
    """A folder of dropins and of the modules that they name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, name: str, text: str) -> None:
        (self._path / f"{name}.py").write_text(dedent(text))

    def add_backend(self, dropin: str, arguments: str) -> None:
        self.add(dropin, f"from anyvpn.plugins import Backend\nit = Backend({arguments})\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setattr(dropins, "__path__", [*dropins.__path__, str(tmp_path)])
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Folder(tmp_path)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is not None and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


class BuiltInTests(unittest.TestCase):
    def test_everything_in_the_box_is_announced(self) -> None:
        assert {(each.kind, each.name) for each in backends()} >= BUILT_IN

    def test_every_built_in_backend_can_be_imported_and_has_settings(self) -> None:
        for kind, name in BUILT_IN:
            backend = find_backend(kind, name)
            verifyObject(IBackend, backend)
            assert backend.settings_class().__name__ == "Settings"
            assert backend.summary

    def test_every_setting_has_a_line_of_help(self) -> None:
        for kind, name in BUILT_IN:
            for attribute in find_backend(kind, name).settings_class().__attrs_attrs__:  # type: ignore[attr-defined]
                line = attribute.metadata.get("help", "")
                assert line, (kind, name, attribute.name)
                assert "\n" not in line, (kind, name, attribute.name)

    def test_announcing_imports_no_backend(self) -> None:
        """Every run of twistd reads the dropin, whatever it is to start."""
        code = (
            "import sys; import twisted.plugins.anyvpn_dropin; "
            "print(*(n for n in sys.modules if n.startswith('anyvpn.backends.') "
            "or n in ('lxml', 'sqlite3', 'argon2', 'cattrs', 'pyroute2', 'OpenSSL', 'joserfc')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, []), done.stderr

    def test_memory_store_is_built_through_its_descriptor(self) -> None:
        backend = find_backend("sessions", "memory")
        verifyObject(ISessionStore, backend.build(backend.settings_class()(), object()))


class FindTests(unittest.TestCase):
    def test_misspelt_name_is_told_the_right_one(self) -> None:
        with pytest.raises(BackendUnavailable) as caught:
            find_backend("sessions", "sqllite")
        assert 'did you mean "sqlite"?' in str(caught.value)
        assert "memory, sqlite" in str(caught.value)

    def test_unknown_kind_names_the_kinds(self) -> None:
        with pytest.raises(BackendUnavailable, match="authenticator, authorizer"):
            find_backend("authentication", "password_file")

    def test_descriptor_of_an_unknown_kind_cannot_be_made(self) -> None:
        with pytest.raises(ValueError, match="no backend kind 'auth'"):
            Backend("auth", "x", "x", "x")

    def test_unavailable_is_a_configuration_error(self) -> None:
        assert issubclass(BackendUnavailable, ConfigurationError)


class ForeignPluginTests:
    def test_other_packages_announce_theirs(self, folder: Folder) -> None:
        folder.add_backend("other_dropin", '"sessions", "redis", "other_redis", "in Redis"')
        folder.add(
            "other_redis",
            """
            import attrs
            from anyvpn.backends.sessions_memory import MemorySessions
            @attrs.frozen
            class Settings:
                url: str = "redis://"
            def build(settings, reactor):
                return MemorySessions()
            """,
        )
        backend = find_backend("sessions", "redis")
        assert backend.settings_class()().url == "redis://"
        assert ISessionStore.providedBy(backend.build(backend.settings_class()(), None))

    def test_a_module_that_an_extra_brings_is_named_with_it(self, folder: Folder) -> None:
        announced = '"sessions", "redis", "other_redis", "in Redis", extra="other[redis]"'
        folder.add_backend("other_dropin", announced)
        folder.add("other_redis", "import module_that_is_not_there\n")
        with pytest.raises(BackendUnavailable) as caught:
            find_backend("sessions", "redis").settings_class()
        assert "module_that_is_not_there" in str(caught.value)
        assert 'pip install "other[redis]" brings what it needs' in str(caught.value)

    def test_same_name_twice_names_both(self, folder: Folder) -> None:
        folder.add_backend("first_dropin", '"sessions", "redis", "first_redis", ""')
        folder.add_backend("second_dropin", '"sessions", "redis", "second_redis", ""')
        with pytest.raises(BackendUnavailable, match="first_redis and second_redis"):
            find_backend("sessions", "redis")
        assert find_backend("sessions", "sqlite").name == "sqlite"

    def test_broken_dropin_costs_itself_and_is_logged_by_name(
        self, folder: Folder, logged: list[LogEvent]
    ) -> None:
        folder.add("broken_dropin", "raise RuntimeError('no')")
        folder.add_backend("good_dropin", '"sessions", "redis", "good_redis", ""')
        assert find_backend("sessions", "redis").name == "redis"
        assert any("broken_dropin" in str(event.get("module")) for event in logged)

    def test_plugin_that_breaks_the_interface_is_left_out(
        self, folder: Folder, logged: list[LogEvent]
    ) -> None:
        folder.add(
            "half_dropin",
            """
            from zope.interface import implementer
            from twisted.plugin import IPlugin
            from anyvpn.interfaces import IBackend
            @implementer(IPlugin, IBackend)
            class Half:
                kind = "sessions"
                name = "half"
            half = Half()
            """,
        )
        assert "half" not in [each.name for each in backends()]
        assert any(event.get("plugin") == "half" for event in logged)

    @pytest.mark.parametrize(
        ("module", "problem"),
        [
            ("import a_library_that_is_not_there", "a_library_that_is_not_there"),
            ("raise SystemError('broken')", "broken"),
            ("def build(settings, reactor): pass", "no attrs class `Settings`"),
            ("class Settings: pass", "no attrs class `Settings`"),
        ],
    )
    def test_module_that_cannot_be_used_says_why(
        self, folder: Folder, module: str, problem: str
    ) -> None:
        folder.add_backend("other_dropin", '"sessions", "redis", "other_redis", ""')
        folder.add("other_redis", module)
        with pytest.raises(BackendUnavailable) as caught:
            find_backend("sessions", "redis").settings_class()
        assert problem in str(caught.value)
        assert "other_redis" in str(caught.value)

    @pytest.mark.parametrize(
        ("build", "problem"),
        [
            ("", "no function `build"),
            ("def build(settings, reactor): return object()", "ISessionStore"),
            (
                """
from zope.interface import implementer
from anyvpn.interfaces import ISessionStore
@implementer(ISessionStore)
class Half:
    async def save(self, record): pass
def build(settings, reactor): return Half()
""",
                "find",
            ),
        ],
    )
    def test_what_is_built_must_keep_to_the_interface(
        self, folder: Folder, build: str, problem: str
    ) -> None:
        folder.add_backend("other_dropin", '"sessions", "redis", "other_redis", ""')
        folder.add("other_redis", build)
        with pytest.raises(BackendUnavailable) as caught:
            find_backend("sessions", "redis").build(None, None)
        assert problem in str(caught.value)


class KindTests(unittest.TestCase):
    def test_every_kind_has_a_built_in_backend(self) -> None:
        assert {kind for kind, _ in BUILT_IN} == set(KINDS)
