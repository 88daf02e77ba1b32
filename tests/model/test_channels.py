"""What fits a link, cipher by cipher."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.model.channels import DirectionKeys, Suite

GCM = Suite("gcm", 1, "AES-256-GCM", "sha384", 32, 4)
CBC_SHA1 = Suite("cbc", 2, "AES-128-CBC", "sha256", 16, 0, mac_key_bytes=20)
CBC_SHA256 = Suite("cbc", 3, "AES-128-CBC", "sha256", 16, 0, mac_key_bytes=32)


class DataMTUTests:
    @pytest.mark.parametrize(
        ("suite", "ip_header_bytes", "expected"),
        [
            (GCM, 20, 1434),
            (GCM, 40, 1414),
            (CBC_SHA1, 20, 1418),
            (CBC_SHA1, 40, 1386),
            (CBC_SHA256, 20, 1406),
            (CBC_SHA256, 40, 1374),
        ],
    )
    def test_mtu_is_that_of_the_reference(
        self, suite: Suite, ip_header_bytes: int, expected: int
    ) -> None:
        """Protocol reference, section 12.6."""
        assert suite.data_mtu(1500, ip_header_bytes) == expected

    @settings(max_examples=100)
    @given(st.integers(700, 9000), st.sampled_from([20, 40]))
    def test_cbc_record_fits_to_the_byte(self, link_mtu_bytes: int, ip_header_bytes: int) -> None:
        def datagram_bytes(packet_bytes: int) -> int:
            content = packet_bytes + 1 + 20
            padded = (content // 16 + 1) * 16  # at least one byte of padding
            return ip_header_bytes + 8 + 13 + 16 + padded

        mtu_bytes = CBC_SHA1.data_mtu(link_mtu_bytes, ip_header_bytes)
        assert datagram_bytes(mtu_bytes) <= link_mtu_bytes < datagram_bytes(mtu_bytes + 1)


class DirectionKeysTests:
    def test_keys_are_not_shown(self) -> None:
        keys = DirectionKeys(b"k" * 16, b"i" * 4, b"m" * 20)
        assert not any(each in repr(keys) for each in ("kkk", "iii", "mmm"))
