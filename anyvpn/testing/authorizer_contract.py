"""What every authorizer must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface.verify import verifyObject

from anyvpn.errors import AccessDenied
from anyvpn.interfaces import IAuthorizer, ILayeredAuthorizer
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy, merge
from anyvpn.testing.dialogue import A_REQUEST
from anyvpn.testing.outcomes import error_of


class AuthorizerContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_authorizer(self) -> IAuthorizer:
        """An authorizer that lets every user of `policies` in and refuses all of `denied`."""
        raise NotImplementedError

    policies: Mapping[Identity, str]
    """At least two identities, and the names of their policies, of which two differ."""

    denied: tuple[Identity, ...] = ()

    async def test_interface_is_provided(self) -> None:
        verifyObject(IAuthorizer, self.make_authorizer())

    async def test_each_identity_gets_its_policy(self) -> None:
        authorizer = self.make_authorizer()
        for identity, name in self.policies.items():
            policy = await authorizer.authorize(identity, A_REQUEST)
            assert isinstance(policy, GroupPolicy), policy
            assert policy.name == name, (identity, policy)

    async def test_same_question_has_the_same_answer(self) -> None:
        authorizer = self.make_authorizer()
        for identity in self.policies:
            first = await authorizer.authorize(identity, A_REQUEST)
            assert await authorizer.authorize(identity, A_REQUEST) == first

    async def test_denied_identities_are_denied(self) -> None:
        authorizer = self.make_authorizer()
        for identity in self.denied:
            await error_of(authorizer.authorize(identity, A_REQUEST), AccessDenied)

    async def test_strange_names_get_a_policy_or_are_denied(self) -> None:
        authorizer = self.make_authorizer()
        for user in ("\0", "x" * 10_000, "\udcff", "*)(uid=*", "../../etc/passwd", "deny"):
            identity = Identity(user, frozenset((user,)))
            try:
                policy = await authorizer.authorize(identity, A_REQUEST)
            except AccessDenied:
                continue
            assert isinstance(policy, GroupPolicy), policy


class LayeredAuthorizerContract(AuthorizerContract):
    """The same for authorizers that can say which of their rules gives which value."""

    def make_authorizer(self) -> ILayeredAuthorizer:
        """An authorizer that lets every user of `policies` in and refuses all of `denied`."""
        raise NotImplementedError

    async def test_layered_interface_is_provided(self) -> None:
        verifyObject(ILayeredAuthorizer, self.make_authorizer())

    async def test_layers_make_the_policy(self) -> None:
        authorizer = self.make_authorizer()
        for identity in self.policies:
            name, layers = await authorizer.layers(identity, A_REQUEST)
            policy = await authorizer.authorize(identity, A_REQUEST)
            assert merge(name, layers) == policy, (identity, layers)
            assert all(each.origin for each in layers), layers

    async def test_whoever_is_denied_has_no_layers(self) -> None:
        authorizer = self.make_authorizer()
        for identity in self.denied:
            await error_of(authorizer.layers(identity, A_REQUEST), AccessDenied)
