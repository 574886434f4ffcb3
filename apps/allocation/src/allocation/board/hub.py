"""Who is looking at the board in this process, and what they have not been told yet.

A watcher's queue is read at once by the stream that it belongs to; a client that does not keep up is dropped there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from wintry.ioc import provider


@provider(lifetime="singleton")
class BoardHub:
    """Passes changes on to every watcher of this process."""

    def __init__(self) -> None:
        self.watchers: set[asyncio.Queue[str]] = set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[str]]:
        """A queue of the skus that change from now on."""
        changes: asyncio.Queue[str] = asyncio.Queue()
        self.watchers.add(changes)
        try:
            yield changes
        finally:
            self.watchers.discard(changes)

    def changed(self, sku: str) -> None:
        for changes in self.watchers:
            changes.put_nowait(sku)
