"""When a failed handling is tried again, and after how long.

This is the only layer that retries. It repeats what may pass by itself: errors that say so (`retryable = True` on the
class or the exception: conflicts, unreachable stores, timeouts), broken connections and timeouts, and what a `Retry`
names in `on`. Everything else — domain errors, bugs, undecodable bodies — would fail again and is not repeated.
The delay doubles from `base` up to `cap`, and the jitter is added to it: [d, 2d], never less than the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import random

from .errors import Discard, Park, Undecodable

_TRANSIENT = (ConnectionError, TimeoutError)
_FINAL = (Park, Discard, Undecodable)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast one handler is tried again.

    `attempts` counts the first one too (None: no bound), `base` and `cap` are seconds, `within` is the number of
    seconds since the first attempt after which none is begun, `on` names further exceptions to repeat.
    """

    attempts: int | None = 8
    base: float = 0.1
    cap: float = 60.0
    within: float | None = None
    on: type[Exception] | tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: the first attempt counts, so it is at least 1")
        if not 0 <= self.base <= self.cap:
            raise ValueError(f"base={self.base}, cap={self.cap}: seconds, base at least 0 and at most cap")

    def again(self, error: BaseException, attempt: int, elapsed: float) -> float | None:
        """Seconds to wait before the next attempt, or None if there is none.

        `attempt` is the number of the one that raised `error`, `elapsed` the seconds since the first began.
        """
        if self.attempts is not None and attempt >= self.attempts:
            return None
        if not (is_transient(error) or isinstance(error, self.on)) or isinstance(error, _FINAL):
            return None
        step = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        delay = step + random() * step
        return delay if self.within is None or elapsed + delay < self.within else None


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: the error says so, or it is of a connection or a timeout."""
    return getattr(error, "retryable", False) is True or isinstance(error, _TRANSIENT)


DELIVERIES = Retry(attempts=30, cap=5.0)
"""Deliveries: thirty attempts over two to four minutes, soon after one another.

That is longer than a database keeps the transaction of a process that was killed, which for MongoDB is a minute and a
half at most: until then whoever writes the same documents meets a conflict."""

COMMANDS = Retry(attempts=None, base=0.005, cap=0.25, within=2.0)
"""Commands that a caller waits for: quick attempts for two seconds."""

SENDS = Retry(attempts=None, on=Exception)
"""Publishing: until the broker takes it."""
