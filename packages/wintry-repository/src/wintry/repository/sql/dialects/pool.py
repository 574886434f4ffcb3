"""A connection out of SQLAlchemy's pool, on the shortest way.

An idle one is taken at once: SQLAlchemy's own way for coroutines leads through a greenlet, which costs more than a
short statement. What is idle in a pool need not be a connection any more: where one was lost its place is kept, and
whoever takes that has to wait for a new one. So from the first loss on the pool is asked the long way.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool


class ShortWay:
    """The way into one engine's pool, which must be an `AsyncAdaptedQueuePool`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lost = False
        event.listen(engine.sync_engine, "invalidate", self._note_loss)

    async def connect(self) -> sa.Connection:
        """A connection that may have ended meanwhile. Raises what SQLAlchemy and the driver raise."""
        if not self._lost and cast(AsyncAdaptedQueuePool, self._engine.pool).checkedin():
            return self._engine.sync_engine.connect()
        connection = (await self._engine.connect()).sync_connection
        assert connection is not None, "it was opened just now"
        return connection

    def _note_loss(self, *_: Any) -> None:
        self._lost = True
