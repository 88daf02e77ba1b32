"""What every authenticator must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from anyvpn.errors import LoginAborted, LoginRejected
from anyvpn.interfaces import IAuthenticator, IPublisher
from anyvpn.model.authentication import LoginRequest
from anyvpn.model.browser_pages import PAGE_TREES
from anyvpn.model.downloads import Download
from anyvpn.testing.dialogue import A_REQUEST, Script, ScriptedDialogue
from anyvpn.testing.outcomes import error_of

HOSTILE_TEXTS = ("", "\0", "a\0b", "x" * 100_000, "\udcff", "*)(uid=*", "' or 1=1 --", "\r\nx: y")


class AuthenticatorContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_authenticator(self) -> IAuthenticator:
        """An authenticator that knows `user`."""
        raise NotImplementedError

    def right_answers(self) -> tuple[Script, ...]:
        """The answers that log `user` in."""
        raise NotImplementedError

    def wrong_answers(self) -> tuple[Script, ...]:
        """Answers of somebody who only pretends to be `user`."""
        raise NotImplementedError

    request: LoginRequest = A_REQUEST
    """What is known of the client before it is asked anything."""

    user = "alice"
    groups: frozenset[str] = frozenset()

    any_name = False
    """Whether anybody gets in with the right secret, under whatever name they give."""

    async def test_interface_is_provided(self) -> None:
        verifyObject(IAuthenticator, self.make_authenticator())

    async def test_right_answers_give_the_identity(self) -> None:
        dialogue = ScriptedDialogue(self.request, answers=self.right_answers())
        identity = await self.make_authenticator().authenticate(dialogue)
        assert (identity.user, identity.groups) == (self.user, self.groups), identity

    async def test_wrong_answers_are_rejected(self) -> None:
        dialogue = ScriptedDialogue(self.request, answers=self.wrong_answers())
        await error_of(self.make_authenticator().authenticate(dialogue), LoginRejected)

    async def test_wrong_answers_do_not_spoil_right_ones(self) -> None:
        authenticator = self.make_authenticator()
        wrong = ScriptedDialogue(self.request, answers=self.wrong_answers())
        await error_of(authenticator.authenticate(wrong), LoginRejected)
        right = ScriptedDialogue(self.request, answers=self.right_answers())
        assert (await authenticator.authenticate(right)).user == self.user

    async def test_dialogues_at_the_same_time_are_not_mixed_up(self) -> None:
        authenticator = self.make_authenticator()
        right = Deferred.fromCoroutine(
            authenticator.authenticate(ScriptedDialogue(self.request, answers=self.right_answers()))
        )
        wrong = Deferred.fromCoroutine(
            error_of(
                authenticator.authenticate(
                    ScriptedDialogue(self.request, answers=self.wrong_answers())
                ),
                LoginRejected,
            )
        )
        await wrong
        assert (await right).user == self.user

    async def test_vanished_client_aborts_the_login(self) -> None:
        for count in range(len(self.right_answers())):
            dialogue = ScriptedDialogue(self.request, answers=self.right_answers()[:count])
            await error_of(self.make_authenticator().authenticate(dialogue), LoginAborted)

    async def test_hostile_answers_are_rejected(self) -> None:
        """Each answer to each question is replaced, one after another."""
        authenticator = self.make_authenticator()
        answers = self.right_answers()
        for index, answer in enumerate(answers):
            if not isinstance(answer, Mapping):
                continue
            hostile = [
                {**answer, key: text}
                for key in answer
                for text in HOSTILE_TEXTS
                if answer[key] and not (self.any_name and key == "username")
            ]
            for each in [{}, *hostile]:
                script = (*answers[:index], each, *answers[index + 1 :])
                dialogue = ScriptedDialogue(self.request, answers=script)
                await error_of(authenticator.authenticate(dialogue), LoginRejected)

    async def test_rejection_tells_no_secret(self) -> None:
        dialogue = ScriptedDialogue(self.request, answers=self.wrong_answers())
        error = await error_of(self.make_authenticator().authenticate(dialogue), LoginRejected)
        fields = [
            field
            for step in dialogue.asked
            for field in getattr(step, "fields", ())
            if getattr(field, "secret", False)
        ]
        for answer in self.wrong_answers():
            for field in fields:
                if isinstance(answer, Mapping) and answer.get(field.name):
                    assert answer[field.name] not in str(error)


class PublishingAuthenticatorContract(AuthenticatorContract):
    """The same for one that has documents for everybody."""

    async def test_what_it_publishes_can_be_served(self) -> None:
        made = self.make_authenticator()
        verifyObject(IPublisher, made)
        documents = IPublisher(made).documents
        assert documents
        for path, document in documents.items():
            assert path.startswith(PAGE_TREES), path
            assert isinstance(document, Download)
            assert isinstance(document.content, bytes)
            assert document.content_type.isascii(), document.content_type
            assert "/" in document.content_type, document.content_type
