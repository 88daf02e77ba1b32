"""Cisco's access lists, as RADIUS and LDAP servers give them to its gateways, as filter rules.

`ip:inacl#N=` holds a line about what the client sends, `ip:outacl#N=` one about what comes to it,
`ipv6:` instead of `ip:` says that "any" means IPv6 addresses. Lines come in the order of their
numbers; what matches none is dropped. A line that is not understood, whatever it says, is refused:
without it the rest might open what it closes.

Source: Cisco ASA Series General Operations CLI Configuration Guide, "RADIUS Servers for AAA",
Cisco-AV-Pair; Cisco IOS Security Command Reference, "permit (IP)"; netmasks beside wildcard masks
as with the ASA's "acl-netmask-convert auto-detect".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from anyvpn.model.group_policy import Address, Network
from anyvpn.model.packet_filter import (
    HIGHEST_ICMP_TYPE,
    HIGHEST_PORT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Direction,
    FilterRule,
    Range,
)

# From the protocol
_LINE = re.compile(r"(?P<version>ip|ipv6):(?P<list>inacl|outacl)#(?P<number>\d{1,9})=(?P<text>.*)")
_ABOUT_FILTERS = re.compile(r"(ip|ipv6):\s*(in|out)acl|ACS:CiscoSecure-Defined-ACL", re.IGNORECASE)
_ANY: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_PROTOCOLS: dict[str, int | None] = {
    **{"ip": None, "ipv6": None, "icmp": ICMP, "igmp": 2, "ipinip": 4, "tcp": TCP, "udp": UDP},
    **{"gre": 47, "esp": 50, "ah": 51, "ahp": 51, "icmp6": ICMPV6, "eigrp": 88, "ospf": 89},
    **{"nos": 94, "pim": 103, "pcp": 108, "sctp": 132},
}
_PORTS = {
    **{
        "ftp-data": 20,
        "ftp": 21,
        "ssh": 22,
        "telnet": 23,
        "smtp": 25,
        "time": 37,
        "nameserver": 42,
    },
    **{"tacacs": 49, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70},
    **{"finger": 79, "www": 80, "http": 80, "pop2": 109, "pop3": 110, "sunrpc": 111, "nntp": 119},
    **{"ntp": 123, "netbios-ns": 137, "netbios-dgm": 138, "netbios-ss": 139, "netbios-ssn": 139},
    **{"imap4": 143, "snmp": 161, "snmptrap": 162, "xdmcp": 177, "bgp": 179, "irc": 194},
    **{"ldap": 389, "https": 443, "isakmp": 500, "ldaps": 636, "sqlnet": 1521, "nfs": 2049},
    **{"non500-isakmp": 4500, "sip": 5060},
}
_ICMP_TYPES = {
    ICMP: {
        **{"echo-reply": 0, "unreachable": 3, "source-quench": 4, "redirect": 5, "echo": 8},
        **{"time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13},
        **{"timestamp-reply": 14, "information-request": 15, "information-reply": 16},
        **{"mask-request": 17, "mask-reply": 18, "traceroute": 30},
    },
    ICMPV6: {
        **{"unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4},
        **{"echo": 128, "echo-request": 128, "echo-reply": 129},
    },
}
# What may stand behind "log"; none of it changes what passes
_LOG_WORDS = re.compile(r"log(-input)?( [0-7])?( interval \d+)?|log (disable|default)")

# Ours
_MOST_PORTS = 10
_CLOSED = FilterRule(False, Direction.BOTH)


def read_av_pairs(values: Iterable[str]) -> tuple[FilterRule, ...] | None:
    """The rules in these values of Cisco-AVPair; None when none of them is about filters.

    Raises: ValueError: a line cannot be understood, or what it says cannot be kept to.
    """
    lines: dict[tuple[str, str, int], str] = {}
    for value in values:
        found = _LINE.fullmatch(value.strip())
        if found is not None:
            key = found["list"], found["version"], int(found["number"])
            if key in lines:
                raise ValueError(f"there are two lines {found['version']}:{key[0]}#{key[2]}")
            lines[key] = found["text"]
        elif _ABOUT_FILTERS.match(value.strip()):
            raise ValueError(f'"{value[:100]}" is not like "ip:inacl#1=permit ip any any"')
    if not lines:
        return None
    if not any(name == "inacl" for name, _, _ in lines):
        raise ValueError(
            "nothing says what the client may send: there is outacl without inacl; to leave that "
            'open, add "ip:inacl#1=permit ip any any"'
        )
    is_split = len({version for _, version, _ in lines}) > 1
    rules: list[FilterRule] = []
    for (name, version, _), text in sorted(lines.items()):
        only = 6 if version == "ipv6" else 4 if is_split else None
        try:
            rules += _Line(text).rules(only, comes_from_client=name == "inacl")
        except ValueError as error:
            raise ValueError(f'"{text[:100]}": {error}') from None
    return (*rules, _CLOSED)


class _Line:
    """The words of one line, taken one after the other."""

    def __init__(self, text: str) -> None:
        self._words = text.split()

    def rules(self, only: int | None, *, comes_from_client: bool) -> list[FilterRule]:
        """What the line means, for addresses of one IP version `only`, or of both."""
        action = self._next("permit or deny")
        if action == "remark":
            return []
        if action not in ("permit", "deny"):
            raise ValueError(f'it begins with "{action}" instead of permit or deny')
        protocol = self._protocol(only)
        source = self._network(only)
        source_ports = self._ports(protocol)
        destination = self._network(only)
        ports = self._ports(protocol) or self._types(protocol)
        is_established = protocol == TCP and self._take("established")
        rest = " ".join(self._words)
        if rest and not _LOG_WORDS.fullmatch(rest):
            raise ValueError(f'"{rest}" is not understood')
        if is_established:
            if action == "deny":
                raise ValueError("deny with established cannot be kept to")
            return []  # answers to what may be opened pass as it is
        near, far = (source, destination) if comes_from_client else (destination, source)
        direction = Direction.FROM_CLIENT if comes_from_client else Direction.TO_CLIENT
        return [FilterRule(action == "permit", direction, protocol, far, ports, source_ports, near)]

    def _next(self, what: str) -> str:
        if not self._words:
            raise ValueError(f"{what} is missing")
        return self._words.pop(0).lower()

    def _take(self, *choices: str) -> str:
        """The next word, if it is one of these."""
        if self._words and self._words[0].lower() in choices:
            return self._words.pop(0).lower()
        return ""

    def _protocol(self, only: int | None) -> int | None:
        word = self._next("the protocol")
        if word == "icmp" and only == 6:
            return ICMPV6
        if word in _PROTOCOLS:
            return _PROTOCOLS[word]
        return _number(word, 0xFF, "protocol")

    def _network(self, only: int | None) -> Network | None:
        word = self._next("an address")
        if word in ("any", "any4", "any6"):
            version = only if word == "any" else int(word[-1])
            return None if version is None else _ANY[version]
        if word == "host":
            return ip_network(str(_address(self._next("the address of the host"))))
        if "/" in word:
            return _prefixed(word)
        address = _address(word)
        if address.version == 6:
            raise ValueError(f'the length of "{word}" is missing, as in {word}/64')
        return _masked(address, self._next(f"the mask of {word}"))

    def _ports(self, protocol: int | None) -> tuple[Range, ...]:
        if protocol not in (TCP, UDP):
            return ()
        match self._take("eq", "neq", "lt", "gt", "range"):
            case "":
                return ()
            case "eq":
                found = [self._port()]
                while self._words and len(found) < _MOST_PORTS and _is_port(self._words[0]):
                    found.append(self._port())
                return tuple((each, each) for each in found)
            case "neq":
                port = self._port()
                return _whole((0, port - 1), (port + 1, HIGHEST_PORT))
            case "lt":
                return _whole((0, self._port() - 1))
            case "gt":
                return _whole((self._port() + 1, HIGHEST_PORT))
            case _:
                return _whole((self._port(), self._port()))

    def _port(self) -> int:
        word = self._next("a port")
        return _PORTS[word] if word in _PORTS else _number(word, HIGHEST_PORT, "port")

    def _types(self, protocol: int | None) -> tuple[Range, ...]:
        known = _ICMP_TYPES.get(protocol or 0)
        if known is None or not self._words or self._words[0].lower().startswith("log"):
            return ()
        word = self._next("a type")
        kind = known[word] if word in known else _number(word, HIGHEST_ICMP_TYPE, "ICMP type")
        return ((kind, kind),)


def _number(word: str, highest: int, what: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= highest):
        raise ValueError(f'"{word}" is no {what}')
    return int(word)


def _is_port(word: str) -> bool:
    return word.lower() in _PORTS or (word.isascii() and word.isdecimal())


def _whole(*ranges: Range) -> tuple[Range, ...]:
    """Those ranges that hold anything. Raises: ValueError: none does, so nothing can match."""
    found = tuple((first, last) for first, last in ranges if 0 <= first <= last <= HIGHEST_PORT)
    if not found:
        raise ValueError("there is no such port")
    return found


def _address(word: str) -> Address:
    try:
        if "%" in word:
            raise ValueError("addresses have no scope here")
        return ip_address(word)
    except ValueError:
        raise ValueError(f'"{word}" is no address; names are not looked up') from None


def _prefixed(word: str) -> Network:
    address, _, length = word.partition("/")
    first = _address(address)
    return _network(first, _number(length, first.max_prefixlen, "prefix"))


def _network(address: Address, prefix: int) -> Network:
    return ip_network(f"{address}/{prefix}", strict=False)


def _masked(address: Address, mask: str) -> Network:
    """By a netmask or a wildcard mask, whichever it is; it may be both at the ends of the range."""
    found = _address(mask)
    if found.version != 4:
        raise ValueError(f"{mask} is no mask")
    bits = int(found)
    if bits in (0, 0xFFFFFFFF):
        prefix = 32 if int(address) else 0
    elif _leads(bits):
        prefix = bits.bit_count()
    elif _leads(bits ^ 0xFFFFFFFF):
        prefix = 32 - bits.bit_count()
    else:
        raise ValueError(f"{mask} is no mask of a network: its ones are not all on one side")
    return _network(address, prefix)


def _leads(bits: int) -> bool:
    """Whether all ones of 32 bits are on the left."""
    return (bits ^ 0xFFFFFFFF) & ((bits ^ 0xFFFFFFFF) + 1) == 0
