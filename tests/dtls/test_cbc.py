import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from anyvpn.dtls.cbc import CBCProtection
from anyvpn.model.channels import DirectionKeys

KEYS = DirectionKeys(bytes(range(32)), b"", bytes(range(20)))
PREFIX = bytes(11)


def encrypt(plain: bytes) -> bytes:
    encryptor = Cipher(AES(KEYS.key), CBC(bytes(16))).encryptor()
    return bytes(16) + encryptor.update(plain) + encryptor.finalize()


def mac(payload: bytes) -> bytes:
    """The MAC of a payload, taken from a record that holds it."""
    body = CBCProtection(KEYS, bytes).seal(PREFIX, payload)
    decryptor = Cipher(AES(KEYS.key), CBC(body[:16])).decryptor()
    plain = decryptor.update(body[16:]) + decryptor.finalize()
    return plain[len(payload) : len(payload) + 20]


class CBCProtectionTests:
    @pytest.mark.parametrize("size", range(34))
    def test_every_length_of_padding_makes_the_round_trip(self, size: int) -> None:
        protection = CBCProtection(KEYS, bytes)
        payload = bytes(range(size))
        assert protection.open(PREFIX, protection.seal(PREFIX, payload)) == payload

    def test_padding_of_more_than_one_block_is_good(self) -> None:
        plain = b"payload" + mac(b"payload")
        padding = 16 * 15 - len(plain) - 1
        body = encrypt(plain + bytes([padding]) * (padding + 1))
        assert CBCProtection(KEYS, bytes).open(PREFIX, body) == b"payload"

    def test_one_wrong_byte_of_padding_is_forgery_though_the_mac_is_right(self) -> None:
        plain = b"payload" + mac(b"payload")
        padding = 64 - len(plain) - 1
        good = plain + bytes([padding]) * (padding + 1)
        for at in range(len(plain), 63):
            bad = good[:at] + bytes([padding ^ 1]) + good[at + 1 :]
            assert CBCProtection(KEYS, bytes).open(PREFIX, encrypt(bad)) is None

    @pytest.mark.parametrize("padding", [12, 43, 44, 47, 48, 255])
    def test_padding_that_leaves_no_room_for_a_mac_is_forgery(self, padding: int) -> None:
        body = encrypt(bytes(47) + bytes([padding]))
        assert CBCProtection(KEYS, bytes).open(PREFIX, body) is None

    @pytest.mark.parametrize("size", [0, 15, 16, 32, 47, 49, 63])
    def test_a_body_that_is_no_whole_number_of_blocks_is_forgery(self, size: int) -> None:
        assert CBCProtection(KEYS, bytes).open(PREFIX, bytes(size)) is None

    def test_the_mac_covers_what_comes_before_the_payload(self) -> None:
        protection = CBCProtection(KEYS, bytes)
        body = protection.seal(PREFIX, b"payload")
        assert protection.open(b"\x01" + PREFIX[1:], body) is None
