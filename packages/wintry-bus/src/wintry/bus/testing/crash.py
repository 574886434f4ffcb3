"""Crashing at a named point.

`crash_at` arms a failpoint for the context that it is entered in and for the tasks and threads that start there. By
default the process dies as from `kill -9`: no `finally` runs and nothing is flushed, so it is for child processes. The
`act` of a test may instead raise, or take note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..failpoints import FAILPOINTS, armed


def _die() -> None:
    os._exit(137)


@contextmanager
def crash_at(point: str, *, times: int = 1, act: Callable[[], None] = _die) -> Generator[None]:
    """Act when the code comes to `point` for the `times`th time; the default is to die at once.

    Raises:
        ValueError: there is no such point; `wintry.bus.failpoints.FAILPOINTS` tells which there are.
    """
    if point not in FAILPOINTS:
        raise ValueError(f"there is no failpoint {point!r}: there are {', '.join(sorted(FAILPOINTS))}")
    seen = 0

    def arrive(reached: str) -> None:
        nonlocal seen
        if reached == point:
            seen += 1
            if seen == times:
                act()

    token = armed.set(arrive)
    try:
        yield
    finally:
        armed.reset(token)
