"""Keeps users' devices in Redis, for the gateways of several machines; their secrets are sealed.

A device is a hash: `PREFIXcode:KIND:USER`. Who can read Redis learns no secret, and who can write
to it cannot make a device of its own: both need the key that every gateway has in a file.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from anyvpn.backends.one_time_codes import CodeMaker, Kind
from anyvpn.backends.redis_server import RedisServer, Reply, Word
from anyvpn.errors import BackendFailed, ConfigurationError

# From the protocol: RFC 5297 (AES-SIV seals the same text the same way, so it can be compared)
SIV_KEY_BYTES = 64

# Ours
SMALLEST_KEY_BYTES = 32
FOUND_AT_A_TIME = 1000
_KINDS: tuple[Kind, ...] = ("hotp", "totp")
_FIELDS = (
    *("sealed", "algorithm", "digits", "period_s"),
    *("next_counter", "failures", "failing_since_s"),
)
_EXCHANGE = """
local found = redis.call('HMGET', KEYS[1], unpack(ARGV, 1, 7))
for number = 1, 7 do
    if found[number] ~= ARGV[number + 7] then return 0 end
end
for number = 1, 7 do
    redis.call('HSET', KEYS[1], ARGV[number], ARGV[number + 14])
end
return 1
"""


class CodeRedis:
    """The devices in one Redis; what one command does there happens at once for all gateways."""

    def __init__(self, server: RedisServer, prefix: str, key: bytes) -> None:
        """`key` seals the secrets; at least 32 bytes that nobody can guess."""
        self._server = server
        self._prefix = f"{prefix}code:"
        self._siv = AESSIV(HKDF(SHA512(), SIV_KEY_BYTES, None, b"anyvpn codes").derive(key))
        self._closed = False

    def __str__(self) -> str:
        return str(self._server)

    async def devices(self) -> tuple[CodeMaker, ...]:
        """All of them, by user and kind. Raises: BackendFailed."""
        names: set[tuple[str, Kind]] = set()
        pattern = f"{_literally(self._prefix)}*"
        cursor = b"0"
        while True:
            match await self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", FOUND_AT_A_TIME):
                case [bytes() as cursor, list() as keys]:
                    names.update(name for key in keys if (name := self._name(key)) is not None)
                case _:
                    raise BackendFailed(f"{self} answers SCAN with what is no list of keys")
            if cursor == b"0":
                break
        found = [await self.find(user, kind) for user, kind in sorted(names)]
        return tuple(each for each in found if each is not None)

    async def prepare(self) -> None:
        """Find out that it can be written. Raises: BackendFailed."""
        await self._ask("DEL", self._prefix)  # nobody's key: a write that changes nothing

    async def find(self, user: str, kind: Kind) -> CodeMaker | None:
        """A user's device, if it has one. Raises: BackendFailed."""
        reply = await self._ask("HMGET", self._key(user, kind), *_FIELDS)
        if reply == [None] * len(_FIELDS):
            return None
        try:
            return self._read(user, kind, reply)
        except (ValueError, TypeError):
            raise BackendFailed(f"{self} has a {kind} device of {user} that is none") from None

    async def put(self, maker: CodeMaker) -> None:
        """Give a user this device, in the place of the one before. Raises: BackendFailed."""
        words: list[Word] = []
        for name, value in zip(_FIELDS, self._written(maker), strict=True):
            words += (name, value)
        await self._ask("HSET", self._key(maker.user, maker.kind), *words)

    async def exchange(self, before: CodeMaker, after: CodeMaker) -> bool:
        """Let a device be `after` if it still is `before`; gives whether it was.

        Raises: BackendFailed.
        """
        key = self._key(before.user, before.kind)
        values = (*self._written(before), *self._written(after))
        return await self._ask("EVAL", _EXCHANGE, 1, key, *_FIELDS, *values) == 1

    async def remove(self, user: str, kind: Kind) -> bool:
        """Forget a user's device; gives whether there was one. Raises: BackendFailed."""
        return await self._ask("DEL", self._key(user, kind)) == 1

    def close(self) -> None:
        """Ask nothing more; connections end with the answers that are waited for."""
        self._closed = True

    # --- how a device is written ----------------------------------------------------------------

    async def _ask(self, *command: Word) -> Reply:
        if self._closed:
            raise BackendFailed(f"{self} is not asked any more")
        return await self._server.ask(*command)

    def _key(self, user: str, kind: Kind) -> bytes:
        return f"{self._prefix}{kind}:{user}".encode()

    def _name(self, key: Reply) -> tuple[str, Kind] | None:
        text = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        kind, _, user = text.removeprefix(self._prefix).partition(":")
        return next(((user, each) for each in _KINDS if each == kind and user), None)

    def _written(self, maker: CodeMaker) -> tuple[bytes, ...]:
        rest = (maker.algorithm, maker.digits, maker.period_s)
        sealed = self._siv.encrypt(maker.secret, self._around(maker.user, maker.kind, *rest))
        counts = (maker.next_counter, maker.failures, maker.failing_since_s)
        return (b64encode(sealed), *(str(each).encode() for each in (*rest, *counts)))

    def _read(self, user: str, kind: Kind, reply: Reply) -> CodeMaker:
        if not isinstance(reply, list) or not all(isinstance(each, bytes) for each in reply):
            raise TypeError("not the fields of a device")
        sealed, *texts = (each.decode() for each in reply if isinstance(each, bytes))
        algorithm, digits, period_s, next_counter, failures, since_s = texts
        around = self._around(user, kind, algorithm, int(digits), int(period_s))
        try:
            secret = self._siv.decrypt(b64decode(sealed), around)
        except InvalidTag:
            raise BackendFailed(
                f"{self}: the {kind} device of {user} was sealed with the key of another "
                "secrets_key_file, or changed since"
            ) from None
        return CodeMaker(
            *(user, kind, secret, algorithm, int(digits), int(period_s)),
            *(int(next_counter), int(failures), float(since_s)),
        )

    @staticmethod
    def _around(*parts: str | int) -> list[bytes]:
        """What a sealed secret belongs to: elsewhere it cannot be opened."""
        return [str(each).encode() for each in parts]


def read_key(file: Path) -> bytes:
    """The key that seals secrets. Raises: ConfigurationError: the file has none."""
    how = f"`openssl rand -base64 {SMALLEST_KEY_BYTES}` makes one"
    try:
        key = b64decode(file.read_bytes().split(b"\n")[0].strip(), validate=True)
    except OSError as error:
        raise ConfigurationError(
            f"secrets_key_file: {file} cannot be read: {error.strerror}; {how}"
        ) from None
    except ValueError:
        raise ConfigurationError(f"secrets_key_file: {file} is not base64 text; {how}") from None
    if len(key) < SMALLEST_KEY_BYTES:
        raise ConfigurationError(
            f"secrets_key_file: {file} has {len(key)} bytes of key, and must have "
            f"{SMALLEST_KEY_BYTES}; {how}"
        )
    return key


def _literally(text: str) -> str:
    """The pattern that only this text fits."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)
