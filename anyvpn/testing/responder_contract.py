"""What every responder must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from anyvpn.errors import BackendFailed, LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    Answer,
    BrowserLogin,
    CertificateRequest,
    Choice,
    Field,
    Form,
    Option,
    SignatureRequest,
    Step,
)

HOSTILE_TEXTS = (
    *("", "\0", "a\r\nb", "\x1b[2J\x1b]0;title\x07", "{0}%s", "$(reboot)"),
    *("\udcff", "\u202e", "\U0001f511", "x" * 100_000),
)
UNSAFE_ADDRESSES = (
    *("", "javascript:alert(1)", "file:///etc/passwd", "http://plain.example/", "--help"),
    *("https://a.example/\n", "https://a.example/\x1b[2J", "https:///", "https://\udcff/"),
)


class ResponderContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_responder(self) -> IResponder:
        """A responder that can answer `step`."""
        raise NotImplementedError

    step: Step = PASSWORD_FORM
    """Something that it can answer."""

    def is_right(self, answer: Answer) -> bool:
        """Whether this is an answer to `step`."""
        raise NotImplementedError

    def let_it_happen(self) -> None:
        """Called after each question: what the responder may wait for, such as a user's typing."""

    async def test_interface_is_provided(self) -> None:
        responder = self.make_responder()
        verifyObject(IResponder, responder)
        assert isinstance(responder.capabilities, frozenset)
        assert all(isinstance(each, str) and each for each in responder.capabilities)

    async def test_what_is_known_is_answered_in_each_login(self) -> None:
        responder = self.make_responder()
        for _ in range(2):
            responder.login_begins()
            answer = await self._answer(responder, self.step)
            assert self.is_right(answer), answer

    async def test_forms_are_answered_by_texts_for_their_own_fields(self) -> None:
        responder = self.make_responder()
        options = (Option("a", "first"), Option("b", "second", selected=True))
        names = [each.name for each in self.step.fields] if isinstance(self.step, Form) else []
        for form in (
            Form("Nothing is asked.", ()),
            Form("Who knows?", (Field("no_such_field", "Secret:", secret=True),)),
            *(Form("Only this:", (Field(name, "It:"),)) for name in names),
        ):
            responder.login_begins()
            _check(form, await self._answer(responder, form))
        for form in (Form("One of them:", (Choice(name, "Which?", options),)) for name in names):
            responder.login_begins()
            answer = await self._answer_or_none(responder, form)
            if answer is not None:
                _check(form, answer)

    async def test_a_secret_that_was_wrong_is_not_given_again(self) -> None:
        if not isinstance(self.step, Form):
            return  # a token is the other side's to make
        secret = {each.name for each in self.step.fields if getattr(each, "secret", False)}
        responder = self.make_responder()
        responder.login_begins()
        first = await self._answer(responder, self.step)
        second = await self._answer(responder, replace(self.step, error="Login failed."))
        assert isinstance(first, Mapping) and isinstance(second, Mapping)
        again = {name for name in secret & second.keys() if second[name] == first.get(name)}
        assert not again, again

    async def test_browsers_are_used_when_that_was_announced_alone(self) -> None:
        responder = self.make_responder()
        announced = any(each.startswith("single-sign-on") for each in responder.capabilities)
        for external in (True, False):
            step = BrowserLogin("https://a.example/", "https://a.example/end", external=external)
            if not announced:
                assert not await self._answer(responder, step)

    async def test_unsafe_addresses_are_not_opened(self) -> None:
        responder = self.make_responder()
        for address in UNSAFE_ADDRESSES:
            for external in (True, False):
                step = BrowserLogin(address, "https://a.example/end", external=external)
                assert not await self._answer_or_none(responder, step), address

    async def test_certificates_are_left_to_the_client(self) -> None:
        responder = self.make_responder()
        for step in (CertificateRequest(), SignatureRequest(nonce="n")):
            assert not await self._answer(responder, step)

    async def test_hostile_forms_are_answered_or_given_up(self) -> None:
        responder = self.make_responder()
        for text in HOSTILE_TEXTS:
            choice = Choice(f"{text}2", text, (Option(text, text),))
            fields = (Field(text, text, secret=True), choice)
            form = Form(text, fields, title=text, kind=text, error=text)
            responder.login_begins()
            answer = await self._answer_or_none(responder, form)
            if answer is not None:
                _check(form, answer)

    async def test_a_login_that_was_cancelled_costs_no_other(self) -> None:
        responder = self.make_responder()
        responder.login_begins()
        asking = Deferred.fromCoroutine(responder.answer(self.step))
        asking.cancel()
        with suppress(CancelledError, LoginAborted, BackendFailed):
            await asking
        responder.login_begins()
        answer = await self._answer(responder, self.step)
        assert self.is_right(answer), answer

    async def _answer(self, responder: IResponder, step: Step) -> Answer:
        asking = Deferred.fromCoroutine(responder.answer(step))
        self.let_it_happen()
        return await asking

    async def _answer_or_none(self, responder: IResponder, step: Step) -> Answer | None:
        """None: it has given up, as it may."""
        try:
            return await self._answer(responder, step)
        except (LoginAborted, BackendFailed):
            return None


def _check(form: Form, answer: Answer) -> None:
    assert isinstance(answer, Mapping), answer
    fields = {each.name: each for each in form.fields}
    assert answer.keys() <= fields.keys(), answer
    for name, text in answer.items():
        assert isinstance(text, str), answer
        field = fields[name]
        if isinstance(field, Choice):
            assert text in [each.value for each in field.options], answer
