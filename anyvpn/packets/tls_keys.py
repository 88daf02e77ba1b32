"""The keys of a TLS connection's records, for whoever seals and opens them instead of OpenSSL.

TLS 1.3 has a secret for each direction, from which keys follow, and the next secret; OpenSSL tells
the secrets by its key log. TLS 1.2 has one master secret, from which all keys follow at once.

Source: RFC 8446, sections 7.1 to 7.3; RFC 5246, section 6.3; RFC 5288; RFC 7905.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from anyvpn.dtls.key_schedule import derive
from anyvpn.model.channels import TLSCipher, TLSKeys

# From the protocol
_IV_BYTES = 12
_FIXED_IV_BYTES = 4
_KEY_UPDATE = 24
_LABELS = {b"CLIENT_TRAFFIC_SECRET_0": True, b"SERVER_TRAFFIC_SECRET_0": False}
_LINE_PARTS = 3
_HASHES: dict[str, type[HashAlgorithm]] = {"sha256": SHA256, "sha384": SHA384}


# The numbers are those of anyvpn/packets/compiled/engine.h
_CIPHERS = (
    TLSCipher("AES_256_GCM_SHA384", 2, 32, "sha384"),
    TLSCipher("AES_128_GCM_SHA256", 1, 16, "sha256"),
    TLSCipher("CHACHA20_POLY1305_SHA256", 3, 32, "sha256"),
    TLSCipher("AES256-GCM-SHA384", 2, 32, "sha384"),
    TLSCipher("AES128-GCM-SHA256", 1, 16, "sha256"),
    TLSCipher("CHACHA20-POLY1305", 3, 32, "sha256"),
)

_Keys = tuple[bytes, bytes]


def next_write_keys(keys: TLSKeys) -> TLSKeys:
    """Those after we have told the peer that ours change."""
    secret = _next_secret(keys.cipher, keys.write_secret)
    return replace(keys, write=_keys(keys.cipher, secret), write_secret=secret)


def next_read_keys(keys: TLSKeys) -> TLSKeys:
    """Those after the peer has told us that its keys change."""
    secret = _next_secret(keys.cipher, keys.read_secret)
    return replace(keys, read=_keys(keys.cipher, secret), read_secret=secret)


class TLSSecrets:
    """The traffic secrets of TLS 1.3 connections, for as long as those live."""

    def __init__(self) -> None:
        self._secrets: WeakKeyDictionary[SSL.Connection, dict[bool, bytes]] = WeakKeyDictionary()

    def watch(self, context: SSL.Context) -> None:
        """Keep the secrets of this context's connections from now on."""
        context.set_keylog_callback(self._told)

    def forget(self, connection: SSL.Connection) -> None:
        """They are not needed any more."""
        self._secrets.pop(connection, None)

    def keys_of(self, connection: SSL.Connection, *, is_client: bool) -> TLSKeys | None:
        """The first keys of application data; None when they cannot be had.

        They are the present ones unless the peer has changed its keys since.
        """
        name = connection.get_cipher_name() or ""
        cipher = next((each for each in _CIPHERS if name.endswith(each.ending)), None)
        version = connection.get_protocol_version_name()
        if cipher is None:
            return None
        if version == "TLSv1.3":
            secrets = self._secrets.get(connection, {})
            ours, theirs = secrets.get(is_client), secrets.get(not is_client)
            if not ours or not theirs:
                return None
            keys = _keys(cipher, ours), _keys(cipher, theirs)
            return TLSKeys(True, cipher, *keys, ours, theirs)
        if version != "TLSv1.2":
            return None
        client, server = _tls12_keys(cipher, connection)
        ours_and_theirs = (client, server) if is_client else (server, client)
        return TLSKeys(False, cipher, *ours_and_theirs)

    def _told(self, connection: SSL.Connection, line: bytes) -> None:
        parts = line.split()
        is_clients = _LABELS.get(parts[0]) if len(parts) == _LINE_PARTS else None
        if is_clients is not None:
            kept = self._secrets.setdefault(connection, {})
            kept[is_clients] = bytes.fromhex(parts[2].decode("ascii"))


def asks_for_update(message: bytes) -> bool | None:
    """Whether a KeyUpdate asks for one of ours too; None when the message is none.

    Source: RFC 8446, section 4.6.3.
    """
    if len(message) != 5 or message[:4] != bytes((_KEY_UPDATE, 0, 0, 1)) or message[4] > 1:
        return None
    return message[4] == 1


def key_update() -> bytes:
    """The message that our keys change, which asks for nothing."""
    return bytes((_KEY_UPDATE, 0, 0, 1, 0))


def _expand(cipher: TLSCipher, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without a context. Source: RFC 8446, section 7.1."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return HKDFExpand(_HASHES[cipher.hash_name](), length, info).derive(secret)


def _next_secret(cipher: TLSCipher, secret: bytes) -> bytes:
    return _expand(cipher, secret, b"traffic upd", len(secret))


def _keys(cipher: TLSCipher, secret: bytes) -> _Keys:
    key = _expand(cipher, secret, b"key", cipher.key_bytes)
    return key, _expand(cipher, secret, b"iv", _IV_BYTES)


def _tls12_keys(cipher: TLSCipher, connection: SSL.Connection) -> tuple[_Keys, _Keys]:
    """The client's and the server's."""
    iv_bytes = _FIXED_IV_BYTES if "GCM" in cipher.ending else _IV_BYTES
    seed = (connection.server_random() or b"") + (connection.client_random() or b"")
    block = derive(
        cipher.hash_name,
        connection.master_key() or b"",
        b"key expansion",
        seed,
        2 * (cipher.key_bytes + iv_bytes),
    )
    keys, ivs = block[: 2 * cipher.key_bytes], block[2 * cipher.key_bytes :]
    return tuple(  # type: ignore[return-value]  # two of them
        (
            keys[at * cipher.key_bytes : (at + 1) * cipher.key_bytes],
            ivs[at * iv_bytes : (at + 1) * iv_bytes].ljust(_IV_BYTES, b"\0"),
        )
        for at in range(2)
    )
