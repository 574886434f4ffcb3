"""Who is looking at the board in this process. Each watcher has a bounded queue: one that does not keep up is
dropped, and gets a fresh snapshot when its browser comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from wintry.ioc import provider

BACKLOG = 100
"""Changes that a watcher may be behind before it is dropped."""


class Watcher:
    """One open page: the skus that changed since it last looked."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[str | None] = asyncio.Queue(BACKLOG + 1)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (sku := await self.changes.get()) is not None:
            yield sku


@provider(lifetime="singleton")
class BoardHub:
    """Passes changes on to every watcher of this process."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        watcher = Watcher()
        self.watchers.add(watcher)
        try:
            yield watcher
        finally:
            self.watchers.discard(watcher)

    def changed(self, sku: str) -> None:
        for watcher in list(self.watchers):
            if watcher.changes.qsize() < BACKLOG:
                watcher.changes.put_nowait(sku)
            else:
                self.watchers.discard(watcher)
                watcher.changes.put_nowait(None)
