"""The environment of vpnc-script: what the gateway granted, in variables of known types.

Nothing of the gateway's reaches a script but addresses, numbers, domain names and a banner made
of harmless characters.

Source: observed: openconnect 9.01 with vpnc-script; the variables are vpnc-script's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.printable import printable

Network = IPv4Network | IPv6Network

_DOMAIN = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_SHELLS_OWN = re.compile(r"[`$\\\"';&|<>(){}\[\]*?~!#\n\r]")
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@%+,=-]{1,1024}")
_KEPT = ("PATH", "HOME", "LANG", "TERM")

# Ours
_LONGEST_BANNER_CHARACTERS = 2048


def script_environment(reason: str, device: str, settings: AdapterSettings) -> dict[str, str]:
    """The whole environment of one run; `reason` is one of vpnc-script's."""
    granted = settings.granted
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["PATH"] = f"{environment.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    environment |= {"reason": reason, "TUNDEV": device, "VPNPID": str(os.getpid())}
    environment |= {"INTERNAL_IP4_MTU": str(settings.mtu_bytes), "LOG_LEVEL": "1"}
    if settings.gateway_address is not None:
        environment["VPNGATEWAY"] = str(settings.gateway_address)
    if granted.idle_timeout_s:
        environment["IDLE_TIMEOUT"] = str(granted.idle_timeout_s)
    ipv4, ipv6 = granted.lease.ipv4, granted.lease.ipv6
    if ipv4 is not None:
        environment |= {
            "INTERNAL_IP4_ADDRESS": str(ipv4.ip),
            "INTERNAL_IP4_NETMASK": str(ipv4.network.netmask),
            "INTERNAL_IP4_NETMASKLEN": str(ipv4.network.prefixlen),
            "INTERNAL_IP4_NETADDR": str(ipv4.network.network_address),
        }
    if ipv6 is not None:
        environment |= {
            "INTERNAL_IP6_ADDRESS": str(ipv6.ip),
            "INTERNAL_IP6_NETMASK": str(ipv6),
        }
    for version in (4, 6):
        servers = [str(each) for each in granted.dns if each.version == version]
        if servers:
            environment[f"INTERNAL_IP{version}_DNS"] = " ".join(servers)
    if granted.nbns:
        environment["INTERNAL_IP4_NBNS"] = " ".join(map(str, granted.nbns))
    domains = [each for each in granted.default_domain.split() if _DOMAIN.fullmatch(each)]
    if domains:
        environment["CISCO_DEF_DOMAIN"] = " ".join(domains)
    split_dns = [each for each in granted.split_dns if _DOMAIN.fullmatch(each)]
    if split_dns:
        environment["CISCO_SPLIT_DNS"] = ",".join(split_dns)
    if granted.banner:
        banner = _SHELLS_OWN.sub("?", printable(granted.banner))
        environment["CISCO_BANNER"] = banner[:_LONGEST_BANNER_CHARACTERS]
    pac_url = granted.proxy.get("MSIE-Proxy-PAC-URL", "")
    if _URL.fullmatch(pac_url):
        environment["CISCO_PROXY_PAC"] = pac_url
    environment |= _routes("SPLIT_INC", granted.split_include)
    environment |= _routes("SPLIT_EXC", granted.split_exclude)
    return environment


def _routes(kind: str, networks: Sequence[Network]) -> dict[str, str]:
    """Each family has a counter and numbered variables of its own."""
    variables: dict[str, str] = {}
    ipv4 = [each for each in networks if isinstance(each, IPv4Network)]
    ipv6 = [each for each in networks if isinstance(each, IPv6Network)]
    if ipv4:
        variables[f"CISCO_{kind}"] = str(len(ipv4))
    for number, network in enumerate(ipv4):
        prefix = f"CISCO_{kind}_{number}"
        variables |= {
            f"{prefix}_ADDR": str(network.network_address),
            f"{prefix}_MASK": str(network.netmask),
            f"{prefix}_MASKLEN": str(network.prefixlen),
            f"{prefix}_PROTOCOL": "0",
            f"{prefix}_SPORT": "0",
            f"{prefix}_DPORT": "0",
        }
    if ipv6:
        variables[f"CISCO_IPV6_{kind}"] = str(len(ipv6))
    for number, wide in enumerate(ipv6):
        prefix = f"CISCO_IPV6_{kind}_{number}"
        variables |= {
            f"{prefix}_ADDR": str(wide.network_address),
            f"{prefix}_MASKLEN": str(wide.prefixlen),
        }
    return variables
