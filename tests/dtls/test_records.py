import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.key_schedule import key_block
from anyvpn.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    WINDOW_RECORDS,
    DirectionKeys,
    RecordKeys,
    RecordOpener,
    RecordSealer,
    hello_session_id,
    split_datagram,
)
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS
from anyvpn.errors import DTLSError
from tests.dtls.captured import read_session

ALL_OFFERS = [(header, name) for header, names in OFFERS.items() for name in names]
GCM = (DTLS_HEADER, "OC-DTLS1_2-AES256-GCM")
CBC = (DTLS12_HEADER, "AES256-SHA")


def make_keys(offer: tuple[str, str], write_sequence: int = 0) -> tuple[RecordKeys, RecordKeys]:
    """The keys of the client, and those of the server."""
    header, name = offer
    version, suite = OFFERS[header][name]
    client, server = key_block(suite, bytes(48), bytes(32), bytes(32))
    keys = RecordKeys(version.value, suite, client, server, 1, write_sequence)
    return keys, replace(keys, write=server, read=client)


def sealer_and_opener(
    offer: tuple[str, str] = GCM, write_sequence: int = 0
) -> tuple[RecordSealer, RecordOpener]:
    ours, theirs = make_keys(offer, write_sequence)
    return RecordSealer(ours), RecordOpener(theirs)


class SealedRecordTests:
    @pytest.mark.parametrize("offer", ALL_OFFERS)
    def test_packets_arrive_as_they_were_with_their_kind_before_them(
        self, offer: tuple[str, str]
    ) -> None:
        sealer, opener = sealer_and_opener(offer)
        packets = [os.urandom(size) for size in (0, 1, 15, 16, 17, 1400, 1400, 20)]
        opened = opener.open_records(sealer.seal_packets(7, packets))
        assert opened == [b"\x07" + packet for packet in packets]

    @given(st.binary(max_size=3000), st.sampled_from(ALL_OFFERS))
    @settings(max_examples=60)
    def test_any_payload_makes_the_round_trip(self, payload: bytes, offer: tuple[str, str]) -> None:
        sealer, opener = sealer_and_opener(offer)
        assert opener.open(memoryview(sealer.seal(payload))) == payload

    @pytest.mark.parametrize("offer", ALL_OFFERS)
    @pytest.mark.parametrize("link_mtu_bytes", range(1400, 1440))
    def test_a_packet_of_the_data_mtu_fits_the_link_and_one_byte_more_does_not(
        self, offer: tuple[str, str], link_mtu_bytes: int
    ) -> None:
        _, suite = OFFERS[offer[0]][offer[1]]
        sealer, _ = sealer_and_opener(offer)
        mtu_bytes = suite.data_mtu(link_mtu_bytes, 20)
        fits, too_long = sealer.seal_packets(0, [bytes(mtu_bytes), bytes(mtu_bytes + 1)])
        assert len(fits) <= link_mtu_bytes - 28 < len(too_long)
        assert len(fits) <= mtu_bytes + suite.overhead

    def test_sequence_numbers_go_up_by_one_from_the_first_given(self) -> None:
        sealer, _ = sealer_and_opener(write_sequence=1 << 16)
        records = [*sealer.seal_packets(0, [b"a", b"b"]), sealer.seal(b"c")]
        headers = [split_datagram(record)[0] for record in records]
        assert [(header.epoch, header.sequence) for header in headers] == [
            (1, 65536),
            (1, 65537),
            (1, 65538),
        ]

    def test_the_last_sequence_number_is_the_end_of_the_keys(self) -> None:
        sealer, opener = sealer_and_opener(write_sequence=(1 << 48) - 1)
        with pytest.raises(DTLSError):
            sealer.seal_packets(0, [b"a", b"b"])
        assert opener.open(sealer.seal(b"last")) == b"last"
        with pytest.raises(DTLSError):
            sealer.seal(b"one too many")

    def test_cbc_takes_a_fresh_iv_for_each_record(self) -> None:
        sealer, _ = sealer_and_opener(CBC)
        first, second = sealer.seal_packets(0, [b"same", b"same"])
        assert first[13:29] != second[13:29]

    def test_keys_do_not_show_in_print(self) -> None:
        keys, _ = make_keys(CBC)
        shown = repr(keys)
        for secret in (keys.write.key, keys.write.mac_key, keys.read.key):
            assert secret.hex() not in shown and repr(secret) not in shown
        assert repr(DirectionKeys(b"secret")) == "DirectionKeys()"


class HostileRecordTests:
    @pytest.mark.parametrize("offer", [GCM, CBC, (DTLS_HEADER, "AES128-SHA")])
    def test_a_changed_bit_anywhere_closes_the_record(self, offer: tuple[str, str]) -> None:
        sealer, opener = sealer_and_opener(offer)
        record = sealer.seal(b"payload")
        for at in range(len(record)):
            forged = bytearray(record)
            forged[at] ^= 0x10
            assert opener.open(bytes(forged)) is None, at
        assert opener.forged > 0
        assert opener.open(record) == b"payload"

    @pytest.mark.parametrize("offer", [GCM, CBC])
    def test_a_record_cut_or_grown_at_any_byte_is_refused(self, offer: tuple[str, str]) -> None:
        sealer, opener = sealer_and_opener(offer)
        record = sealer.seal(b"payload")
        for size in range(len(record)):
            cut = record[:size]
            assert opener.open(cut) is None
            if size >= 13:
                assert opener.open(cut[:11] + (size - 13).to_bytes(2, "big") + cut[13:]) is None
        assert opener.open(record + b"\x00") is None
        assert opener.open(record) == b"payload"

    @given(st.binary(max_size=200))
    @settings(max_examples=100)
    def test_garbage_opens_to_nothing(self, garbage: bytes) -> None:
        for offer in (GCM, CBC):
            ours, theirs = make_keys(offer)
            opener = RecordOpener(theirs)
            head = bytes((APPLICATION_DATA,)) + ours.version + b"\x00\x01" + bytes(6)
            plausible = head + len(garbage).to_bytes(2, "big") + garbage
            assert opener.open_records([garbage, plausible]) == []

    def test_the_same_record_again_is_counted_not_opened(self) -> None:
        sealer, opener = sealer_and_opener()
        record = sealer.seal(b"once")
        assert opener.open_records([record, record]) == [b"once"]
        assert opener.open(record) is None
        assert (opener.replayed, opener.forged) == (2, 0)

    def test_a_forged_record_far_ahead_does_not_move_the_window(self) -> None:
        sealer, opener = sealer_and_opener()
        record = sealer.seal(b"real")
        forged = record[:5] + (1 << 40).to_bytes(6, "big") + record[11:]
        assert opener.open(forged) is None
        assert opener.open(record) == b"real"

    def test_records_of_another_epoch_type_or_version_are_not_even_counted(self) -> None:
        ours, theirs = make_keys(GCM)
        opener = RecordOpener(theirs)
        others = [
            RecordSealer(replace(ours, epoch=2)).seal(b"next epoch"),
            RecordSealer(replace(ours, epoch=0)).seal(b"first epoch"),
            RecordSealer(ours).seal(b"alert", ALERT),
            RecordSealer(replace(ours, version=b"\xfe\xff")).seal(b"version 1.0"),
        ]
        assert opener.open_records(others) == []
        assert (opener.forged, opener.replayed) == (0, 0)

    def test_it_stops_at_what_is_foreign_and_goes_on_behind_it(self) -> None:
        sealer, opener = sealer_and_opener()
        alert = bytes((ALERT,)) + sealer.seal(b"0")[1:]
        for foreign in (alert, sealer.seal(b"0") + b"more", sealer.seal(b"0")[:20], b""):
            first, damaged, second, third = (sealer.seal(each) for each in (b"1", b"x", b"2", b"3"))
            forged = damaged[:-1] + bytes((damaged[-1] ^ 1,))
            records = [first, forged, second, foreign, third]
            assert opener.open_leading(records, 0) == ([b"1", b"2"], 3)
            assert opener.open_leading(records, 3) == ([], 3)
            assert opener.open_leading(records, 4) == ([b"3"], 5)

    def test_two_sessions_do_not_open_each_other(self) -> None:
        ours, _ = make_keys(GCM)
        strange = replace(ours, write=DirectionKeys(bytes(32), bytes(4)))
        _, opener = sealer_and_opener()
        assert opener.open(RecordSealer(strange).seal(b"x")) is None
        assert opener.forged == 1


class WindowTests:
    @given(st.permutations(range(40)), st.lists(st.integers(0, 39), max_size=40))
    @settings(max_examples=100)
    def test_each_reordered_record_opens_once(self, order: list[int], again: list[int]) -> None:
        sealer, opener = sealer_and_opener()
        records = sealer.seal_packets(0, [bytes([number]) for number in range(40)])
        opened = opener.open_records([records[number] for number in order + again])
        assert opened == [bytes([0, number]) for number in order]
        assert opener.replayed == len(again)

    @given(st.lists(st.integers(0, 4 * WINDOW_RECORDS), max_size=60))
    @settings(max_examples=60)
    def test_it_agrees_with_a_window_written_out(self, numbers: list[int]) -> None:
        ours, theirs = make_keys(GCM)
        opener = RecordOpener(theirs)
        seen: set[int] = set()
        for number in numbers:
            record = RecordSealer(replace(ours, write_sequence=number)).seal(b"x")
            is_new = number not in seen and number > max(seen, default=-1) - WINDOW_RECORDS
            assert (opener.open(record) is not None) is is_new
            if is_new:
                seen.add(number)

    def test_the_oldest_in_the_window_opens_and_the_one_before_does_not(self) -> None:
        ours, theirs = make_keys(GCM)
        opener = RecordOpener(theirs)
        for number, opens in ((5000, True), (5000 - 1023, True), (5000 - 1024, False)):
            record = RecordSealer(replace(ours, write_sequence=number)).seal(b"x")
            assert (opener.open(record) == b"x") is opens


class DatagramTests:
    def test_records_are_found_one_after_the_other(self) -> None:
        first = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x05\x00\x03abc"
        second = b"\x17\xfe\xfd\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"
        records = split_datagram(first + second)
        assert [record[:4] for record in records] == [
            (HANDSHAKE, b"\xfe\xfd", 0, 5),
            (APPLICATION_DATA, b"\xfe\xfd", 1, 1 << 32),
        ]
        assert [record.body(first + second) for record in records] == [b"abc", b""]
        assert [record.whole(first + second) for record in records] == [first, second]

    def test_a_tail_cut_at_any_byte_is_dropped_and_the_rest_kept(self) -> None:
        whole = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x05\x00\x03abc"
        for size in range(len(whole)):
            assert len(split_datagram(whole + whole[:size])) == 1

    def test_a_record_longer_than_the_protocol_allows_is_dropped(self) -> None:
        head = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x05"
        longest = 2**14 + 2048
        assert len(split_datagram(head + longest.to_bytes(2, "big") + bytes(longest))) == 1
        assert split_datagram(head + (longest + 1).to_bytes(2, "big") + bytes(longest + 1)) == []

    def test_a_datagram_of_empty_records_is_not_read_to_its_end(self) -> None:
        empty = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00"
        assert len(split_datagram(empty * 5000)) == 64

    @given(st.binary(max_size=300))
    @settings(max_examples=100)
    def test_what_is_found_lies_within_the_datagram(self, datagram: bytes) -> None:
        for record in split_datagram(datagram):
            assert 13 <= record.body_range.start <= record.body_range.stop <= len(datagram)


class HelloSessionIdTests:
    @pytest.mark.parametrize("name", ["psk", "oc_dtls12", "dtls12", "bad_ver"])
    def test_it_is_read_from_what_openconnect_sends(self, name: str) -> None:
        session = read_session(name)
        assert hello_session_id(session.datagrams[0][1]) == session.session_id

    @pytest.mark.parametrize("name", ["psk", "bad_ver"])
    def test_no_other_datagram_of_a_session_has_one(self, name: str) -> None:
        for _, datagram in read_session(name).datagrams[1:]:
            assert hello_session_id(datagram) is None

    def test_a_hello_cut_at_any_byte_has_none(self) -> None:
        hello = read_session("psk").datagrams[0][1]
        for size in range(len(hello)):
            assert hello_session_id(hello[:size]) is None

    @pytest.mark.parametrize(
        ("at", "value"),
        [
            (0, 23),  # content type
            (1, 0xFD),  # version
            (4, 1),  # epoch
            (13, 2),  # message type
            (16, 0),  # message length
            (21, 1),  # fragment offset
            (24, 0xFF),  # fragment length
            (24, 40),  # a fragment that ends within the id
            (26, 0xF0),  # client version
            (59, 0),  # no session id
            (59, 33),  # one that is too long
        ],
    )
    def test_a_hello_with_one_wrong_byte_has_none(self, at: int, value: int) -> None:
        hello = bytearray(read_session("psk").datagrams[0][1])
        hello[at] = value
        assert hello_session_id(bytes(hello)) is None

    @given(st.binary(max_size=200))
    @settings(max_examples=100)
    def test_garbage_has_none_or_one_that_lies_within(self, garbage: bytes) -> None:
        found = hello_session_id(b"\x16\xfe\xfd" + bytes(8) + garbage)
        assert found is None or found in garbage
