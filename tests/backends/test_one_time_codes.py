"""Tests of anyvpn.backends.one_time_codes, with the codes that the RFCs print."""

from __future__ import annotations

import pytest

from anyvpn.backends.one_time_codes import CodeMaker, Guessing, judge

SECRET = b"12345678901234567890"
# RFC 4226, appendix D
COUNTED = ("755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583")
# RFC 6238, appendix B
TIMED = (
    ("sha1", SECRET, 59, "94287082"),
    ("sha256", b"12345678901234567890123456789012", 59, "46119246"),
    ("sha512", (SECRET * 4)[:64], 59, "90693936"),
    ("sha1", SECRET, 1111111109, "07081804"),
    ("sha512", (SECRET * 4)[:64], 20000000000, "47863826"),
)


GUESSING = Guessing(3, 60.0)


def timed(user: str = "alice") -> CodeMaker:
    return CodeMaker(user, "totp", SECRET)


def counted(next_counter: int = 0) -> CodeMaker:
    return CodeMaker("alice", "hotp", SECRET, next_counter=next_counter)


class Device:
    """A device, and what becomes of it with each code."""

    def __init__(self, maker: CodeMaker, guessing: Guessing = GUESSING) -> None:
        self.maker = maker
        self._guessing = guessing

    def use(self, *codes: str, now_s: float = 59.0, window: int = 1) -> str:
        """What is wrong with them; empty: they pass."""
        self.maker, problem = judge(self.maker, codes, self._guessing, window=window, now_s=now_s)
        return problem


class CodeTests:
    @pytest.mark.parametrize(("algorithm", "secret", "at_s", "code"), TIMED)
    def test_time_based_codes_are_those_of_the_rfc(
        self, algorithm: str, secret: bytes, at_s: int, code: str
    ) -> None:
        maker = CodeMaker("alice", "totp", secret, algorithm, 8)
        assert maker.code(at_s // 30) == code

    def test_counted_codes_are_those_of_the_rfc(self) -> None:
        assert tuple(counted().code(each) for each in range(len(COUNTED))) == COUNTED

    def test_the_secret_is_not_shown(self) -> None:
        assert "1234567890" not in repr(timed())

    @pytest.mark.parametrize(
        "wrong",
        [
            {"secret": b"short"},
            {"secret": b"x" * 129},
            {"algorithm": "md5"},
            {"digits": 4},
            {"period_s": 0},
        ],
    )
    def test_what_no_device_does_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"secret|algorithm|digits|period_s"):
            CodeMaker(**{"user": "alice", "kind": "totp", "secret": SECRET, **wrong})  # type: ignore[arg-type]

    def test_addresses_are_what_applications_read(self) -> None:
        assert timed().address("Example") == (
            "otpauth://totp/Example:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example"
        )
        assert "counter=3" in counted(3).address("Example")


class TimedTests:
    def test_a_code_is_good_once(self) -> None:
        device = Device(timed())
        assert device.use("287082") == ""
        assert device.use("287082") == "the code was used before"

    @pytest.mark.parametrize(
        ("at_s", "window", "problem"),
        [
            (29, 1, ""),
            (89, 1, ""),
            (91, 1, "the code is wrong"),
            (119, 1, "the code is wrong"),
            (89, 0, "the code is wrong"),
        ],
    )
    def test_the_clock_may_be_off_by_the_window(
        self, at_s: float, window: int, problem: str
    ) -> None:
        assert Device(timed()).use("287082", now_s=at_s, window=window) == problem

    def test_an_older_code_is_not_good_after_a_newer_one(self) -> None:
        device = Device(timed())
        assert device.use(timed().code(2)) == ""
        assert device.use(timed().code(1)) == "the code was used before"

    @pytest.mark.parametrize("code", ["", "28708", "2870822", "２８７０８２", "abcdef", "\0" * 6])
    def test_what_is_no_code_is_wrong(self, code: str) -> None:
        assert Device(timed()).use(code) == "the code is wrong"

    def test_guessing_is_slowed_down(self) -> None:
        device = Device(timed())
        for _ in range(3):
            assert device.use("000000", now_s=1000) == "the code is wrong"
        locked = device.maker
        assert device.use(timed().code(1059 // 30), now_s=1059) == (
            "alice has given 3 wrong codes and must wait"
        )
        assert device.maker == locked
        assert device.use(timed().code(1061 // 30), now_s=1061) == ""

    def test_the_first_of_wrong_codes_begins_the_time(self) -> None:
        device = Device(timed())
        for now_s in (1000, 1030, 1059):
            assert device.use("000000", now_s=now_s) == "the code is wrong"
        assert device.use(timed().code(1061 // 30), now_s=1061) == ""

    def test_a_right_code_forgives_wrong_ones(self) -> None:
        device = Device(timed())
        for period in range(3):
            for _ in range(2):
                assert device.use("000000", now_s=period * 30) == "the code is wrong"
            assert device.use(timed().code(period), now_s=period * 30) == ""


class CountedTests:
    def test_codes_may_be_skipped_within_the_window(self) -> None:
        device = Device(counted(), Guessing())
        assert device.use(COUNTED[2], window=2) == ""
        for code in (*COUNTED[:3], COUNTED[6]):
            assert device.use(code, window=2) == "the code is wrong"
        assert device.use(COUNTED[5], window=2) == ""
        assert device.maker.next_counter == 6

    def test_two_in_a_row_find_a_counter_that_is_far(self) -> None:
        device = Device(counted())
        assert device.use(COUNTED[5], COUNTED[7], window=10) == "the code is wrong"
        assert device.use(COUNTED[5], COUNTED[6], window=10) == ""
        assert device.use(COUNTED[7], window=0) == ""
