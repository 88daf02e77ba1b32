import pytest

from anyvpn.dtls.suites import (
    DTLS12_HEADER,
    DTLS_HEADER,
    OFFERS,
    PSK_SUITES,
    Choice,
    Mode,
    Version,
    choose_suite,
)

OPENCONNECT_901_DTLS = (
    "PSK-NEGOTIATE",
    "OC-DTLS1_2-AES256-GCM",
    "OC2-DTLS1_2-CHACHA20-POLY1305",
    "AES256-SHA",
    "OC-DTLS1_2-AES128-GCM",
    "AES128-SHA",
)
OPENCONNECT_901_DTLS12 = ("ECDHE-RSA-AES256-GCM-SHA384", "AES256-GCM-SHA384", "AES256-SHA")


def choose(
    dtls12: tuple[str, ...] = (),
    dtls: tuple[str, ...] = (),
    *,
    psk: bool = True,
    legacy: bool = False,
) -> Choice | None:
    return choose_suite(dtls12, dtls, psk=psk, legacy=legacy)


class ChoiceTests:
    def test_psk_is_preferred_to_all_else(self) -> None:
        choice = choose(OPENCONNECT_901_DTLS12, OPENCONNECT_901_DTLS)
        assert choice == Choice(Mode.PSK, Version.DTLS12, None, DTLS_HEADER, "PSK-NEGOTIATE")

    def test_psk_offered_in_the_other_header_is_answered_there(self) -> None:
        choice = choose(("AES256-GCM-SHA384", "PSK-NEGOTIATE"))
        assert choice is not None
        assert (choice.mode, choice.header) == (Mode.PSK, DTLS12_HEADER)

    def test_without_psk_the_dtls12_header_comes_first(self) -> None:
        choice = choose(OPENCONNECT_901_DTLS12, OPENCONNECT_901_DTLS, psk=False)
        assert choice is not None
        assert (choice.mode, choice.version) == (Mode.RESUMPTION, Version.DTLS12)
        assert (choice.header, choice.name) == (DTLS12_HEADER, "ECDHE-RSA-AES256-GCM-SHA384")

    def test_aes256_is_preferred_whatever_the_order_of_the_client(self) -> None:
        choice = choose(dtls=("OC-DTLS1_2-AES128-GCM", "OC-DTLS1_2-AES256-GCM"))
        assert choice is not None
        assert choice.name == "OC-DTLS1_2-AES256-GCM"
        assert choice.suite is not None and choice.suite.code == 0x009D

    def test_cbc_is_refused_unless_legacy_is_allowed(self) -> None:
        assert choose(("AES256-SHA",), ("AES256-SHA", "DHE-RSA-AES128-SHA")) is None

    def test_gcm_is_preferred_to_cbc_even_when_legacy_is_allowed(self) -> None:
        choice = choose(("AES256-SHA",), ("OC-DTLS1_2-AES128-GCM",), legacy=True)
        assert choice is not None
        assert choice.name == "OC-DTLS1_2-AES128-GCM"

    def test_a_cbc_name_means_version_0100_in_one_header_and_12_in_the_other(self) -> None:
        old = choose(dtls=("AES256-SHA",), legacy=True)
        new = choose(("AES256-SHA",), legacy=True)
        assert old is not None and old.suite is not None
        assert new is not None and new.suite is not None
        assert (old.version, old.suite.hash_name) == (Version.BAD_VER, "md5-sha1")
        assert (new.version, new.suite.hash_name) == (Version.DTLS12, "sha256")
        assert old.suite.code == new.suite.code == 0x0035

    @pytest.mark.parametrize(
        "name", ["", "DES-CBC-SHA", "OC2-DTLS1_2-CHACHA20-POLY1305", "psk-negotiate", "NULL-SHA"]
    )
    def test_unknown_names_choose_nothing(self, name: str) -> None:
        assert choose((name,), (name,), legacy=True) is None

    def test_a_name_of_one_header_says_nothing_in_the_other(self) -> None:
        assert choose(dtls12=("OC-DTLS1_2-AES256-GCM",)) is None
        assert choose(dtls=("AES256-GCM-SHA384",)) is None


class SuiteTests:
    @pytest.mark.parametrize(
        ("header", "name", "ipv4_bytes", "ipv6_bytes"),
        [
            (DTLS_HEADER, "OC-DTLS1_2-AES256-GCM", 1434, 1414),
            (DTLS12_HEADER, "AES128-GCM-SHA256", 1434, 1414),
            (DTLS_HEADER, "AES256-SHA", 1418, 1386),
            (DTLS12_HEADER, "DHE-RSA-AES128-SHA", 1418, 1386),
        ],
    )
    def test_the_mtu_is_that_of_the_protocol_reference(
        self, header: str, name: str, ipv4_bytes: int, ipv6_bytes: int
    ) -> None:
        _, suite = OFFERS[header][name]
        assert suite.data_mtu(1500, 20) == ipv4_bytes
        assert suite.data_mtu(1500, 40) == ipv6_bytes

    def test_codes_are_those_of_the_registry(self) -> None:
        codes = {name: suite.code for name, (_, suite) in OFFERS[DTLS12_HEADER].items()}
        assert codes == {
            "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
            "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
            "AES256-GCM-SHA384": 0x009D,
            "AES128-GCM-SHA256": 0x009C,
            "DHE-RSA-AES256-SHA": 0x0039,
            "AES256-SHA": 0x0035,
            "DHE-RSA-AES128-SHA": 0x0033,
            "AES128-SHA": 0x002F,
        }
        assert [suite.code for suite in PSK_SUITES] == [0x00A9, 0x00A8]
