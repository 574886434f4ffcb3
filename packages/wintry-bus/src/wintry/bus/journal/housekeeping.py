"""Housekeeping of one application's stores, beside its deliveries.

Every process looks from time to time for what a crash has left: leases of processes that have ended, which it ends too,
and messages in another database than the journal's, which it moves. Two that do it at once do no harm. What is done is
kept for a while and then removed, by one process at a time: an entry of `_wintry_duties` is the lease on that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from .home import Home
from .relay import Relay

Step = Callable[[], Awaitable[object]]

logger = logging.getLogger("wintry.bus")

PAUSE: Final = 2.0
"""Seconds between two looks for messages that a crash has left."""
PURGE_EVERY: Final = 60.0
"""Seconds between two purges, whichever process does them."""


class Duty:
    """Something that one process does for all, and not again before its lease has ended."""

    def __init__(self, home: Home, name: str, *, owner: str) -> None:
        self._home = home
        self._name = name
        self._owner = owner

    async def take(self, seconds: float) -> bool:
        """Have the duty for `seconds`; False while somebody has it."""
        return await self._home.take_duty(self._name, owner=self._owner, seconds=seconds)


class Housekeeping:
    """The loop of one process; `recoveries` end leases that died, `purges` are what is done under the duty."""

    def __init__(
        self, relays: Sequence[Relay], recoveries: Sequence[Step], duty: Duty | None, purges: Sequence[Step]
    ) -> None:
        self._relays = relays
        self._recoveries = recoveries
        self._duty = duty
        self._purges = purges
        self._task: asyncio.Task[None] | None = None

    async def recover(self, *, grace: float) -> None:
        """Take over what processes of this host have left, and move what was stored `grace` seconds ago or before."""
        await in_turn(*self._recoveries, *(partial(relay.recover, grace=grace) for relay in self._relays))

    def start(self) -> None:
        """Begin the loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def ticking(self) -> bool:
        """Whether the loop runs."""
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_purge = loop.time() + PAUSE
        while True:
            await asyncio.sleep(PAUSE)
            steps: list[Step] = [partial(self.recover, grace=PAUSE)]
            if loop.time() >= next_purge:
                next_purge = loop.time() + PURGE_EVERY
                steps.append(self.purge)
            try:
                await in_turn(*steps)
            except Exception:
                logger.exception("housekeeping failed; it is tried again")

    async def purge(self) -> bool:
        """Remove what is old, unless another process has done so just now."""
        if self._duty is None or not await self._duty.take(PURGE_EVERY / 2):
            return False
        await in_turn(*self._purges)
        return True


async def in_turn(*steps: Step) -> None:
    """Take every step: a store that is down keeps no other from its turn. Raises the first error, and logs the others."""
    failure: Exception | None = None
    for step in steps:
        try:
            await step()
        except Exception as error:
            if failure is None:
                failure = error  # raised when all had their turn
            else:
                logger.exception("another part of housekeeping failed")
    if failure is not None:
        raise failure
