"""What iperf3 tells, read from what it has really printed."""

from __future__ import annotations

from bench.traffic import read_reports

# iperf3 3.12 with --format k --forceflush --interval 1
ONE_STREAM = """\
Connecting to host 10.99.0.2, port 5201
Reverse mode, remote host 10.99.0.2 is sending
[  5] local 10.77.0.2 port 41932 connected to 10.99.0.2 port 5201
[ ID] Interval           Transfer     Bitrate
[  5]   0.00-1.00   sec  56.5 MBytes  473952 Kbits/sec
[  5]   1.00-2.00   sec  78.1 MBytes  655264 Kbits/sec
"""
TWO_STREAMS = """\
[ ID] Interval           Transfer     Bitrate         Retr  Cwnd
[  5]   0.00-1.01   sec  1.25 MBytes  10383 Kbits/sec    0    320 KBytes
[  7]   0.00-1.01   sec  2.50 MBytes  20766 Kbits/sec    0    320 KBytes
[SUM]   0.00-1.01   sec  3.75 MBytes  31150 Kbits/sec    0
- - - - - - - - - - - - - - - - - - - - - - - - -
"""
DATAGRAMS = """\
[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams
[  5]   0.00-1.00   sec   488 KBytes  3998 Kbits/sec  0.055 ms  3/5000 (0.06%)
[  5]   1.00-2.00   sec   488 KBytes  3998 Kbits/sec  0.048 ms  -2/4999 (-0.04%)
"""


class ReportTests:
    def test_a_stream_is_read_second_by_second(self) -> None:
        first, second = read_reports(ONE_STREAM, 1)
        assert first.received_bytes == 473952 * 125
        assert (second.time_s, second.packets, second.lost) == (1.0, 0, 0)

    def test_of_several_streams_the_sum_counts(self) -> None:
        [only] = read_reports(TWO_STREAMS, 2)
        assert round(only.time_s, 6) == 1.01
        assert round(only.received_bytes) == round(31150 * 125 * 1.01)

    def test_datagrams_are_counted_without_those_that_are_lost(self) -> None:
        first, second = read_reports(DATAGRAMS, 1)
        assert (first.packets, first.lost) == (4997, 3)
        # What was late in one second makes up for it in the next
        assert (second.packets, second.lost) == (5001, -2)

    def test_half_a_line_is_none(self) -> None:
        assert read_reports("[  5]   0.00-1.00   sec  56.5 MBytes  47395", 1) == []
