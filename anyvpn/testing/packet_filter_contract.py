"""What every packet engine must do with the filter rules of a tunnel."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address

from anyvpn.model.packet_filter import (
    ANSWER_TIME_S,
    FEWEST_FLOWS,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Direction,
    FilterRule,
)
from anyvpn.testing.filter_packets import (
    ACK,
    SYN,
    SYN_ACK,
    echo,
    icmp,
    icmp_error,
    ip_packet,
    tcp_packet,
    udp_packet,
)
from anyvpn.testing.inner_client import MTU_BYTES, InnerClient
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.packet_filter_hostile import (
    DNS,
    ELSEWHERE,
    HTTPS,
    INSIDE,
    INSIDE6,
    SERVER,
    SERVER6,
    PacketFilterHostileContract,
)

# Ours
PING = FilterRule(True, protocol=ICMP, network=INSIDE, ports=((8, 9),))


class PacketFilterContract(PacketFilterHostileContract):
    """A part of `PacketEngineContract`."""

    # --- who may open what ----------------------------------------------------------------------

    def test_what_no_rule_allows_is_dropped_and_counted(self) -> None:
        client = self.filtered(HTTPS)
        good = tcp_packet(client.ipv4, 4000, SERVER, 443, SYN)
        bad = [
            tcp_packet(client.ipv4, 4000, SERVER, 442, SYN),
            tcp_packet(client.ipv4, 4000, ELSEWHERE, 443, SYN),
            udp_packet(client.ipv4, 4000, SERVER, 443),
            echo(client.ipv4, SERVER, 1),
            tcp_packet(client.ipv6, 4000, SERVER6, 443, SYN),
        ]
        self.assert_pass(self.up(client, *bad, good, *bad), [good])
        from_inside = tcp_packet(SERVER, 22, client.ipv4, 22, SYN)
        self.assert_pass(self.down(client, from_inside), [])
        counters = self.engine.counters(client.number)
        self.assertEqual(counters.dropped_filtered, 2 * len(bad) + 1)
        self.assertEqual((counters.received_packets, counters.sent_packets), (1, 0))
        self.assertEqual((counters.received_bytes, counters.dropped_spoofed), (len(good), 0))

    def test_the_first_rule_that_matches_decides(self) -> None:
        client = self.filtered(
            FilterRule(False, protocol=TCP, network=IPv4Network("10.1.2.3/32")), HTTPS
        )
        packets = [
            tcp_packet(client.ipv4, 4000, each, 443, SYN) for each in (SERVER, bytes((10, 1, 2, 4)))
        ]
        self.assert_pass(self.up(client, *packets), packets[1:])

    def test_a_server_answers_over_tcp_and_opens_nothing(self) -> None:
        client = self.filtered(HTTPS)
        answers = [
            tcp_packet(SERVER, 443, client.ipv4, 4000, SYN_ACK),
            tcp_packet(SERVER, 443, client.ipv4, 4000, ACK),
        ]
        others = [
            tcp_packet(SERVER, 443, client.ipv4, 4000, SYN),
            tcp_packet(SERVER, 443, client.ipv4, 4000, SYN | 0x40),
            tcp_packet(SERVER, 80, client.ipv4, 443, ACK),
            tcp_packet(ELSEWHERE, 443, client.ipv4, 4000, SYN_ACK),
        ]
        self.assert_pass(self.down(client, *others, *answers, *others, *answers), answers * 2)

    def test_a_server_answers_over_udp_when_it_was_asked(self) -> None:
        client = self.filtered(DNS)
        answer = udp_packet(SERVER, 53, client.ipv4, 4000)
        self.assert_pass(self.down(client, answer), [])
        self.up(client, udp_packet(client.ipv4, 4000, SERVER, 53))
        others = [
            udp_packet(SERVER, 53, client.ipv4, 4001),
            udp_packet(SERVER, 54, client.ipv4, 4000),
            udp_packet(bytes((10, 1, 2, 4)), 53, client.ipv4, 4000),
        ]
        self.assert_pass(self.down(client, answer, *others, answer), [answer] * 2)

    def test_answers_over_udp_may_take_their_time_but_not_for_ever(self) -> None:
        client = self.filtered(DNS)
        self.up(client, udp_packet(client.ipv4, 4000, SERVER, 53))
        answer = udp_packet(SERVER, 53, client.ipv4, 4000)
        for _ in range(5):
            self.pass_time(ANSWER_TIME_S - 1)
            self.assert_pass(self.down(client, answer), [answer])
        self.pass_time(2 * ANSWER_TIME_S + 1)
        self.assert_pass(self.down(client, answer), [])
        for _ in range(5):
            self.up(client, udp_packet(client.ipv4, 4000, SERVER, 53))
            self.pass_time(ANSWER_TIME_S - 1)
        self.assert_pass(self.down(client, answer), [answer])

    def test_many_flows_are_remembered_at_a_time(self) -> None:
        client = self.filtered(DNS)
        ports = range(1000, 1000 + FEWEST_FLOWS)
        self.up(client, *(udp_packet(client.ipv4, port - 500, SERVER, 53) for port in ports))
        self.up(client, *(udp_packet(client.ipv4, port, SERVER, 53) for port in ports))
        answers = [udp_packet(SERVER, 53, client.ipv4, port) for port in ports]
        self.assert_pass(self.down(client, *answers), answers)

    def test_rules_for_the_other_direction(self) -> None:
        client = self.filtered(
            FilterRule(True, Direction.TO_CLIENT, TCP, INSIDE, ((22, 22),)),
            FilterRule(True, Direction.BOTH, UDP, INSIDE, ((5060, 5060),)),
        )
        opening = tcp_packet(SERVER, 4000, client.ipv4, 22, SYN)
        call, called = (
            udp_packet(SERVER, 5060, client.ipv4, 5060),
            udp_packet(client.ipv4, 5060, SERVER, 5060),
        )
        wrong = tcp_packet(SERVER, 4000, client.ipv4, 23, SYN)
        self.assert_pass(self.down(client, opening, wrong, call), [opening, call])
        answer = tcp_packet(client.ipv4, 22, SERVER, 4000, SYN_ACK)
        new = tcp_packet(client.ipv4, 22, SERVER, 4000, SYN)
        self.assert_pass(self.up(client, answer, new, called), [answer, called])

    def test_what_a_rule_may_ask_for_besides(self) -> None:
        client = InnerClient(7, self.engine)
        client.attach(
            [IPv4Network("10.5.0.0/16")],
            [
                FilterRule(True, protocol=47),
                FilterRule(True, protocol=UDP, source_ports=((68, 70),)),
                FilterRule(
                    True,
                    protocol=TCP,
                    ports=((80, 80), (8000, 8100)),
                    client_network=IPv4Network("10.5.6.0/24"),
                ),
            ],
        )
        behind, other = bytes((10, 5, 6, 7)), bytes((10, 5, 7, 7))
        good = [
            ip_packet(client.ipv4, SERVER, 47, b"tunnel in a tunnel"),
            ip_packet(client.ipv6, SERVER6, 47),
            udp_packet(other, 70, SERVER, 1),
            tcp_packet(behind, 1, SERVER, 80, SYN),
            tcp_packet(behind, 1, SERVER, 8100, SYN),
        ]
        bad = [
            ip_packet(client.ipv4, SERVER, 50, b"something else"),
            udp_packet(other, 71, SERVER, 70),
            tcp_packet(behind, 1, SERVER, 8101, SYN),
            tcp_packet(other, 1, SERVER, 80, SYN),
        ]
        self.assert_pass(self.up(client, *good, *bad), good)
        back = ip_packet(SERVER, client.ipv4, 47, b"and back")
        self.assert_pass(self.down(client, back, ip_packet(ELSEWHERE, client.ipv4, 47)), [back])

    def test_another_attach_brings_other_rules(self) -> None:
        client = self.filtered(HTTPS)
        packet = udp_packet(client.ipv4, 4000, SERVER, 9)
        self.assert_pass(self.up(client, packet), [])
        client.attach()
        self.assert_pass(self.up(client, packet), [packet])

    def test_clients_need_both_filters_to_talk_to_each_other(self) -> None:
        one = self.filtered(FilterRule(True, protocol=UDP), number=7)
        closed = self.filtered(DNS, number=8)
        open_port = FilterRule(True, Direction.TO_CLIENT, UDP, None, ((9, 9),))
        other = self.filtered(open_port, number=9)
        packets = [
            udp_packet(one.ipv4, 4000, closed.ipv4, 9),
            udp_packet(one.ipv4, 4000, other.ipv4, 9),
            udp_packet(one.ipv4, 4000, other.ipv4, 10),
        ]
        self.assert_pass(self.up(one, *packets), [])
        self.assert_pass([packet for _, packet in closed.frames()], [])
        self.assert_pass([packet for _, packet in other.frames()], packets[1:2])
        self.assertEqual(self.engine.counters(8).dropped_filtered, 1)
        self.assertEqual(self.engine.counters(9).dropped_filtered, 1)
        self.up(other, udp_packet(other.ipv4, 9, one.ipv4, 4000))
        self.assertEqual(len(one.frames()), 1)

    # --- ICMP -----------------------------------------------------------------------------------

    def test_pings_are_answered_and_not_asked_back(self) -> None:
        client = self.filtered(PING, FilterRule(True, protocol=ICMPV6, network=INSIDE6))
        for near, far in ((client.ipv4, SERVER), (client.ipv6, SERVER6)):
            with self.subTest(far=far):
                question, answer = echo(near, far, 77), echo(far, near, 77, is_reply=True)
                self.assert_pass(self.down(client, answer), [])
                # Not a question: the same identifier in a packet of another type
                protocol, kind = (ICMP, 9) if len(near) == 4 else (ICMPV6, 139)
                other = ip_packet(near, far, protocol, icmp(kind, question[-4:]))
                self.assert_pass(self.up(client, other), [other])
                self.assert_pass(self.down(client, answer), [])
                self.assert_pass(self.up(client, question), [question])
                others = [
                    echo(far, near, 77),
                    echo(far, near, 78, is_reply=True),
                    echo(ELSEWHERE, near, 77, is_reply=True) if len(near) == 4 else b"",
                ]
                self.assert_pass(self.down(client, *others, answer), [answer])

    def test_types_of_icmp(self) -> None:
        client = self.filtered(FilterRule(True, protocol=ICMP, ports=((0, 7), (9, 9))))
        packets = [ip_packet(client.ipv4, SERVER, ICMP, icmp(kind)) for kind in range(11)]
        self.assert_pass(self.up(client, *packets), [*packets[:8], packets[9]])

    def test_errors_come_back_about_what_was_let_out(self) -> None:
        client = self.filtered(
            HTTPS, DNS, FilterRule(True, protocol=UDP, network=INSIDE6, ports=((53, 53),))
        )
        router, router6 = bytes((10, 200, 0, 1)), ip_address("fd02::1").packed
        sent = tcp_packet(client.ipv4, 4000, SERVER, 443)
        sent6 = udp_packet(client.ipv6, 4000, SERVER6, 53)
        good = [
            icmp_error(router, client.ipv4, sent),
            icmp_error(router, client.ipv4, sent[:28], 11),
            icmp_error(router, client.ipv4, udp_packet(client.ipv4, 4000, SERVER, 53), 12),
            icmp_error(router6, client.ipv6, sent6, 2),
        ]
        bad = [
            icmp_error(router, client.ipv4, sent[:27]),
            icmp_error(router, client.ipv4, tcp_packet(client.ipv4, 4000, SERVER, 442)),
            icmp_error(router, client.ipv4, tcp_packet(ELSEWHERE, 4000, SERVER, 443)),
            icmp_error(router, client.ipv4, sent, 5),
            icmp_error(router, client.ipv4, good[0]),
            icmp_error(router, client.ipv4, b""),
            icmp_error(router6, client.ipv6, sent6, 5),
        ]
        self.assert_pass(self.down(client, *bad, *good), good)

    def test_errors_about_answers_pass_too(self) -> None:
        client = self.filtered(HTTPS, DNS)
        answer = udp_packet(SERVER, 53, client.ipv4, 4000)
        error = icmp_error(client.ipv4, SERVER, answer)
        about_tcp = icmp_error(client.ipv4, SERVER, tcp_packet(SERVER, 443, client.ipv4, 4000, SYN))
        self.assert_pass(self.up(client, error, about_tcp), [about_tcp])
        self.up(client, udp_packet(client.ipv4, 4000, SERVER, 53))
        self.assert_pass(self.up(client, error), [error])

    def test_answers_of_the_gateways_own_pass(self) -> None:
        client = self.filtered(FilterRule(True, Direction.TO_CLIENT, UDP))
        too_long = ipv4_packet(ANYWHERE, client.ipv4, bytes(MTU_BYTES))
        self.assert_pass(self.down(client, too_long), [])
        (answer,) = self.packets_to_kernel()
        self.assertEqual(answer[20:22], b"\3\4")
        other = self.filtered(FilterRule(True, protocol=UDP), number=8)
        self.up(other, ipv4_packet(other.ipv4, client.ipv4, bytes(MTU_BYTES)))
        ((_, answer),) = other.frames()
        self.assertEqual(answer[20:22], b"\3\4")

    def test_nobody_is_told_of_what_was_dropped(self) -> None:
        client = self.filtered(DNS)
        self.assert_pass(self.down(client, ipv4_packet(ANYWHERE, client.ipv4, bytes(1600))), [])
        self.assertEqual(self.packets_to_kernel(), [])
        self.assertEqual(self.engine.counters(7).dropped_filtered, 1)
        self.assertEqual(self.engine.counters(7).dropped_unroutable, 0)
