"""A cancellation that comes while a commit runs, and is too late to stop it.

Raised at once it would look like a rollback, and what is durable would be done again. So the store waits for the end of
its commit and puts the cancellation off; whoever has to know of the commit is told, and then it is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, however often the calling task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            continue
    return task.result()


def cancellations() -> int:
    """How often the calling task has been cancelled, as far as nobody has taken that back."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def heed(before: int) -> None:
    """Raise the cancellation that has come since there were `before`, and that a library has kept to itself.

    `asyncio.wait_for` of Python 3.11, with which PyMongo sends, does so where what it waits for is done at that moment.
    """
    if cancellations() > before:
        raise asyncio.CancelledError


def put_off() -> None:
    """Have the cancellation that the calling task has just caught raised where it waits next."""
    task = asyncio.current_task()
    assert task is not None, "a cancellation was caught, so there is a task"
    task.uncancel()
    task.cancel()


async def held_off() -> bool:
    """Whether a cancellation was put off; it strikes nothing from here on, until the caller raises it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return True
    return False


async def raise_put_off() -> None:
    """Raise the cancellation that was put off, if there is one: the last that a commit does."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)
