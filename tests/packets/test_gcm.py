"""AES-GCM by either library: the same records, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.model.channels import RecordKeys
from anyvpn.packets._compiled import GCM_LIBRARY, Core, want_gcm_library
from anyvpn.testing.inner_packets import ipv4_packet
from tests.packets.test_engines_agree import INSIDE, PATH, SUITES, core_with_tunnel, random_keys

HEADER_FILE = Path("/usr/include/intel-ipsec-mb.h")
PACKETS = [ipv4_packet(INSIDE, INSIDE, bytes(range(256)) * 6)[:size] for size in range(20, 1500)]


class GcmTests(TestCase):
    def setUp(self) -> None:
        self.addCleanup(want_gcm_library, True)

    def each(self) -> Iterator[tuple[str, Core, RecordKeys]]:
        """Which library and suite, a core with a tunnel of theirs, and its peer's keys."""
        for library in {"libcrypto", GCM_LIBRARY}:
            want_gcm_library(library != "libcrypto")
            for suite in SUITES:
                keys, mirrored = random_keys(suite)
                yield f"{library}, {suite.name}", core_with_tunnel(0, keys), mirrored

    def test_it_is_the_quick_one_where_that_is_installed(self) -> None:
        has_instructions = " aes " in Path("/proc/cpuinfo").read_text()
        wanted = HEADER_FILE.exists() and has_instructions
        is_quick = GCM_LIBRARY.startswith("libipsec-mb ")
        self.assertEqual(is_quick, wanted, "the engine was built before the library was installed?")

    def test_python_opens_what_either_has_sealed_and_the_other_way_round(self) -> None:
        for which, core, mirrored in self.each():
            sealer, opener = RecordSealer(mirrored), RecordOpener(mirrored)
            core.take_datagrams(PATH, sealer.seal_packets(0, PACKETS))
            self.assertEqual(core.written(), PACKETS, which)
            core.send_packets(1, PACKETS)
            records = [each for _, _, datagrams in core.sent() for each in datagrams]
            self.assertEqual(
                opener.open_records(records), [b"\0" + each for each in PACKETS], which
            )

    def test_what_was_changed_anywhere_is_refused(self) -> None:
        for which, core, mirrored in self.each():
            (record,) = RecordSealer(mirrored).seal_packets(0, [PACKETS[40]])
            # Neither the length, which says where the record ends, nor the version before it
            for place in (*range(3, 11), *range(13, len(record))):
                changed = bytearray(record)
                changed[place] ^= 1
                core.take_datagrams(PATH, [bytes(changed)])
                self.assertEqual(core.written(), [], (which, place))
            core.take_datagrams(PATH, [record])
            self.assertEqual(core.written(), [PACKETS[40]], which)
