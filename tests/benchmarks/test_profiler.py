"""What profilers print, read from what they have really printed."""

from __future__ import annotations

from bench.profiler import read_perf, read_py_spy

REACTOR = "thread (30221): MainThread;<module> (twistd:8);run (twisted/scripts/twistd.py:35)"
STORE = "thread (30233): sessions;Thread.run (threading.py:975)"
# py-spy 0.4, --native --threads --format raw
STACKS = f"""\
{REACTOR};LinuxTunDevice.read_packets (anyvpn/tun/device.py:78);read (libc.so.6) 6
{REACTOR};LinuxTunDevice.read_packets (anyvpn/tun/device.py:79);read (libc.so.6) 4
{REACTOR};RecordSealer._seal (anyvpn/dtls/records.py:170) 8
{REACTOR};RecordSealer._seal (anyvpn/dtls/records.py:171);0x7f2929169f16 (libc.so.6) 2
{STORE};SQLiteThread._run (anyvpn/backends/sqlite_thread.py:81);0x7f350cb94f16 (libc.so.6) 300
thread (30221): MainThread;0x7f29291ed8ec (libc.so.6) 100
"""
# perf 6.1, --sort symbol --stdio
REPORT = """\
# Samples: 929  of event 'cpu-clock'
#
# Overhead  Symbol
# ........  ...................................
#
    14.32%  [k] finish_task_switch.isra.0
     8.29%  [.] copy_word_sum
     0.75%  [k] veth_xmit

"""


class PySpyTests:
    def test_functions_of_the_reactor_are_counted_with_what_they_call(self) -> None:
        assert read_py_spy(STACKS) == (
            ("LinuxTunDevice.read_packets (device.py) → read", 50.0),
            ("RecordSealer._seal (records.py)", 50.0),
        )

    def test_nothing_gives_nothing(self) -> None:
        assert read_py_spy("") == ()


class PerfTests:
    def test_functions_of_the_kernel_say_so_and_small_ones_are_left_out(self) -> None:
        assert read_perf(REPORT) == (
            ("finish_task_switch.isra.0 (kernel)", 14.32),
            ("copy_word_sum", 8.29),
        )
