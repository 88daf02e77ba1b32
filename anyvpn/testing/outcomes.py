"""What becomes of a coroutine, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
Error = TypeVar("Error", bound=Exception)


def completed(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that must not wait for anything. Raises what it raises."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    raise AssertionError("it waits for something, where it must be done at once")


async def error_of(work: Awaitable[object], kind: type[Error]) -> Error:
    """The error that this must end in; any other end fails the test."""
    try:
        result = await work
    except kind as error:
        return error
    raise AssertionError(f"{result!r} instead of {kind.__name__}")
