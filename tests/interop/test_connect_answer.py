"""The answer to CONNECT, header by header, as openconnect prints it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping

import pytest
from lxml import etree

from anyvpn.testing.openconnect import OpenConnect
from tests.interop.gateway import NAME, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site

HEADER = re.compile(r"^(X-(?:CSTP|DTLS|DTLS12)-[\w-]+): (.*)$")
HEX_32_BYTES = r"[0-9a-f]{64}"

BANNER = "Nur für Befugte \N{EN DASH} 仅限授权使用"

EVERYTHING: Mapping[str, object] = {
    "dns": ["10.77.0.53", "fd77::53"],
    "nbns": ["10.77.0.54"],
    "default_domain": "corp.example",
    "split_dns": ["corp.example", "lab.example"],
    "split_include": ["10.20.0.0/16", "fd00:20::/48"],
    "split_exclude": ["10.20.30.0/24", "fd00:20:0:30::/64"],
    "exclude_local_lan": True,
    "client_bypass_protocol": True,
    "banner": "Authorised use only",
    "mtu_bytes": 1400,
    "compression": ["oc-lz4"],
    "dpd_s": 31,
    "keepalive_s": 21,
    "rekey_s": 3601,
    "idle_timeout_s": 1801,
    "session_timeout_s": 7201,
    "disconnected_timeout_s": 901,
    "proxy": {
        "MSIE-Proxy-Server": "proxy.corp.example:3128",
        "MSIE-Proxy-Exception": "localhost",
        "MSIE-Proxy-Method": "manual",
    },
    "dynamic_split_include": ["intra.example"],
    "dynamic_split_exclude": ["video.example", "music.example"],
}


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authorizer": {
            "policies": {
                "everything": EVERYTHING,
                "greeting": {"banner": BANNER},
                "nothing": {"dpd_s": 0, "keepalive_s": 0, "rekey_s": 0, "dtls": False},
            },
            "by_user": {"eva": "everything", "nora": "nothing", "bea": "greeting"},
        }
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "eva", "nora", "bea")


def headers(client: OpenConnect) -> list[tuple[str, str]]:
    """What openconnect prints of the answer, in its order; its own request is not among it."""
    lines = client.output().partition("HTTP/1.1 200 CONNECTED")[2].splitlines()
    found = (HEADER.match(line) for line in lines)
    return [(each[1], each[2]) for each in found if each is not None]


def values(found: list[tuple[str, str]], name: str) -> list[str]:
    """All values of one header."""
    return [value for each, value in found if each == name]


def raw_answer(site: Site, token: str) -> str:
    """The head of the answer to a CONNECT of our own."""
    context = ssl.create_default_context(cafile=str(site.gateway.ca_file))
    made = site.network.host(1).namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(10)
    made.connect((GATEWAY_ADDRESS, PORT))
    with context.wrap_socket(made, server_hostname=NAME) as connection:
        connection.sendall(
            f"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: {NAME}\r\n"
            f"Cookie: webvpn={token}\r\nX-CSTP-Version: 1\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
            head += part
    return head.partition(b"\r\n\r\n")[0].decode()


class AnswerTests:
    def test_policy_with_everything_set_is_answered_with_every_header(self, site: Site) -> None:
        client = site.connect("eva")
        found = headers(client)
        ipv4, ipv6 = client.inner_addresses
        expected = {
            "X-CSTP-Version": ["1"],
            "X-CSTP-Address": [ipv4],
            "X-CSTP-Netmask": ["255.255.255.0"],
            "X-CSTP-Address-IP6": [f"{ipv6}/128"],
            "X-CSTP-DNS": ["10.77.0.53", "fd77::53"],
            "X-CSTP-NBNS": ["10.77.0.54"],
            "X-CSTP-Default-Domain": ["corp.example"],
            "X-CSTP-Split-DNS": ["corp.example", "lab.example"],
            "X-CSTP-Split-Include": ["10.20.0.0/255.255.0.0"],
            "X-CSTP-Split-Include-IP6": ["fd00:20::/48"],
            "X-CSTP-Split-Exclude": ["0.0.0.0/255.255.255.255", "10.20.30.0/255.255.255.0"],
            "X-CSTP-Split-Exclude-IP6": ["fd00:20:0:30::/64"],
            "X-CSTP-Tunnel-All-DNS": ["false"],
            "X-CSTP-Client-Bypass-Protocol": ["true"],
            "X-CSTP-Base-MTU": ["1400"],
            "X-CSTP-MTU": ["1334"],
            "X-CSTP-Content-Encoding": ["oc-lz4"],
            "X-CSTP-Banner": ["Authorised use only"],
            "X-CSTP-DPD": ["31"],
            "X-CSTP-Keepalive": ["21"],
            "X-CSTP-Rekey-Time": ["3601"],
            "X-CSTP-Rekey-Method": ["new-tunnel"],
            "X-CSTP-Idle-Timeout": ["1801"],
            "X-CSTP-Session-Timeout": ["7201"],
            "X-CSTP-Disconnected-Timeout": ["901"],
            "X-CSTP-MSIE-Proxy-Server": ["proxy.corp.example:3128"],
            "X-CSTP-MSIE-Proxy-Exception": ["localhost"],
            "X-CSTP-MSIE-Proxy-Method": ["manual"],
            "X-CSTP-Smartcard-Removal-Disconnect": ["true"],
            "X-CSTP-License": ["accept"],
            "X-CSTP-Quarantine": ["false"],
            "X-DTLS-Port": [str(PORT)],
            "X-DTLS-DPD": ["31"],
            "X-DTLS-Keepalive": ["21"],
            "X-DTLS-CipherSuite": ["PSK-NEGOTIATE"],
            "X-DTLS-Content-Encoding": ["oc-lz4"],
        }
        assert {name: values(found, name) for name in expected} == expected
        (remaining,) = values(found, "X-CSTP-Session-Timeout-Remaining")
        assert 7100 < int(remaining) <= 7201
        (app_id,) = values(found, "X-DTLS-App-ID")
        assert re.fullmatch(HEX_32_BYTES, app_id)
        assert not values(found, "X-DTLS-Session-ID")

    def test_post_auth_document_has_the_session_and_the_dynamic_split_lists(
        self, site: Site
    ) -> None:
        """The one header that openconnect does not print: it holds the token."""
        cookie = re.search(r"\bwebvpn=([^;]+)", site.log_in("eva"))
        assert cookie is not None
        head = raw_answer(site, token := cookie[1])
        assert head.startswith("HTTP/1.1 200 CONNECTED\r\n")
        (text,) = re.findall(r"(?m)^X-CSTP-Post-Auth-XML: (.*?)\r?$", head)
        document = etree.fromstring(text.encode())
        assert document.tag == "config-auth"
        assert document.get("type") == "complete"
        assert document.findtext("session-token") == token
        assert document.findtext(".//dynamic-split-include-domains") == "intra.example,"
        excluded = document.findtext(".//dynamic-split-exclude-domains")
        assert excluded == "video.example,music.example,"

    def test_resumption_is_granted_with_a_session_id_and_its_own_mtu(self, site: Site) -> None:
        client = site.connect("eva", options=("--dtls12-ciphers", "AES256-GCM-SHA384"))
        found = headers(client)
        assert values(found, "X-DTLS12-CipherSuite") == ["AES256-GCM-SHA384"]
        assert not values(found, "X-DTLS-CipherSuite")
        assert values(found, "X-DTLS-MTU") == ["1334"]
        (session_id,) = values(found, "X-DTLS-Session-ID")
        assert re.fullmatch(HEX_32_BYTES, session_id)
        assert not values(found, "X-DTLS-App-ID")

    def test_what_a_policy_leaves_out_is_off(self, site: Site) -> None:
        found = headers(site.connect("nora"))
        assert values(found, "X-CSTP-Rekey-Method") == ["none"]
        for time in ("Idle", "Session", "Session-Timeout-Remaining"):
            name = f"X-CSTP-{time}" if time.endswith("Remaining") else f"X-CSTP-{time}-Timeout"
            assert values(found, name) == ["none"]
        assert values(found, "X-CSTP-Tunnel-All-DNS") == ["true"]
        absent = ("Split", "DNS", "NBNS", "DPD", "Keepalive", "Banner", "MSIE", "Content-Encoding")
        names = {name for name, _ in found}
        assert not [each for each in names if each.startswith(tuple(f"X-CSTP-{a}" for a in absent))]
        assert not [each for each in names if each.startswith("X-DTLS")]

    def test_banner_reaches_the_user_as_it_was_written(self, site: Site) -> None:
        assert site.connect("bea").environment()["CISCO_BANNER"] == BANNER
