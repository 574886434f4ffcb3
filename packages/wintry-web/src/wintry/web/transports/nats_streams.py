"""The streams of a channel: its messages, its dead letters, and notes of what was given back.

A stream that is there already is taken as it is, so that an operator can make one with replicas, limits or further
subjects before, or change it afterwards.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .nats_client import Refused, Session
from .nats_wire import Place, dead_stream_of, dead_subject_of, headers_of, stream_of, subject_of

SECOND: Final = 1_000_000_000
DUPLICATES: Final = 120
"""For how many seconds the broker knows an id, and takes a message of that id for the same."""
DEAD_DUPLICATES: Final = 3_600
RELEASED: Final = "wintry_released"
RELEASED_KEPT: Final = 7 * 86_400

_THERE: Final = 10058  # another stream of this name
_NO_STORE: Final = 10049  # the files of one that was deleted just now may still be going
_STORE_PAUSES: Final = (0.05, 0.1, 0.2, 0.4)  # seconds before it is asked again
MISSING: Final = frozenset({10014, 10037, 10059})
"""What the broker answers where there is no such consumer, message or stream."""


async def make_stream(session: Session, channel: str) -> dict[str, Any]:
    """The stream of a channel, made if it is not there; what the broker says of it."""
    name = stream_of(channel)
    await _make(session, name, [subject_of(channel)], DUPLICATES)
    return await session.api(f"STREAM.INFO.{name}")


async def make_dead_stream(session: Session, channel: str) -> None:
    await _make(session, dead_stream_of(channel), [dead_subject_of(channel)], DEAD_DUPLICATES)


async def _make(session: Session, name: str, subjects: list[str], duplicates: int, **more: object) -> None:
    window = duplicates * SECOND
    kind = {"retention": "limits", "storage": "file", "duplicate_window": window}
    for pause in (*_STORE_PAUSES, None):
        try:
            await session.api(f"STREAM.CREATE.{name}", name=name, subjects=subjects, **kind, **more)
        except Refused as error:
            if error.code == _THERE:
                return
            if error.code != _NO_STORE or pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def make_group(session: Session, channel: str, group: str, lease: float) -> str:
    """The consumer of a group, at the stream's beginning, made if it is not there; the time when it was."""
    config = {
        "name": group,
        "durable_name": group,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": round(lease * SECOND),
        "max_deliver": -1,
        "max_ack_pending": -1,  # each listener has its own limit
        "replay_policy": "instant",
    }
    stream = stream_of(channel)
    made = await session.api(f"CONSUMER.CREATE.{stream}.{group}", stream_name=stream, config=config)
    return str(made["created"])


async def make_follower(session: Session, stream: str, name: str, **start: object) -> int:
    """A consumer for one listener that settles nothing; the sequence behind which it begins."""
    config = {
        "name": name,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "inactive_threshold": 60 * SECOND,
        **start,
    }
    made = await session.api(f"CONSUMER.CREATE.{stream}.{name}", stream_name=stream, config=config)
    return int(made["delivered"]["stream_seq"])


# what was given back


def note_of(channel: str, group: str, place: Place) -> str:
    """The subject of the note that a message was given back."""
    return f"wintry.released.{stream_of(channel)}.{group}.{place}"


async def make_notes(session: Session) -> None:
    """One note for each message, the newest, kept for a week."""
    await _make(session, RELEASED, ["wintry.released.>"], 1, max_msgs_per_subject=1, max_age=RELEASED_KEPT * SECOND)


async def released(session: Session, note: str) -> int:
    """How many times of being given out do not count."""
    try:
        found = await session.api(f"STREAM.MSG.GET.{RELEASED}", last_by_subj=note)
    except Refused as error:
        if error.code in MISSING:
            return 0
        raise
    return int(base64.b64decode(found["message"]["data"]))


# what is kept


async def stored(session: Session, stream: str) -> AsyncGenerator[tuple[int, dict[str, str], bytes]]:
    """Sequence, headers and body of what a stream has; nothing if there is none."""
    sequence = 1
    while True:
        try:
            found = await session.api(f"STREAM.MSG.GET.{stream}", seq=sequence, next_by_subj=">")
        except Refused as error:
            if error.code in MISSING:
                return
            raise
        message = found["message"]
        headers = headers_of(base64.b64decode(message.get("hdrs", "")))
        yield message["seq"], headers, base64.b64decode(message.get("data", ""))
        sequence = message["seq"] + 1


async def tidy(session: Session, channel: str, retention: float) -> None:
    """Remove what is older than `retention` seconds, as far as every consumer has done with it."""
    stream = stream_of(channel)
    oldest = datetime.now(UTC) - timedelta(seconds=retention)
    try:
        state = (await session.api(f"STREAM.INFO.{stream}"))["state"]
    except Refused as error:
        if error.code in MISSING:
            return
        raise
    if not state["messages"] or datetime.fromisoformat(state["first_ts"][:19] + "+00:00") > oldest:
        return
    kept = await _first_since(session, stream, oldest)
    for consumer in await _consumers(session, stream):
        settles = consumer["config"]["ack_policy"] != "none"
        kept = min(kept, consumer["ack_floor" if settles else "delivered"]["stream_seq"] + 1)
    if kept > state["first_seq"]:
        await session.api(f"STREAM.PURGE.{stream}", seq=kept)


async def _first_since(session: Session, stream: str, time: datetime) -> int:
    """The sequence of the first message since then: where a consumer that starts there begins."""
    name = f"tidying-{session.client.new_inbox().rpartition('.')[2]}"
    start = {"deliver_policy": "by_start_time", "opt_start_time": time.isoformat()}
    behind = await make_follower(session, stream, name, **start)
    await session.api(f"CONSUMER.DELETE.{stream}.{name}")
    return behind + 1


async def _consumers(session: Session, stream: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await session.api(f"CONSUMER.LIST.{stream}", offset=len(found))
        found += page["consumers"] or ()
        if not page["consumers"] or len(found) >= page["total"]:
            return found
