"""What every provider of client profiles must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from urllib.parse import quote

from zope.interface.verify import verifyObject

from anyvpn.interfaces import IProfileProvider
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy

POLICY = GroupPolicy()


class ProfilesContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_profiles(self) -> IProfileProvider:
        """A provider that gives `user` exactly the contents of `contents`."""
        raise NotImplementedError

    user = Identity("alice")
    contents: frozenset[bytes]

    async def test_interface_is_provided(self) -> None:
        verifyObject(IProfileProvider, self.make_profiles())

    async def test_content_is_the_exact_bytes(self) -> None:
        profiles = await self.make_profiles().profiles_for(self.user, POLICY)
        assert isinstance(profiles, tuple)
        assert {each.content for each in profiles} == self.contents

    async def test_names_are_unique_and_fit_into_a_uri(self) -> None:
        profiles = await self.make_profiles().profiles_for(self.user, POLICY)
        names = [each.name for each in profiles]
        assert len(set(names)) == len(names)
        for name in names:
            assert name, names
            assert quote(name, safe="") == name, name

    async def test_profile_stays_the_same_between_announcement_and_download(self) -> None:
        provider = self.make_profiles()
        first = await provider.profiles_for(self.user, POLICY)
        assert await provider.profiles_for(self.user, POLICY) == first

    async def test_strange_users_cost_nothing_but_their_own_profile(self) -> None:
        provider = self.make_profiles()
        for name in ("\0", "../../etc/passwd", "\udcff", "x" * 10_000):
            identity = Identity(name, frozenset((name,)))
            assert isinstance(await provider.profiles_for(identity, POLICY), tuple)
