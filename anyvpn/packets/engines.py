"""Which packet engine moves the packets: the compiled one where it was built, else Python's."""

from __future__ import annotations

from typing import Literal, get_args

from anyvpn.errors import EngineUnavailable
from anyvpn.packets.engine import PythonPacketEngine

EngineChoice = Literal["auto", "compiled", "python"]
ENGINE_CHOICES: tuple[EngineChoice, ...] = get_args(EngineChoice)


def engine_class(choice: EngineChoice) -> type[PythonPacketEngine]:
    """The engine of that name; "auto" takes the best that there is.

    Raises: EngineUnavailable: the compiled engine was asked for and is not installed.
    """
    if choice == "python":
        return PythonPacketEngine
    try:
        from anyvpn.packets.compiled_engine import CompiledPacketEngine  # noqa: PLC0415 - optional
    except ImportError as error:
        if choice == "compiled":
            raise EngineUnavailable(
                f"the compiled packet engine is not installed ({error}): install anyvpn again "
                "where there are a C compiler and libssl-dev, or take a wheel that has it"
            ) from error
        return PythonPacketEngine
    return CompiledPacketEngine
