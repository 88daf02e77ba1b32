"""The network of the tests: a gateway's host, clients' hosts, and a router that joins them."""

from __future__ import annotations

from contextlib import ExitStack

from anyvpn.testing.namespaces import Namespace

GATEWAY_ADDRESS = "192.0.2.1"
GATEWAY_ADDRESS_IPV6 = "2001:db8::1"


class Host:
    """A client's host: one Ethernet device, one router."""

    def __init__(self, namespace: Namespace, number: int) -> None:
        self.namespace = namespace
        self.number = number
        self._last, self._next = 2, 3

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"198.18.{self.number}.{self._last}"

    @property
    def other_address(self) -> str:
        """The one that it has after `change_address`."""
        return f"198.18.{self.number}.{self._next}"

    def change_address(self) -> None:
        """As when a laptop goes to another network: the addresses so far are gone."""
        self.namespace.run("ip", "address", "del", f"{self.address}/24", "dev", "wan")
        self._last, self._next = self._next, self._last
        self.namespace.add_addresses("wan", f"{self.address}/24")
        self.namespace.add_route("default", "via", f"198.18.{self.number}.1")


class Network:
    """Gateway ── router ── hosts, each on a link of its own, all with IPv4 and IPv6."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._hosts: dict[int, Host] = {}
        self.router = self._stack.enter_context(Namespace("router"))
        self.router.forward()
        self.gateway = self._stack.enter_context(Namespace("gateway"))
        self.gateway.forward()
        _forget_broken_flows(self.gateway)
        self.gateway.join(self.router, "wan", "gateway")
        self.gateway.add_addresses("wan", f"{GATEWAY_ADDRESS}/24", f"{GATEWAY_ADDRESS_IPV6}/64")
        self.router.add_addresses("gateway", "192.0.2.254/24", "2001:db8::ffff/64")
        self.gateway.add_route("default", "via", "192.0.2.254")
        self.gateway.add_route("default", "via", "2001:db8::ffff")

    def host(self, number: int) -> Host:
        """The host of that number, from 1; made when it is first asked for."""
        if number not in self._hosts:
            self._hosts[number] = self._new_host(number)
        return self._hosts[number]

    def block_udp(self, host: Host) -> None:
        """Swallow a host's UDP silently, both ways."""
        self.router.filter(
            "table ip blocked {\nchain forward {\ntype filter hook forward priority 0;\n"
            f"ip saddr {host.address} meta l4proto udp drop\n"
            f"ip daddr {host.address} meta l4proto udp drop\n"
            "}\n}"
        )

    def close_way(self, host: Host, address: str) -> None:
        """Swallow whatever a host sends to an address."""
        self.router.filter(
            "table ip closed {\nchain forward {\ntype filter hook forward priority 0;\n"
            f"ip saddr {host.address} ip daddr {address} drop\n"
            "}\n}"
        )

    def rebind(self, host: Host, local_port: int, seen_address: str, seen_port: int) -> None:
        """Let a host's datagrams come from elsewhere, as when a NAT forgets its table.

        The translation is stateless, so that it can change under the feet of a connection. What
        goes to the old place is lost.
        """
        self.router.filter(
            "table ip rebound {\nchain inwards {\ntype filter hook prerouting priority -300;\n"
            f"ip saddr {host.address} udp sport {local_port} notrack "
            f"udp sport set {seen_port} ip saddr set {seen_address}\n"
            f"ip daddr {seen_address} udp dport {seen_port} meta mark set 1 notrack "
            f"udp dport set {local_port} ip daddr set {host.address}\n"
            "}\nchain forwards {\ntype filter hook forward priority 0;\n"
            f"ip daddr {host.address} udp dport {local_port} meta mark != 1 drop\n"
            "}\n}"
        )

    def restore(self) -> None:
        """Let everything through again, untouched."""
        self.router.filter("")

    def close(self) -> None:
        """Take it all down."""
        self._stack.close()

    def _new_host(self, number: int) -> Host:
        namespace = self._stack.enter_context(Namespace(f"client{number}"))
        _forget_broken_flows(namespace)
        namespace.join(self.router, "wan", f"client{number}")
        namespace.add_addresses("wan", f"198.18.{number}.2/24", f"2001:db8:{number}::2/64")
        self.router.add_addresses(
            f"client{number}", f"198.18.{number}.1/24", f"2001:db8:{number}::1/64"
        )
        namespace.add_route("default", "via", f"198.18.{number}.1")
        namespace.add_route("default", "via", f"2001:db8:{number}::1")
        return Host(namespace, number)


def _forget_broken_flows(host: Namespace) -> None:
    """Give up what nobody owns any more, and is not answered.

    Otherwise a flow that a test has broken off goes on for minutes, into the tunnels of the tests
    after it: larger packets than theirs, of which the host then remembers that they were too large.
    """
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries")
