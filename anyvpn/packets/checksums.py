"""The Internet's one's complement sums, of one buffer and of many segments at once.

All arithmetic is modulo 65535, where the sum of the 16-bit words of a number is congruent to
the number itself (2**16 = 1), and where reading words in the other byte order multiplies by
256. numpy, where it is installed, sums all segments of a super-packet in one call.

Source: RFC 1071.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

# From the protocol
MODULUS = 0xFFFF

# Ours: folding a long number in halves first is cheaper than one long division
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (16384, 8192, 4096, 2048))
_FEWEST_BYTES_FOR_NUMPY = 4096


def word_sum(data: bytes) -> int:
    """The sum of the big-endian 16-bit words of `data`, modulo 65535; odd lengths end in zero."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    if len(data) > 512:
        for bits, mask in _FOLDS:
            number = (number >> bits) + (number & mask)
    return number % MODULUS


def internet_checksum(data: bytes) -> int:
    """The checksum of `data`, in which the checksum's own field must be zero."""
    return -word_sum(data) % MODULUS


def plain_segment_sums(data: bytes, segment_bytes: int, skipped_bytes: int = 0) -> list[int]:
    """The `word_sum` of each segment of `data`, without numpy; the last may be shorter.

    So many bytes at the beginning of each do not count.
    """
    return [
        word_sum(data[start + skipped_bytes : start + segment_bytes])
        for start in range(0, len(data), segment_bytes)
    ]


def load_numpy_segment_sums() -> Callable[[bytes, int, int], list[int]] | None:
    """A function like `plain_segment_sums` by numpy; None where numpy is not installed.

    Its results are congruent to the sums modulo 65535, not reduced.
    """
    try:
        numpy = import_module("numpy")
    except ImportError:
        return None
    words, wide = numpy.dtype("<u2"), numpy.dtype("u4")
    octets = numpy.dtype("u1")
    frombuffer, zeros, add = numpy.frombuffer, numpy.zeros, numpy.add.reduce

    def numpy_segment_sums(data: bytes, segment_bytes: int, skipped_bytes: int = 0) -> list[int]:
        count = len(data) // segment_bytes
        rows = frombuffer(data, octets, count * segment_bytes).reshape(count, segment_bytes)
        rows = rows[:, skipped_bytes:]
        size = segment_bytes - skipped_bytes
        if size % 2:
            padded = zeros((count, size + 1), octets)
            padded[:, :size] = rows
            rows = padded
        # 65536 words of 16 bits fit into 32
        sums = [each << 8 for each in add(rows.view(words), 1, wide).tolist()]
        if len(data) % segment_bytes:
            sums.append(word_sum(data[count * segment_bytes + skipped_bytes :]))
        return sums

    return numpy_segment_sums


_numpy_segment_sums = load_numpy_segment_sums()


def segment_sums(data: bytes, segment_bytes: int, skipped_bytes: int = 0) -> list[int]:
    """Numbers congruent, modulo 65535, to the `word_sum` of each segment of `data`.

    So many bytes at the beginning of each do not count.
    """
    if _numpy_segment_sums is None or len(data) < _FEWEST_BYTES_FOR_NUMPY:
        return plain_segment_sums(data, segment_bytes, skipped_bytes)
    return _numpy_segment_sums(data, segment_bytes, skipped_bytes)
