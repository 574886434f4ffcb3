"""A durable queue in a SQL database, for applications without a broker.

What is published is a row of `_wintry_queue` and, for every group that listens to its channel, one of
`_wintry_queue_deliveries`, in the same transaction. A group is there from its first listener on, and is then given what
the queue still keeps of its channel. Its processes compete for its rows by leases (`journal/leases.py`, the journal's
own): a row is leased, renewed while it is in somebody's hands, and deleted when it is acknowledged; after a crash
another process takes it when the lease ends. Of the rows of one key only the first can be leased.

A listener without a group hears every message from its start on: it reads `_wintry_queue` on from the last number that
was there, and settles nothing.

Within the process a publication wakes the listeners of its channel. What other processes publish is found by looking,
every `poll_min` seconds while there is something, and ever more seldom up to `poll_max` while there is not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from wintry.repository.sql import SqlBackend, SqlExecution

from ..journal.group_commit import GroupCommit, Work, read
from ..journal.journal import Row
from ..journal.leases import Leases
from ..journal.sql import purge
from ..journal.tables import DELIVERIES, GROUPS, MESSAGES, Statements, declare_queue, placed, places
from .transport import Caps, TransportMessage

logger = logging.getLogger("wintry.bus")

_AT_ONCE: Final = 100
_MESSAGE: Final = "seq, id, type, body, key, headers"


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that a listener of `group` could not deal with."""

    channel: str
    group: str
    message: TransportMessage
    reason: str


class Database:
    """A transport whose queue is in a SQL backend; `owner` names this process, times are seconds."""

    caps = Caps(
        durable=True,
        groups=True,
        broadcast=True,
        ordered=True,
        attempts=True,
        dead_letters=True,
        dedupe=True,
        envelope=True,
    )

    def __init__(
        self,
        backend: SqlBackend,
        *,
        owner: str,
        lease: float = 40.0,
        poll_min: float = 0.05,
        poll_max: float = 2.0,
        commits: GroupCommit | None = None,
    ) -> None:
        declare_queue(backend.metadata)
        self.backend = backend
        self.owner = owner
        self.commits = commits or GroupCommit(backend)
        self._lease = round(lease * 1000)
        self._poll = (poll_min, poll_max)
        self._statements = Statements(backend)
        self._leases = Leases(self._statements, DELIVERIES, ("group_number", "lane"))
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._groups: set[int] = set()
        self._held: set[int] = set()
        self._starting = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Put messages into the queue; returns when they are committed."""
        if messages:
            await self.commits.run(lambda on: self._insert(on, [(channel, message) for message in messages]))
            self.wake([channel])

    async def enqueue(self, execution: SqlExecution, rows: Sequence[Row]) -> None:
        """Put sends of the journal into the queue, in a running transaction; `wake` when it has committed."""
        await self._insert(execution, [(_channel(row), _message(row)) for row in rows])

    def wake(self, channels: Sequence[str]) -> None:
        """Let the listeners of these channels in this process look at once."""
        for channel in channels:
            for event in self._listeners.get(channel, ()):
                event.set()

    def wake_for(self, rows: Sequence[Row]) -> None:
        """`wake` for sends that have been enqueued."""
        self.wake([_channel(row) for row in rows])

    async def _insert(self, execution: SqlExecution, messages: Sequence[tuple[str, TransportMessage]]) -> None:
        for at in range(0, len(messages), _AT_ONCE):
            some = messages[at : at + _AT_ONCE]
            values: dict[str, Any] = {}
            for n, (channel, message) in enumerate(some):
                headers = json.dumps(dict(message.headers), ensure_ascii=False, separators=(",", ":"))
                values |= {f"channel{n}": channel, f"id{n}": message.id, f"type{n}": message.type}
                values |= {f"key{n}": message.key, f"headers{n}": headers, f"body{n}": message.body}
            stored = await self._statements(_insertion(len(some))).fetch(execution, values)
            if stored:
                seqs = [row[0] for row in stored]
                text = _distribution(f"message.seq IN ({places('seq', len(seqs))})")
                await self._statements(text).change(execution, placed("seq", seqs))

    # receiving

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[QueueDelivery]:
        """Messages of a channel; see `Transport.receive`."""
        hands = Hands(self, group, prefetch)
        pause = low = self._poll[0]
        with self._listening(channel, hands):
            source = await self._last() if group is None else await self._join(channel, group)
            try:
                while True:
                    await hands.free()
                    hands.changed.clear()
                    if group is None:
                        found = await self._following(channel, source, hands)
                        source = max((delivery.seq for delivery in found), default=source)
                    else:
                        found = await self._claim(channel, source, hands)
                    for delivery in found:
                        yield delivery
                    pause = low if found or await hands.told(pause) else min(2 * pause, self._poll[1])
            finally:
                hands.lose_all()

    @contextmanager
    def _listening(self, channel: str, hands: Hands) -> Generator[None]:
        listeners = self._listeners.setdefault(channel, set())
        listeners.add(hands.changed)
        try:
            yield
        finally:
            listeners.discard(hands.changed)

    async def _join(self, channel: str, group: str) -> int:
        """The number of a group, which is given all that the queue keeps of the channel when it is new."""
        values: dict[str, Any] = {"channel": channel, "name": group}
        find = f"UPDATE {GROUPS} SET seen_at = {{now}} WHERE channel = :channel AND name = :name RETURNING number"
        make = f"INSERT INTO {GROUPS} (channel, name, seen_at) VALUES (:channel, :name, {{now}}) RETURNING number"
        distribute = _distribution("message.channel = :channel AND listening.number = :number")

        async def work(on: SqlExecution) -> int:
            found = await self._statements(find).fetch(on, values)
            if not found:
                found = await self._statements(make).fetch(on, values)
                await self._statements(distribute).change(on, {**values, "number": found[0][0]})
            number: int = found[0][0]
            return number

        number = await self.commits.run(work)
        self._groups.add(number)
        return number

    async def _claim(self, channel: str, group: int, hands: Hands) -> list[QueueDelivery]:
        """Lease what a group may be given, as much as the listener has room for."""
        where, values = "row.group_number = :group", {"group": group}
        if not await read(self.backend, lambda on: self._leases.any_free(on, where, values)):
            return []
        claim = {**values, "limit": min(hands.room, _AT_ONCE), "owner": self.owner, "lease": self._lease}

        async def work(on: SqlExecution) -> list[QueueDelivery]:
            rows = await self._leases.claim(on, where, claim, "message, seq, attempts")
            if not rows:
                return []
            text = f"SELECT {_MESSAGE} FROM {MESSAGES} WHERE seq IN ({places('seq', len(rows))})"
            found = await self._statements(text).fetch(on, placed("seq", [row[0] for row in rows]))
            messages = {seq: _stored(*rest) for seq, *rest in found}
            return [
                QueueDelivery(channel, messages[message], seq, attempt, hands) for message, seq, attempt in sorted(rows)
            ]

        taken = await self.commits.run(work)
        for delivery in taken:
            self._held.add(delivery.seq)
            hands.held.add(delivery)
        return taken

    async def _last(self) -> int:
        """The number of the newest message of all."""
        text = f"SELECT COALESCE(MAX(seq), 0) FROM {MESSAGES}"
        number: int = (await read(self.backend, lambda on: self._statements(text).fetch(on, {})))[0][0]
        return number

    async def _following(self, channel: str, after: int, hands: Hands) -> list[QueueDelivery]:
        """The messages of a channel behind `after`."""
        text = f"SELECT {_MESSAGE} FROM {MESSAGES} WHERE channel = :channel AND seq > :after ORDER BY seq LIMIT :limit"
        values = {"channel": channel, "after": after, "limit": min(hands.room, _AT_ONCE)}
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
        found = [QueueDelivery(channel, _stored(*rest), seq, 1, hands) for seq, *rest in rows]
        hands.held.update(found)
        return found

    # settling

    async def settle(self, seq: int) -> None:
        """A delivery is done, and its row goes."""
        text = f"DELETE FROM {DELIVERIES} WHERE seq = :seq AND lease_owner = :owner AND status = 'pending'"
        values = {"seq": seq, "owner": self.owner}
        await self._let_go(seq, lambda on: self._statements(text).change(on, values))

    async def park(self, seq: int, reason: str) -> None:
        """A delivery becomes a dead letter."""
        await self._let_go(seq, lambda on: self._leases.park(on, seq, self.owner, reason, status="parked"))

    async def release(self, seq: int) -> None:
        """A delivery is given back, its attempt not counted."""
        await self._let_go(seq, lambda on: self._leases.release(on, [seq], self.owner))

    async def lose(self, seqs: Sequence[int]) -> None:
        """A listener has gone with deliveries in its hands: they are free, their attempts counted."""
        change = "lease_owner = NULL, lease_until = NULL"
        self._held.difference_update(seqs)
        await self.commits.run(lambda on: self._leases.change(on, change, seqs, {"owner": self.owner}))

    async def _let_go(self, seq: int, work: Work) -> None:
        self._held.discard(seq)
        await self.commits.run(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end that nobody waits for; `stop` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def parked(self, *, limit: int = 100) -> list[Parked]:
        """The dead letters, oldest first."""
        text = (
            f"SELECT message.channel, listening.name, message.id, message.type, message.body, message.key, "
            f"message.headers, dead.error FROM {DELIVERIES} AS dead JOIN {MESSAGES} AS message ON message.seq = "
            f"dead.message JOIN {GROUPS} AS listening ON listening.number = dead.group_number "
            "WHERE dead.status = 'parked' ORDER BY dead.seq LIMIT :limit"
        )
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, {"limit": limit}))
        return [Parked(channel, group, _stored(*message), error) for channel, group, *message, error in rows]

    # life

    async def check(self) -> None:
        """Raises `Unreachable`."""
        await self.backend.check()

    async def start(self) -> None:
        """Make the tables that are missing, and keep the leases of what is in the hands of listeners."""
        async with self._starting:
            if self._renewing is None:
                await self.backend.create_schema()
                self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def stop(self) -> None:
        """Give back what is not settled."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._held:
            await self.lose([*self._held])
        await self.commits.flush()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3000)
            held = [*self._held]
            try:
                if held:
                    renew = partial(self._leases.renew, seqs=held, owner=self.owner, lease=self._lease)
                    kept = await self.commits.run(renew)
                    self._held.difference_update(set(held).difference(kept))
            except Exception:
                logger.exception("renewing %d leases failed; it is tried again", len(held))

    async def inherit(self) -> int:
        """End the leases of processes of this host that have ended, and give the number of deliveries."""
        return await self._leases.expire(self.commits)

    async def purge(self, *, older_than: float, abandoned: float) -> int:
        """Remove messages that are `older_than` seconds old and have been dealt with by every group.

        A group that no process has listened for in `abandoned` seconds is forgotten with what it was to be given.
        """
        await self._keep_groups(round(abandoned * 1000))
        text = (
            f"DELETE FROM {MESSAGES} WHERE seq IN (SELECT old.seq FROM {MESSAGES} AS old WHERE old.created_at < "
            f"{{now}} - :age AND NOT EXISTS (SELECT 1 FROM {DELIVERIES} AS open WHERE open.message = old.seq) "
            "ORDER BY old.created_at LIMIT :limit)"
        )
        return await purge(self.commits, self._statements, text, older_than)

    async def _keep_groups(self, abandoned: int) -> None:
        groups = [*self._groups]
        mine = f"UPDATE {GROUPS} SET seen_at = {{now}} WHERE number IN ({places('number', len(groups))})"
        old = f"SELECT number FROM {GROUPS} WHERE seen_at < {{now}} - :abandoned"
        values = {"abandoned": abandoned}

        async def work(on: SqlExecution) -> None:
            if groups:
                await self._statements(mine).change(on, placed("number", groups))
            await self._statements(f"DELETE FROM {DELIVERIES} WHERE group_number IN ({old})").change(on, values)
            await self._statements(f"DELETE FROM {GROUPS} WHERE number IN ({old})").change(on, values)

        await self.commits.run(work)


class Hands:
    """What one listener holds."""

    def __init__(self, queue: Database, group: str | None, limit: int) -> None:
        self.queue = queue
        self.group = group
        self.held: set[QueueDelivery] = set()
        self.changed = asyncio.Event()  # something was published, or settled
        self._limit = limit

    @property
    def room(self) -> int:
        """How many more may be given out."""
        return self._limit - len(self.held)

    async def free(self) -> None:
        """Wait until there is room."""
        while self.room <= 0:
            self.changed.clear()
            await self.changed.wait()

    async def told(self, seconds: float) -> bool:
        """Wait for news, `seconds` at most; whether there are some."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return False
        return True

    def give_up(self, delivery: QueueDelivery) -> bool:
        """Whether it was held; settling twice does nothing."""
        if delivery not in self.held:
            return False
        self.held.remove(delivery)
        self.changed.set()
        return True

    def lose_all(self) -> None:
        """The listener is gone."""
        if self.held and self.group is not None:
            self.queue.spawn(self.queue.lose([delivery.seq for delivery in self.held]))
        self.held.clear()


class QueueDelivery:
    """One message in the hands of one listener."""

    def __init__(self, channel: str, message: TransportMessage, seq: int, attempt: int, hands: Hands) -> None:
        self.message = message
        self.attempt = attempt
        self.seq = seq
        self._channel = channel
        self._hands = hands

    async def ack(self) -> None:
        await self._settle(self._hands.queue.settle(self.seq))

    async def park(self, reason: str) -> None:
        if self._hands.group is None:
            logger.error("%r: message %s is dropped: %s", self._channel, self.message.id, reason)
        await self._settle(self._hands.queue.park(self.seq, reason))

    async def release(self) -> None:
        await self._settle(self._hands.queue.release(self.seq))

    async def _settle(self, work: Coroutine[Any, Any, None]) -> None:
        """Settle once; a message that everybody hears has no row, and the others of its group look again."""
        hands = self._hands
        if hands.give_up(self) and hands.group is not None:
            await work
            hands.queue.wake([self._channel])
        else:
            work.close()


def _insertion(count: int) -> str:
    rows = (f"(:channel{n}, :id{n}, :type{n}, :key{n}, :headers{n}, :body{n}, {{now}})" for n in range(count))
    return (
        f"INSERT INTO {MESSAGES} (channel, id, type, key, headers, body, created_at) VALUES {', '.join(rows)} "
        "ON CONFLICT (channel, id) DO NOTHING RETURNING seq"
    )


def _distribution(where: str) -> str:
    """Give messages to the groups that listen to their channels."""
    return (
        f"INSERT INTO {DELIVERIES} (message, group_number, lane, due, status, attempts) "
        f"SELECT message.seq, listening.number, message.key, {{now}}, 'pending', 0 FROM {MESSAGES} AS message "
        f"JOIN {GROUPS} AS listening ON listening.channel = message.channel WHERE {where} ORDER BY message.seq"
    )


def _stored(id: str, type: str, body: bytes, key: str | None, headers: str) -> TransportMessage:
    return TransportMessage(id, type, bytes(body), key, json.loads(headers))


def _channel(row: Row) -> str:
    return row.target.partition(":")[2]


def _message(row: Row) -> TransportMessage:
    """What listeners are given of a row of the journal that is a send."""
    made = datetime.fromtimestamp(float(row.headers["time"]), UTC)
    headers = {"time": made.isoformat(), "correlationid": row.correlation_id}
    if row.parent_id is not None:
        headers["causationid"] = row.parent_id
    if "traceparent" in row.headers:
        headers["traceparent"] = row.headers["traceparent"]
    return TransportMessage(row.id, row.type, row.body, row.headers.get("key"), headers)
