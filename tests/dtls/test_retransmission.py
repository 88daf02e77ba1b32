import pytest

from anyvpn.dtls.retransmission import Retransmission
from anyvpn.errors import HandshakeFailed


def times_of_repeats(*, is_client: bool) -> tuple[list[float], float]:
    """When repeats come, and when it fails, for a peer who never answers."""
    retransmission = Retransmission(is_client=is_client)
    retransmission.begin(100.0)
    repeats: list[float] = []
    while True:
        now_s = retransmission.next_at_s
        assert now_s is not None
        try:
            assert retransmission.is_due(now_s)
        except HandshakeFailed:
            return repeats, now_s - 100.0
        repeats.append(round(now_s - 100.0, 3))


class RetransmissionTests:
    def test_a_client_waits_1_2_4_8_and_16_seconds(self) -> None:
        assert times_of_repeats(is_client=True) == ([1, 3, 7, 15], 31)

    def test_a_server_waits_doubling_times_from_0_4_and_gives_up_after_60(self) -> None:
        expected = [0.4, 1.2, 2.8, 6, 12.4, 25.2, 50.8]
        assert times_of_repeats(is_client=False) == (expected, 60)

    def test_before_its_time_nothing_is_due(self) -> None:
        retransmission = Retransmission(is_client=True)
        assert not retransmission.is_due(1e9)
        retransmission.begin(0.0)
        assert not retransmission.is_due(0.99)
        assert retransmission.next_at_s == 1.0

    def test_a_new_flight_waits_a_second_again_but_the_end_stays(self) -> None:
        retransmission = Retransmission(is_client=True)
        retransmission.begin(0.0)
        assert retransmission.is_due(1.0)
        retransmission.begin(30.5)
        assert retransmission.next_at_s == 31.0
        with pytest.raises(HandshakeFailed):
            retransmission.is_due(31.0)
        assert retransmission.next_at_s is None
