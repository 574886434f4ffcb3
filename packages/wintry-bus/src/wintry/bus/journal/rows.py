"""Rows of deliveries as SQL tables have them: the values of their columns, and times as whole milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from .journal import Row, Status

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
CONTENTS: Final = "id, target, type, version, body, correlation_id, parent_id, lane, headers, due"
"""The columns of what a row says, which the journal and outgoing messages have in common."""
COLUMNS: Final = (
    f"seq, {CONTENTS}, status, attempts, lease_owner, lease_until, error, created_at, done_at"  # as `row_of` takes them
)
AT_ONCE: Final = 100
"""Rows of one statement."""


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many rows at a time as one statement takes."""
    return (rows[at : at + AT_ONCE] for at in range(0, len(rows), AT_ONCE))


def milliseconds(seconds: float) -> int:
    """A length of time."""
    return round(seconds * 1000)


def stamp(moment: datetime) -> int:
    """A time as it is stored."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment_of(stamp: int) -> datetime:
    """A stored time."""
    return EPOCH + timedelta(milliseconds=stamp)


def contents(row: Row) -> dict[str, Any]:
    """The values of a row's own columns, as they are stored."""
    return {
        "id": row.id,
        "target": row.target,
        "type": row.type,
        "version": row.version,
        "body": row.body,
        "correlation": row.correlation_id,
        "parent": row.parent_id,
        "lane": row.lane,
        "headers": written(row.headers),
        "due": None if row.due is None else stamp(row.due),
    }


def written(headers: Mapping[str, str]) -> str:
    """What travels beside a body, as text."""
    return json.dumps(dict(headers), ensure_ascii=False, separators=(",", ":"))


def numbered(values: dict[str, Any], number: int) -> dict[str, Any]:
    """The values of one row of several in a statement."""
    return {f"{name}{number}": value for name, value in values.items()}


def message_of(
    id: str,
    target: str,
    type: str,
    version: int,
    body: bytes,
    correlation: str,
    parent: str | None,
    lane: str | None,
    headers: str,
    due: int | None,
) -> Row:
    """What the columns of `CONTENTS` say."""
    return Row(
        id=id,
        target=target,
        type=type,
        version=version,
        body=bytes(body),
        correlation_id=correlation,
        parent_id=parent,
        lane=lane,
        headers=headers_of(headers),
        due=None if due is None else moment_of(due),
    )


def row_of(values: Sequence[Any]) -> Row:
    """What the columns of `COLUMNS` say."""
    seq, *said, status, attempts, owner, until, error, created, done = values
    row = message_of(*said)
    row.seq, row.status, row.attempts, row.error = seq, Status(status), attempts, error
    row.lease_owner, row.lease_until = owner, None if owner is None else moment_of(until)
    row.created_at, row.done_at = moment_of(created), None if done is None else moment_of(done)
    return row


def headers_of(text: str) -> dict[str, str]:
    """What travels beside a body; nothing, where somebody has spoilt it: the claims of all others must go on."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
