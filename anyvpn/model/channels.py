"""A tunnel's channels as the packet engine is given them: names, ways to the peer, keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

# From IPv6 (RFC 4291, section 2.5.5.2)
MAPPED_IPV4 = "::ffff:"

# From the protocol (protocol reference, section 12.6)
RECORD_HEADER_BYTES = 13
UDP_HEADER_BYTES = 8
KIND_BYTES = 1
AEAD_NONCE_BYTES = 8
AEAD_TAG_BYTES = 16
CBC_BLOCK_BYTES = 16
CBC_PAD_LENGTH_BYTES = 1


class ChannelName(Enum):
    """The two ways that packets of a tunnel can take."""

    CSTP = "cstp"
    DTLS = "dtls"


@dataclass(frozen=True, slots=True)
class PeerPath:
    """How datagrams reach a peer: our socket (by index), its address, the local address it used.

    `address` is what `recvfrom` gave (host and port first); `local_address` is empty when the
    socket is bound to one address.
    """

    socket_index: int
    address: tuple[str, int] | tuple[str, int, int, int]
    local_address: str = ""

    @property
    def host(self) -> str:
        """The peer's address as people write it: an IPv4 address without its IPv6 mapping."""
        return self.address[0].removeprefix(MAPPED_IPV4)


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite as the packet path needs it.

    `code` is the number on the wire; `cipher` names the bulk cipher ("AES-256-GCM",
    "AES-128-CBC", ...), `hash_name` the PRF's hash ("sha256", "sha384"; "md5-sha1" for 0x0100).
    Lengths are bytes of the key block's parts.
    """

    name: str
    code: int
    cipher: str
    hash_name: str
    key_bytes: int
    fixed_iv_bytes: int
    mac_key_bytes: int = 0

    @property
    def overhead(self) -> int:
        """The most bytes that a datagram holds besides the packet: record, cipher, kind."""
        if self.mac_key_bytes:
            cipher_bytes = CBC_BLOCK_BYTES + self.mac_key_bytes + CBC_BLOCK_BYTES
        else:
            cipher_bytes = AEAD_NONCE_BYTES + AEAD_TAG_BYTES
        return RECORD_HEADER_BYTES + cipher_bytes + KIND_BYTES

    def data_mtu(self, link_mtu_bytes: int, ip_header_bytes: int) -> int:
        """The longest packet whose datagram still fits the link, to the byte.

        Source: protocol reference, section 12.6.
        """
        record_bytes = link_mtu_bytes - ip_header_bytes - UDP_HEADER_BYTES - RECORD_HEADER_BYTES
        if not self.mac_key_bytes:
            return record_bytes - AEAD_NONCE_BYTES - AEAD_TAG_BYTES - KIND_BYTES
        blocks_bytes = record_bytes - CBC_BLOCK_BYTES  # the explicit IV
        blocks_bytes -= blocks_bytes % CBC_BLOCK_BYTES
        return blocks_bytes - self.mac_key_bytes - CBC_PAD_LENGTH_BYTES - KIND_BYTES


@dataclass(frozen=True, slots=True)
class DirectionKeys:
    """The keys of one direction."""

    key: bytes = field(repr=False)
    fixed_iv: bytes = field(default=b"", repr=False)
    mac_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class RecordKeys:
    """All that is needed to seal and open DTLS records: what a handshake ends in.

    `version` is the two bytes of the record header; `write_sequence` is the first sequence
    number that is still ours to use in `epoch`.
    """

    version: bytes
    suite: Suite
    write: DirectionKeys
    read: DirectionKeys
    epoch: int
    write_sequence: int


@dataclass(frozen=True, slots=True)
class DTLSChannel:
    """A DTLS channel as an engine takes it: keys and a way to the peer, no TLS object.

    `encoding` is how the peer may compress packets, as in X-DTLS-Content-Encoding.
    `early_records` came before the keys were there; they are opened first.
    """

    keys: RecordKeys
    path: PeerPath
    encoding: str = ""
    early_records: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TLSCipher:
    """A bulk cipher of TLS, with the hash of its keys; `ending` is that of OpenSSL's names."""

    ending: str
    number: int
    key_bytes: int
    hash_name: str


@dataclass(frozen=True, slots=True)
class TLSKeys:
    """What seals what we send over TLS, and opens what the peer sends: key and IV of 12 bytes.

    With AES-GCM in TLS 1.2 four bytes of the IV count. The secrets are those that the next keys
    of TLS 1.3 follow from; they are empty in TLS 1.2, where keys do not change.
    """

    is_tls13: bool
    cipher: TLSCipher
    write: tuple[bytes, bytes] = field(repr=False)
    read: tuple[bytes, bytes] = field(repr=False)
    write_secret: bytes = field(default=b"", repr=False)
    read_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TLSRecords:
    """A TLS connection as the keeper of its records takes it over.

    `descriptor` is the TCP socket's, the only one, and the keeper's from now on; the sequences are
    the numbers of the next records; `unread` is what came behind the last whole record.
    """

    descriptor: int
    keys: TLSKeys
    write_sequence: int
    read_sequence: int
    unread: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReturnedConnection:
    """A TCP connection as the keeper of its TLS records gives it back.

    `descriptor` is its owner's again; `unsent` has to go out yet.
    """

    descriptor: int
    unsent: bytes = field(default=b"", repr=False)
