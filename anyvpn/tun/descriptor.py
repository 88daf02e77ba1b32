"""Opens /dev/net/tun: name, header and offloads of the device behind a descriptor.

Source: Linux, Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass, replace

from twisted.logger import Logger

from anyvpn.errors import TunUnavailable

log = Logger()

# From Linux
_TUN_PATH = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_TUNGETVNETHDRSZ = 0x800454D7
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0001, 0x1000, 0x4000, 0x8000
_IFF_MULTI_QUEUE = 0x0100
_REQUEST = struct.Struct("16sH22x")
_VNET_HEADER_BYTES = 10
_CHECKSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40

# Ours: what we ask for, best first
_OFFLOADS = (
    (("TCP", "UDP"), _CHECKSUM | _TSO4 | _TSO6 | _TSO_ECN | _USO4 | _USO6),
    (("TCP",), _CHECKSUM | _TSO4 | _TSO6 | _TSO_ECN),
    (("TCP",), _CHECKSUM | _TSO4 | _TSO6),
)
_NEEDS_PRIVILEGES = "root or CAP_NET_ADMIN is needed"


@dataclass(frozen=True, slots=True)
class OpenedTun:
    """A descriptor with its device; `offloads` names the protocols handed over uncut."""

    descriptor: int
    name: str
    vnet_header_bytes: int
    offloads: tuple[str, ...] = ()
    further: tuple[int, ...] = ()
    """The descriptors of its other queues."""


def open_descriptor(name_pattern: str, offloads: bool, queues: int = 1) -> OpenedTun:
    """Make a tun device of that name. Raises: TunUnavailable: with what would help."""
    several = _IFF_MULTI_QUEUE if queues > 1 else 0
    opened = _open_queue(name_pattern, offloads, _IFF_TUN_EXCL | several)
    further: list[int] = []
    try:
        for _ in range(1, queues):
            further.append(_open_queue(opened.name, offloads, several).descriptor)
    except TunUnavailable:
        for each in (opened.descriptor, *further):
            os.close(each)
        raise
    return replace(opened, further=tuple(further))


def _open_queue(name_pattern: str, offloads: bool, further_flags: int) -> OpenedTun:
    try:
        descriptor = os.open(_TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TunUnavailable(_why_no_clone_device(error)) from error
    try:
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if offloads else 0) | further_flags
        try:
            request = _REQUEST.pack(name_pattern.encode("ascii"), flags)
            answer = fcntl.ioctl(descriptor, _TUNSETIFF, request)
        except OSError as error:
            raise TunUnavailable(_why_no_device(name_pattern, error)) from error
        name = _name_in(answer)
        if not offloads:
            return OpenedTun(descriptor, name, 0)
        fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER_BYTES))
        return OpenedTun(descriptor, name, _VNET_HEADER_BYTES, _switch_offloads_on(descriptor))
    except OSError as error:
        os.close(descriptor)
        raise TunUnavailable(
            f"the kernel's tun device has no offloads ({error.strerror}): set offloads = false"
        ) from error
    except TunUnavailable:
        os.close(descriptor)
        raise


def adopt_descriptor(descriptor: int) -> OpenedTun:
    """What is behind a descriptor that somebody else opened. Raises: TunUnavailable."""
    try:
        answer = fcntl.ioctl(descriptor, _TUNGETIFF, bytes(40))
        (flags,) = struct.unpack_from("H", answer, 16)
        header_bytes = 0
        if flags & _IFF_VNET_HDR:
            (header_bytes,) = struct.unpack(
                "i", fcntl.ioctl(descriptor, _TUNGETVNETHDRSZ, bytes(4))
            )
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise TunUnavailable(
            f"descriptor {descriptor} is not that of a tun device ({error.strerror})"
        ) from error
    if not flags & _IFF_TUN or not flags & _IFF_NO_PI:
        raise TunUnavailable(
            f"descriptor {descriptor} is a tap device, or one with packet information: "
            "open it with IFF_TUN | IFF_NO_PI"
        )
    offloads = ("as opened",) if header_bytes else ()
    return OpenedTun(descriptor, _name_in(answer), header_bytes, offloads)


def _switch_offloads_on(descriptor: int) -> tuple[str, ...]:
    for protocols, bits in _OFFLOADS:
        try:
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, bits)
        except OSError as error:
            refusal = error.strerror
        else:
            return protocols
    log.warn(
        "The kernel cuts packets itself, which is slower: it refuses offloads ({reason})",
        reason=refusal,
    )
    return ()


def _name_in(answer: bytes) -> str:
    return answer[:16].partition(b"\0")[0].decode("ascii", "backslashreplace")


def _why_no_clone_device(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            f"there is no {_TUN_PATH}: load the module with `modprobe tun`, or start the "
            f"container with --device {_TUN_PATH}"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return (
            f"{_TUN_PATH} may not be opened: {_NEEDS_PRIVILEGES}, and start a container with "
            f"--device {_TUN_PATH}"
        )
    return f"{_TUN_PATH} cannot be opened: {error.strerror}"


def _why_no_device(name_pattern: str, error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"a tun device may not be made: {_NEEDS_PRIVILEGES}"
    if error.errno in (errno.EBUSY, errno.EEXIST, errno.ENFILE):
        return (
            f"there is a device {name_pattern} already: stop what uses it, remove it with "
            f"`ip link delete {name_pattern}`, or choose another name"
        )
    return f"the kernel makes no tun device {name_pattern}: {error.strerror}"
