"""Tests of anyvpn.backends.authorizer_python."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from anyvpn.backends.authorizer_python import PythonAuthorizer, Settings, build
from anyvpn.errors import AccessDenied, BackendFailed, ConfigurationError
from anyvpn.interfaces import IAuthorizer
from anyvpn.model.authentication import Identity, LoginRequest
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.packet_filter import FilterRule
from anyvpn.testing.authorizer_contract import AuthorizerContract
from anyvpn.testing.dialogue import A_REQUEST
from anyvpn.testing.outcomes import error_of

CODE = """
from anyvpn.model.group_policy import GroupPolicy

async def policy(identity, request):
    if identity.user == "mallory":
        return None
    if "lab" in identity.groups:
        return {"name": "lab", "dpd_s": 5.0}
    return GroupPolicy("staff")
"""


class ContractTests(AuthorizerContract, TestCase):
    policies = MappingProxyType(
        {Identity("alice"): "staff", Identity("bob", frozenset(("lab",))): "lab"}
    )
    denied = (Identity("mallory"),)

    def make_authorizer(self) -> IAuthorizer:
        file = Path(self.mktemp()).with_suffix(".py")
        file.write_text(CODE)
        return build(Settings(file=file), Clock())


class FunctionTests(TestCase):
    async def verdict(self, function: Any) -> GroupPolicy:
        made = PythonAuthorizer(function, "rules:policy", 5.0, Clock())
        return await made.authorize(Identity("alice"), A_REQUEST)

    async def test_plain_functions_will_do(self) -> None:
        def policy(identity: Identity, request: LoginRequest) -> GroupPolicy:
            return GroupPolicy(f"{identity.user} at {request.profile}")

        assert (await self.verdict(policy)).name == "alice at staff"

    async def test_its_own_denial_is_one(self) -> None:
        def policy(identity: Identity, request: LoginRequest) -> GroupPolicy:
            raise AccessDenied("not today")

        assert str(await error_of(self.verdict(policy), AccessDenied)) == "not today"

    async def test_rubbish_and_errors_are_named(self) -> None:
        for given, said in (
            (7, "rules:policy gave int, which is no policy"),
            ({"dpd": 5}, "a policy that cannot be"),
            ({"dpd_s": -5.0}, "a policy that cannot be: dpd_s must lie"),
        ):
            error = await error_of(self.verdict(lambda *_, given=given: given), BackendFailed)
            assert said in str(error)
        error = await error_of(self.verdict(lambda *_: 1 / 0), BackendFailed)
        assert str(error) == "rules:policy raised ZeroDivisionError"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    async def test_rules_may_be_texts(self) -> None:
        rule = FilterRule.read("deny any")
        given: dict[str, object] = {"filters": ["allow tcp 10.0.0.0/8", rule]}
        policy = await self.verdict(lambda *_: given)
        assert policy.filters == (FilterRule.read("allow tcp 10.0.0.0/8"), rule)
        for wrong, said in (
            ("deny any", "filters must be a list of rules"),
            (7, "filters must be a list of rules"),
            (["open"], '"open": a rule begins with allow or deny'),
        ):
            given["filters"] = wrong
            error = await error_of(self.verdict(lambda *_: given), BackendFailed)
            assert said in str(error)

    def test_one_that_never_ends_is_left(self) -> None:
        clock = Clock()
        made = PythonAuthorizer(lambda *_: Deferred(), "rules:policy", 5.0, clock)
        login = Deferred.fromCoroutine(made.authorize(Identity("alice"), A_REQUEST))
        clock.advance(5)
        self.failureResultOf(login, BackendFailed)
        assert clock.getDelayedCalls() == []

    async def test_a_file_may_have_whatever_a_module_may_have(self) -> None:
        """Dataclasses look their module up by its name."""
        file = Path(self.mktemp()).with_suffix(".py")
        file.write_text(
            "from __future__ import annotations\n"
            "from dataclasses import dataclass\n"
            "@dataclass\nclass Rule:\n    name: ClassVar = 'found'\n"
            "def policy(identity, request):\n    return {'name': Rule().name}\n"
        )
        made = build(Settings(file=file), Clock())
        assert (await made.authorize(Identity("alice"), A_REQUEST)).name == "found"


class SettingsTests:
    def test_modules_and_files_that_do_not_work_are_told(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.py"
        broken.write_text("1 / 0")
        (tmp_path / "policy.txt").touch()
        for settings, why in (
            (Settings("no.such.module"), "module: no.such.module cannot be imported"),
            (Settings("json"), 'function: json has no function "policy"'),
            (Settings(file=tmp_path / "none.py"), r"file: .* is no file"),
            (Settings(file=broken), r"file: .* cannot be imported: ZeroDivisionError"),
            (Settings(file=tmp_path / "policy.txt"), 'must end in ".py"'),
        ):
            with pytest.raises(ConfigurationError, match=why):
                build(settings, Clock())

    def test_wrong_settings_are_refused_in_words(self) -> None:
        for settings in ({}, {"module": "a", "file": Path("b")}):
            with pytest.raises(ValueError, match="either module or file"):
                Settings(**settings)
        with pytest.raises(ValueError, match="time_s"):
            Settings("a", time_s=0)
