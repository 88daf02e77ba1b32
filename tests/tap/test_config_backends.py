"""Backends that name others: made in the right order, and told what is wrong with the names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from zope.interface import implementer

from anyvpn.interfaces import IPublisher
from anyvpn.model.downloads import Download
from anyvpn.tap.config_backends import published_documents
from tests.tap.set_up import ConfigurationCase

TWO = """
[authenticators.both]
backend = "chain"
of = [{of}]

[authenticators.other]
backend = "cred"
checker = "memory:alice:secret"
"""


class ReferenceTests(ConfigurationCase):
    def add(self, text: str) -> None:
        file = self.set_up.file
        file.write_text(file.read_text() + text)

    def line(self, start: str) -> int:
        lines = self.set_up.file.read_text().splitlines()
        return next(n for n, each in enumerate(lines, 1) if each.startswith(start))

    def test_one_that_names_others_gets_them_whatever_the_order(self) -> None:
        self.change('authenticator = "password"', 'authenticator = "both"')
        self.add(TWO.format(of='"other", "password"'))
        [binding] = self.set_up.load().settings.profiles
        first, second = binding.authenticator._of  # type: ignore[attr-defined]
        assert type(first).__name__ == "CredAuthenticator"
        assert type(second).__name__ == "PasswordFile"

    def test_two_that_name_the_same_one_share_it(self) -> None:
        self.add(TWO.format(of='"other", "other"'))
        self.change('authenticator = "password"', 'authenticator = "both"')
        [binding] = self.set_up.load().settings.profiles
        first, second = binding.authenticator._of  # type: ignore[attr-defined]
        assert first is second

    def test_a_name_of_none_is_told_with_the_line(self) -> None:
        self.add(TWO.format(of='"othr", "password"'))
        assert self.only_problem() == (
            f"gateway.toml:{self.line('of =')}: authenticators.both.of[0]: "
            'there is no authenticator "othr"; did you mean "other"?'
        )

    def test_what_is_no_name_is_refused(self) -> None:
        self.add(TWO.format(of='1, ""'))
        first, second = self.problems()
        assert "of[0]: must be the name of one of [authenticators], not 1" in first
        assert "of[1]: must be the name of one of [authenticators]" in second

    def test_a_circle_is_shown(self) -> None:
        self.add(TWO.format(of='"other", "round"'))
        self.add('[authenticators.round]\nbackend = "any"\nof = ["password", "both"]\n')
        assert "authenticators.round.of[1]: both names round names both: none" in (
            self.only_problem()
        )

    def test_what_names_itself_is_a_circle(self) -> None:
        self.add(TWO.format(of='"other", "both"'))
        assert "of[1]: both names both: none of them can be the first" in self.only_problem()

    def test_problems_of_a_named_one_are_told_once(self) -> None:
        self.add(TWO.format(of='"other", "password"'))
        self.change('checker = "memory:alice:secret"', 'checker = "nonsense:"')
        assert "authenticators.other.checker: there is no" in self.only_problem()

    def test_certificates_need_authorities(self) -> None:
        self.add('[authenticators.laptops]\nbackend = "certificate"\n')
        assert "authenticators.laptops: needs client_ca in [tls]" in self.only_problem()
        self.change("[tls]", '[tls]\nclient_ca = "ca.pem"')
        self.set_up.load()


@implementer(IPublisher)
class Publisher:
    def __init__(self, **documents: str) -> None:
        self.documents = {
            f"/sso/{name}": Download("text/plain", text.encode())
            for name, text in documents.items()
        }


class DocumentTests:
    def published(self, *backends: object) -> tuple[dict[str, Download], list[Any]]:
        draft: Any = SimpleNamespace(problems=[])
        made = {("authenticators", f"n{number}"): each for number, each in enumerate(backends)}
        return published_documents(draft, made), draft.problems

    def test_all_that_backends_publish_is_found(self) -> None:
        found, problems = self.published(Publisher(a="one"), object(), Publisher(b="two", a="one"))
        assert {where: each.content for where, each in found.items()} == {
            "/sso/a": b"one",
            "/sso/b": b"two",
        }
        assert not problems

    def test_two_things_in_one_place_are_a_problem(self) -> None:
        _, [problem] = self.published(Publisher(a="one"), Publisher(a="two"))
        assert problem.path == ("authenticators", "n1")
        assert problem.text == "publishes /sso/a, where authenticators.n0 publishes another"
