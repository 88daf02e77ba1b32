"""Builds the compiled packet engine along with the wheel, where there is what it needs.

It is left out, with one line that says why, where there is no C compiler or no libcrypto to
compile against; ANYVPN_COMPILED=require makes that an error, ANYVPN_COMPILED=no leaves it out.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("anyvpn/packets/compiled")
MODULE = Path("anyvpn/packets/_compiled.abi3.so")
FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-Wl,-z,relro,-z,now"),
)


class CompiledEngineHook(BuildHookInterface[Any]):
    """Called by hatchling for each wheel, editable ones too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling calls
        """Compile, and let the wheel carry the result."""
        wish = os.environ.get("ANYVPN_COMPILED", "")
        if self.target_name != "wheel" or wish == "no":
            return
        problem = compile_engine(Path(self.root))
        if problem and wish == "require":
            raise RuntimeError(problem)
        if problem:
            self.app.display_warning(f"anyvpn: without the compiled packet engine: {problem}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{_platform()}"
        build_data["artifacts"].append(str(MODULE))


def compile_engine(root: Path) -> str:
    """Compile the module in place; gives why there is none, or nothing."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    headers = sysconfig.get_paths()["include"]
    sources = sorted(str(each) for each in (root / SOURCES).glob("*.c"))
    unfinished = root / MODULE.with_suffix(".new")
    command = [
        *compiler,
        *FLAGS,
        f"-I{headers}",
        *sources,
        "-lcrypto",
        "-ldl",
        "-o",
        str(unfinished),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        return f"there is no C compiler {compiler[0]!r} (Debian: apt install gcc)"
    except subprocess.CalledProcessError as error:
        return _why(error.stderr)
    unfinished.replace(root / MODULE)
    return ""


def _why(said: str) -> str:
    if "openssl/" in said or "-lcrypto" in said:
        return "libcrypto's headers are not there (Debian: apt install libssl-dev)"
    if "Python.h" in said:
        return "Python's headers are not there (Debian: apt install python3-dev)"
    errors = [line for line in said.splitlines() if "error" in line]
    return f"the compiler refuses it: {errors[0] if errors else said.strip()[:200]}"


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
