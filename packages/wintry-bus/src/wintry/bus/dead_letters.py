"""Dead letters: deliveries that were given up, and what a person does with them.

They are rows of the journal that are parked or held, so that nothing of them is lost: body, headers, error, attempts.
`redrive` makes them due again, `discard` removes them; what they held up in their lane goes on in both cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from .errors import UnknownDeadLetter
from .journal.journal import Row, Status

if TYPE_CHECKING:
    from .runtime import Runtime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One delivery that was given up. `number` names it; `error` is the reason or the traceback.

    `held` says that later messages of its key wait for it. `body` is the JSON of the message.
    """

    number: int
    target: str
    type: str
    version: int
    body: bytes
    headers: Mapping[str, str]
    message_id: str
    correlation_id: str
    attempts: int
    error: str
    held: bool
    created_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> DeadLetter:
        return cls(
            number=row.seq,
            target=row.target,
            type=row.type,
            version=row.version,
            body=row.body,
            headers=dict(row.headers),
            message_id=row.id,
            correlation_id=row.correlation_id,
            attempts=row.attempts,
            error=row.error or "",
            held=row.status is Status.HELD,
            created_at=row.created_at,
        )


class DeadLetters:
    """The dead letters of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(
        self, *, type: str | None = None, since: datetime | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """The oldest `limit` of them, of one message type and made at or after `since` if given."""
        return [DeadLetter.of(row) for row in await self._runtime.store.dead(type=type, since=since, limit=limit)]

    async def show(self, number: int) -> DeadLetter:
        """One of them.

        Raises:
            UnknownDeadLetter: there is none with this number.
        """
        rows = await self._runtime.store.dead(seq=number, limit=1)
        if not rows:
            raise UnknownDeadLetter(f"there is no dead letter {number}; `list` shows which there are")
        return DeadLetter.of(rows[0])

    async def redrive(self, numbers: Iterable[int]) -> int:
        """Deliver them again, as if for the first time; returns how many there were."""
        count = await self._runtime.store.redrive([*numbers])
        if count and self._runtime.dispatcher.claims.recovering:
            self._runtime.dispatcher.claims.soon()
        return count

    async def discard(self, numbers: Iterable[int]) -> int:
        """Remove them; returns how many there were."""
        count = await self._runtime.store.discard([*numbers])
        if count and self._runtime.dispatcher.claims.recovering:
            self._runtime.dispatcher.claims.soon()
        return count
