"""Where the time of one thread goes, by part: what functions take without those that they call."""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase


class Spans:
    """Adds nanoseconds up; coroutines count as long as they do not wait for anything."""

    def __init__(self) -> None:
        self.times_ns: Counter[str] = Counter()
        self._within_ns = [0]

    def watch(self, case: SynchronousTestCase, owner: Any, name: str, part: str) -> None:
        """Count a function of a module or class to a part, as long as the test runs."""
        function = getattr(owner, name)
        watched = self._coroutine if inspect.iscoroutinefunction(function) else self._plain
        case.patch(owner, name, watched(function, part))

    def _plain(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            with self._span(part):
                return function(*arguments, **options)

        return watched

    def _coroutine(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        async def watched(*arguments: Any, **options: Any) -> Any:
            with self._span(part):
                return await function(*arguments, **options)

        return watched

    @contextmanager
    def _span(self, part: str) -> Iterator[None]:
        self._within_ns.append(0)
        began_ns = time.thread_time_ns()
        try:
            yield
        finally:
            took_ns = time.thread_time_ns() - began_ns
            self.times_ns[part] += took_ns - self._within_ns.pop()
            self._within_ns[-1] += took_ns
