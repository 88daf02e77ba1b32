"""What every store of users' devices must do, whatever keeps it."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, DeferredList

from anyvpn.backends.one_time_code_store import CodeStore, use_up
from anyvpn.backends.one_time_codes import CodeMaker, Guessing
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.testing.outcomes import error_of
from tests.backends.test_one_time_codes import COUNTED, counted, timed

GATEWAYS = 6
NAMES = ("' OR 1=1 --", "*", "%", "a:b", "hotp:alice", "alice ", "\U0001f511", "{alice}")


class CodeStoreContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`."""

    def make_store(self) -> CodeStore:
        """What keeps the devices of this test, as one more gateway opens it."""
        raise NotImplementedError

    async def test_at_first_nobody_has_a_device(self) -> None:
        store = self.make_store()
        assert await store.devices() == ()
        assert await store.find("alice", "totp") is None
        assert not await store.remove("alice", "totp")
        assert not await store.exchange(timed(), timed())
        await store.prepare()
        assert await store.devices() == ()

    async def test_devices_are_kept_and_replaced_and_removed(self) -> None:
        store, other = self.make_store(), self.make_store()
        full = CodeMaker("alice", "totp", b"\0\xff" * 64, "sha256", 8, 60, 2**40, 7, 1.7e9 + 1 / 3)
        for each in (timed(), counted(3), timed("bob"), full):
            await store.put(each)
        await other.prepare()
        assert await other.devices() == (counted(3), full, timed("bob"))
        assert await other.find("alice", "totp") == full
        assert await other.remove("alice", "totp")
        assert await store.find("alice", "totp") is None
        assert await store.devices() == (counted(3), timed("bob"))

    async def test_strange_names_are_only_names(self) -> None:
        store = self.make_store()
        for name in NAMES:
            await store.put(timed(name))
            assert await store.find(name, "totp") == timed(name)
        assert await store.find("alice", "totp") is None
        assert {each.user for each in await store.devices()} == set(NAMES)

    async def test_only_what_is_as_it_was_is_exchanged(self) -> None:
        store, other = self.make_store(), self.make_store()
        await store.put(timed())
        assert await other.exchange(timed(), replace(timed(), next_counter=2))
        for lost in (timed(), replace(timed(), failures=1)):
            assert not await store.exchange(lost, replace(timed(), failures=9))
        assert await store.find("alice", "totp") == replace(timed(), next_counter=2)
        await other.put(CodeMaker("alice", "totp", b"another secret of hers", next_counter=2))
        assert not await store.exchange(replace(timed(), next_counter=2), timed())

    async def test_of_many_gateways_one_lets_a_code_pass(self) -> None:
        await self.make_store().put(timed())
        said = await self.at_the_same_time("287082")
        assert sorted(said) == ["", *("the code was used before",) * (GATEWAYS - 1)]

    async def test_wrong_codes_at_the_same_time_all_count(self) -> None:
        store = self.make_store()
        await store.put(timed())
        assert await self.at_the_same_time("000000") == ["the code is wrong"] * GATEWAYS
        found = await store.find("alice", "totp")
        assert found is not None
        assert (found.failures, found.failing_since_s) == (GATEWAYS, 59.0)
        for user, guessing in (("alice", Guessing(GATEWAYS)), ("bob", Guessing())):
            await error_of(self.use_up(store, "287082", user, guessing), LoginRejected)

    async def test_a_counter_never_goes_back(self) -> None:
        store, other = self.make_store(), self.make_store()
        await store.put(counted())
        await self.use_up(store, COUNTED[2], kind="hotp")
        for code in COUNTED[:3]:
            await error_of(self.use_up(other, code, kind="hotp"), LoginRejected)
        await self.use_up(other, COUNTED[3], kind="hotp")

    async def test_after_its_end_it_gives_nothing(self) -> None:
        store = self.make_store()
        await store.put(timed())
        store.close()
        await error_of(store.prepare(), BackendFailed)
        await error_of(store.find("alice", "totp"), BackendFailed)
        await error_of(store.put(timed()), BackendFailed)

    async def use_up(
        self,
        store: CodeStore,
        code: str,
        user: str = "alice",
        guessing: Guessing = Guessing(),  # noqa: B008 - a frozen value
        *,
        kind: str = "totp",
    ) -> None:
        await use_up(store, user, kind, (code,), guessing, window=2, now_s=59.0)  # type: ignore[arg-type]

    async def at_the_same_time(self, code: str) -> list[str]:
        """What each gateway says to the same code."""
        stores = [self.make_store() for _ in range(GATEWAYS)]
        done = await DeferredList(
            [Deferred.fromCoroutine(self.use_up(each, code)) for each in stores],
            consumeErrors=True,
        )
        for succeeded, failure in done:
            assert succeeded or failure.check(LoginRejected), failure
        return ["" if succeeded else str(failure.value) for succeeded, failure in done]
