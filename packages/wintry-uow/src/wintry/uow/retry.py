"""Running a whole function again when another transaction came first.

Only a `Conflict` is worth a second attempt, and only of the *whole* function: objects that it loaded belong to a
transaction that is gone. The pause before an attempt is drawn between zero and a bound that doubles, so that those who
collided do not collide again; what ends the attempts is time, since a count says nothing about how long a caller waits.

Inside a running unit nothing is repeated here: the part cannot be run again without the whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from wintry.repository.errors import Conflict, StoreError, UnitAborted

R = TypeVar("R")

FIRST_PAUSE: Final = 0.004
"""Seconds: the bound of the pause before the second attempt."""
LONGEST_PAUSE: Final = 0.25
"""Seconds: the bound that the doubling stops at."""


def retryable(error: BaseException | None) -> bool:
    """Whether running again may help: a `Conflict`, or a unit that was aborted by one."""
    return isinstance(error, Conflict) or (isinstance(error, UnitAborted) and retryable(error.__cause__))


async def attempts(attempt: Callable[[], Awaitable[R]], *, retry_for: float, retries: int | None) -> R:
    """Await `attempt()` until it ends otherwise than by a conflict, for `retry_for` seconds at most.

    `retries` caps the attempts after the first. The error of the last attempt is raised, with a note of its number.
    """
    now = asyncio.get_running_loop().time
    begun = now()
    bound = FIRST_PAUSE
    count = 0
    while True:
        count += 1
        try:
            return await attempt()
        except StoreError as error:
            pause = random.uniform(0, bound)
            spent = now() - begun
            if not retryable(error) or (retries is not None and count > retries) or spent + pause > retry_for:
                if count > 1:
                    error.add_note(f"attempt {count}, {spent:.2f} s after the first began")
                raise
        bound = min(2 * bound, LONGEST_PAUSE)
        await asyncio.sleep(pause)
