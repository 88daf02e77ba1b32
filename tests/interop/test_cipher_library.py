"""A compiled engine whose library for AES-GCM is not installed where it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

WHICH = "from anyvpn.packets._compiled import GCM_LIBRARY; print(GCM_LIBRARY)"
HIDE = """
for file in /usr/lib/*/libIPSec_MB.so.*; do
    [ ! -e "$file" ] || mount --bind /dev/null "$file"
done
exec "$@"
"""


@pytest.mark.extension
class MissingLibraryTests:
    def test_libcrypto_does_it_then(self) -> None:
        hidden = ["unshare", "--mount", "sh", "-euc", HIDE, "sh", sys.executable, "-c", WHICH]
        done = subprocess.run(hidden, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "libcrypto\n"
