"""Who may come in at all, counted by where they come from."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from anyvpn.gateway import admission as admission_module
from anyvpn.gateway.admission import Admission
from anyvpn.gateway.settings import Limits

HOST = "192.0.2.1"
OTHER_HOST = "192.0.2.2"
SAME_SOURCE = [
    (HOST, "::ffff:192.0.2.1"),
    ("2001:db8:1:2::3", "2001:db8:1:2:ffff::9"),
    ("fe80::1%eth0", "fe80::2%eth1"),
    ("2001:db8::1", "2001:0DB8:0:0:0:0:0:1"),
    ("a name", "a name"),
]


def admission(limits: Limits, clock: Clock | None = None) -> Admission:
    return Admission(limits, (clock or Clock()).seconds)


class ConnectionTests:
    def test_one_source_has_a_share_and_others_have_theirs(self) -> None:
        door = admission(Limits(connections_per_address=2))
        assert [door.connection_refusal(HOST) for _ in range(2)] == ["", ""]
        assert door.connection_refusal(HOST) == "2 connections are open from 192.0.2.1"
        assert door.connection_refusal(OTHER_HOST) == ""

    def test_all_sources_together_have_a_limit(self) -> None:
        door = admission(Limits(connections=2))
        assert door.connection_refusal(HOST) == ""
        assert door.connection_refusal(OTHER_HOST) == ""
        assert door.connection_refusal("192.0.2.3") == "2 connections are open, which is the limit"

    @pytest.mark.parametrize("limits", [Limits(connections=1), Limits(connections_per_address=1)])
    def test_one_that_is_gone_makes_room_for_one(self, limits: Limits) -> None:
        door = admission(limits)
        assert door.connection_refusal(HOST) == ""
        assert door.connection_refusal(HOST) != ""
        door.connection_closed(HOST)
        assert door.connection_refusal(HOST) == ""
        assert door.connection_refusal(HOST) != ""

    def test_the_others_of_its_source_still_count(self) -> None:
        door = admission(Limits(connections_per_address=3))
        for _ in range(3):
            door.connection_refusal(HOST)
        door.connection_closed(HOST)
        assert [door.connection_refusal(HOST) == "" for _ in range(2)] == [True, False]

    def test_one_that_was_refused_counts_for_nothing(self) -> None:
        door = admission(Limits(connections=3, connections_per_address=1))
        for _ in range(10):
            door.connection_refusal(HOST)
        assert door.connection_refusal(OTHER_HOST) == ""
        door.connection_closed(HOST)
        assert door.connection_refusal(HOST) == ""

    @pytest.mark.parametrize(("address", "same"), SAME_SOURCE)
    def test_addresses_of_one_source_are_counted_together(self, address: str, same: str) -> None:
        door = admission(Limits(connections_per_address=1))
        assert door.connection_refusal(address) == ""
        assert door.connection_refusal(same) != ""

    def test_networks_next_to_each_other_are_two_sources(self) -> None:
        door = admission(Limits(connections_per_address=1))
        assert door.connection_refusal("2001:db8:1:2::3") == ""
        assert door.connection_refusal("2001:db8:1:3::3") == ""

    def test_nothing_is_kept_of_sources_without_connections(self) -> None:
        door = admission(Limits())
        for number in range(100):
            door.connection_refusal(f"192.0.2.{number}")
        for number in range(100):
            door.connection_closed(f"192.0.2.{number}")
        assert door._connections == {}


class BanTests:
    def test_too_many_failures_shut_a_source_out_for_a_time(self) -> None:
        clock = Clock()
        door = admission(Limits(failures_before_ban=3, ban_time_s=100.0), clock)
        for _ in range(2):
            door.login_failed(HOST)
        assert not door.is_banned(HOST)
        clock.advance(50)
        door.login_failed(HOST)
        assert door.is_banned(HOST)
        assert not door.is_banned(OTHER_HOST)
        clock.advance(100)  # from the last failure on, not from the first
        assert door.is_banned(HOST)
        clock.advance(1)
        assert not door.is_banned(HOST)

    def test_who_was_shut_out_begins_anew(self) -> None:
        clock = Clock()
        door = admission(Limits(failures_before_ban=2, ban_time_s=100.0), clock)
        door.login_failed(HOST)
        door.login_failed(HOST)
        clock.advance(101)
        door.login_failed(HOST)
        assert not door.is_banned(HOST)
        door.login_failed(HOST)
        assert door.is_banned(HOST)

    def test_failures_long_ago_do_not_count(self) -> None:
        clock = Clock()
        door = admission(Limits(failures_before_ban=3, ban_time_s=100.0), clock)
        for _ in range(6):
            door.login_failed(HOST)
            assert not door.is_banned(HOST)
            clock.advance(60)

    def test_more_failures_do_not_make_it_longer(self) -> None:
        clock = Clock()
        door = admission(Limits(failures_before_ban=1, ban_time_s=100.0), clock)
        door.login_failed(HOST)
        clock.advance(90)
        door.login_failed(HOST)
        clock.advance(11)
        assert not door.is_banned(HOST)

    def test_zero_switches_it_off(self) -> None:
        door = admission(Limits(failures_before_ban=0))
        for _ in range(100):
            door.login_failed(HOST)
        assert not door.is_banned(HOST)

    @pytest.mark.parametrize(("address", "same"), SAME_SOURCE)
    def test_a_source_is_shut_out_with_all_its_addresses(self, address: str, same: str) -> None:
        door = admission(Limits(failures_before_ban=1))
        door.login_failed(address)
        assert door.is_banned(same)


class UserTests:
    """Guesses at one user's password, from wherever they come."""

    limits = Limits(failures_before_ban=0, failures_per_user=3, ban_time_s=100.0)

    def guess(self, door: Admission, times: int, user: str = "alice") -> None:
        for number in range(times):
            door.login_failed(f"198.51.100.{number}", user)

    def test_too_many_shut_the_user_out_for_a_time(self) -> None:
        clock = Clock()
        door = admission(self.limits, clock)
        self.guess(door, 2)
        assert not door.is_shut_out("alice", HOST)
        self.guess(door, 1)
        assert door.is_shut_out("alice", HOST)
        assert not door.is_shut_out("bob", HOST)
        assert not door.is_banned(HOST)
        clock.advance(101)
        assert not door.is_shut_out("alice", HOST)

    def test_where_the_user_got_in_before_the_door_stays_open(self) -> None:
        door = admission(self.limits)
        door.login_succeeded("2001:db8::1", "alice")
        self.guess(door, 5)
        assert not door.is_shut_out("alice", "2001:db8::2")  # one network, one source
        assert door.is_shut_out("alice", HOST)

    def test_anothers_success_opens_nothing(self) -> None:
        door = admission(self.limits)
        door.login_succeeded(HOST, "bob")
        self.guess(door, 5)
        assert door.is_shut_out("alice", HOST)

    def test_a_source_that_is_banned_is_shut_out_at_home_too(self) -> None:
        door = admission(Limits(failures_before_ban=1))
        door.login_succeeded(HOST, "alice")
        door.login_failed(HOST)
        assert door.is_shut_out("alice", HOST)

    def test_failures_without_a_name_count_for_no_user(self) -> None:
        door = admission(self.limits)
        self.guess(door, 5, user="")
        assert not door.is_shut_out("", HOST)

    def test_zero_switches_it_off(self) -> None:
        door = admission(Limits(failures_before_ban=0, failures_per_user=0))
        self.guess(door, 200)
        assert not door.is_shut_out("alice", HOST)

    def test_who_got_in_again_is_not_among_the_oldest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission_module, "MOST_ADDRESSES", 2)
        door = admission(self.limits)
        for user in ("alice", "bob", "alice", "carol"):
            door.login_succeeded(HOST, user)
        self.guess(door, 3)
        assert not door.is_shut_out("alice", HOST)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission_module, "MOST_ADDRESSES", 10)
        door = admission(self.limits)
        for number in range(50):
            door.login_failed(HOST, f"user {number}")
            door.login_succeeded(HOST, f"user {number}")
        assert len(door._user_failures) == len(door._homes) == 10


class HelloTests:
    def test_a_burst_of_a_seconds_worth_is_let_in(self) -> None:
        door = admission(Limits(hellos_per_address_per_s=5.0))
        assert [door.hello_allowed(HOST) for _ in range(7)] == [True] * 5 + [False] * 2
        assert door.hello_allowed(OTHER_HOST)

    def test_then_as_many_as_the_rate_allows(self) -> None:
        clock = Clock()
        door = admission(Limits(hellos_per_address_per_s=5.0), clock)
        for _ in range(5):
            door.hello_allowed(HOST)
        allowed = 0
        for _ in range(100):
            clock.advance(0.1)
            allowed += door.hello_allowed(HOST)
        assert 49 <= allowed <= 50

    def test_patience_does_not_make_bursts_longer(self) -> None:
        clock = Clock()
        door = admission(Limits(hellos_per_address_per_s=2.0), clock)
        door.hello_allowed(HOST)
        clock.advance(1000)
        assert [door.hello_allowed(HOST) for _ in range(3)] == [True, True, False]

    def test_a_rate_below_one_lets_one_in_from_time_to_time(self) -> None:
        clock = Clock()
        door = admission(Limits(hellos_per_address_per_s=0.1), clock)
        assert [door.hello_allowed(HOST) for _ in range(2)] == [True, False]
        clock.advance(9)
        assert not door.hello_allowed(HOST)
        clock.advance(1.5)
        assert door.hello_allowed(HOST)

    @pytest.mark.parametrize(("address", "same"), SAME_SOURCE)
    def test_addresses_of_one_source_have_one_rate(self, address: str, same: str) -> None:
        door = admission(Limits(hellos_per_address_per_s=1.0))
        assert door.hello_allowed(address)
        assert not door.hello_allowed(same)


class MemoryTests:
    def test_a_flood_of_sources_costs_bounded_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission_module, "MOST_ADDRESSES", 10)
        door = admission(Limits())
        for number in range(200):
            door.login_failed(f"192.0.2.{number}")
            door.hello_allowed(f"192.0.2.{number}")
        assert len(door._failures) == len(door._hellos) == 10

    def test_the_oldest_are_forgotten_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission_module, "MOST_ADDRESSES", 2)
        door = admission(Limits(failures_before_ban=1))
        for address in (HOST, OTHER_HOST, "192.0.2.3"):
            door.login_failed(address)
        assert [door.is_banned(each) for each in (HOST, OTHER_HOST, "192.0.2.3")] == [
            False,
            True,
            True,
        ]

    def test_who_fails_again_after_a_ban_is_not_among_the_oldest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission_module, "MOST_ADDRESSES", 2)
        clock = Clock()
        door = admission(Limits(failures_before_ban=1, ban_time_s=100.0), clock)
        door.login_failed(HOST)
        door.login_failed(OTHER_HOST)
        clock.advance(101)
        door.login_failed(HOST)
        door.login_failed("192.0.2.3")
        assert door.is_banned(HOST)
