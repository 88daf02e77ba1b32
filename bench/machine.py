"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cryptography.hazmat.backends.openssl.backend import backend

from anyvpn.packets.engines import engine_class

_PACKAGES = ("anyvpn", "Twisted", "pyOpenSSL", "cryptography", "numpy")
_PROGRAMS = {
    "openconnect": ("openconnect", "--version"),
    "ocserv": ("ocserv", "--version"),
    "iperf3": ("iperf3", "--version"),
    "openvpn": ("openvpn", "--version"),
    "wireguard-go": ("wireguard-go", "--version"),
}
_VERSION = re.compile(r"v?(\d[\w.]*\d)")


def machine() -> dict[str, str]:
    """Processor, cores, memory, kernel, system."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _field("/proc/cpuinfo", r"model name\s*: (.*)") or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": _field("/etc/os-release", r'PRETTY_NAME="(.*)"'),
    }


def versions() -> dict[str, str]:
    """Of everything that takes part and is there."""
    found = {"Python": platform.python_version(), "OpenSSL": _openssl()}
    library, _, number = engine_class("auto").cipher_library.partition(" ")
    if number:
        found[library] = number
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for name, command in _PROGRAMS.items():
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            said = _VERSION.search(done.stdout + done.stderr)
            if said is not None:
                found[name] = said[1]
    return found


def _openssl() -> str:
    return backend.openssl_version_text().split()[1]


def _field(file: str, pattern: str) -> str:
    found = re.search(pattern, Path(file).read_text())
    return "" if found is None else found[1].strip()
