"""What the queues in a database have in common, whatever kind of database it is.

`receive` hands out what the store gives, as far as the listener has room, and keeps in `Hands` what is not settled yet;
leases of that are renewed at a third of their time. Within the process a publication wakes the listeners of its
channel. What other processes publish is found by looking, every `poll_min` seconds while there is something, and ever
more seldom up to `poll_max` while there is not.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from .transport import Caps, Parked, TransportMessage

logger = logging.getLogger("wintry.bus")

AT_ONCE: Final = 100
"""Messages of one statement."""


class Queue(ABC):
    """A queue in a database; `owner` names this process, times are seconds."""

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

    def __init__(self, *, owner: str, lease: float = 40.0, poll_min: float = 0.05, poll_max: float = 2.0) -> None:
        self.owner = owner
        self.lease = lease
        self._poll = (poll_min, poll_max)
        self._listeners: dict[str, set[Hands]] = {}
        self._groups: set[int] = set()
        self._held: set[int] = set()
        self._starting = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # what the kinds of databases do

    @abstractmethod
    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Put messages into the queue; returns when they are committed."""

    @abstractmethod
    async def settle(self, seq: int) -> None:
        """A delivery is done, and its row goes."""

    @abstractmethod
    async def park(self, seq: int, reason: str) -> None:
        """A delivery becomes a dead letter."""

    @abstractmethod
    async def release(self, seq: int) -> None:
        """A delivery is given back, its attempt not counted."""

    @abstractmethod
    async def parked(self, *, limit: int = 100) -> list[Parked]:
        """The dead letters, oldest first."""

    @abstractmethod
    async def inherit(self) -> int:
        """End the leases of processes of this host that have ended, and give the number of deliveries."""

    @abstractmethod
    async def purge(self, *, older_than: float, abandoned: float) -> int:
        """Remove messages that are `older_than` seconds old and have been dealt with by every group.

        A group that no process has listened for in `abandoned` seconds is forgotten with what it was to be given.
        """

    @abstractmethod
    async def check(self) -> None:
        """Raises `Unreachable`."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Make what is missing of tables and collections."""

    @abstractmethod
    async def _number_of(self, channel: str, group: str) -> int:
        """The number of a group, which is given all that the queue keeps of the channel when it is new."""

    @abstractmethod
    async def _claim(self, group: int, limit: int) -> list[Given]:
        """Lease what a group may be given, `limit` messages at most."""

    @abstractmethod
    async def _last(self, channel: str) -> int:
        """A number that no message of the channel is behind yet."""

    @abstractmethod
    async def _following(self, channel: str, after: int, limit: int) -> list[Given]:
        """The messages of a channel behind `after`."""

    @abstractmethod
    async def _drop(self, seqs: Sequence[int]) -> None:
        """Let go of deliveries: they are free, their attempts counted."""

    @abstractmethod
    async def _renew(self, seqs: Sequence[int]) -> Sequence[int]:
        """Lengthen leases; gives what is still held."""

    @abstractmethod
    async def _flush(self) -> None:
        """Wait until what was to be stored is."""

    # listeners

    def wake(self, channels: Sequence[str]) -> None:
        """Let the listeners of these channels in this process look at once."""
        for channel in channels:
            for hands in self._listeners.get(channel, ()):
                hands.changed.set()

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[QueueDelivery]:
        """Messages of a channel; see `Transport.receive`."""
        hands = Hands(self, group, prefetch)
        pause = low = self._poll[0]
        with self._listening(channel, hands):
            source = await self._last(channel) if group is None else await self._join(channel, group)
            try:
                while True:
                    await hands.free()
                    hands.changed.clear()
                    limit = min(hands.room, AT_ONCE)
                    try:
                        found = await self._look(channel, group, source, limit)
                    except Exception as error:  # noqa: BLE001 - what is held stays in the hands of who works on it
                        pause = min(2 * pause, self._poll[1])
                        logger.warning("looking into %r failed with %r; again in %.3g s", channel, error, pause)
                        await asyncio.sleep(pause)
                        continue
                    if group is None:
                        source = max((given.seq for given in found), default=source)
                    if hands.closed:  # meanwhile
                        self.abandon([given.seq for given in found])
                        continue
                    for delivery in hands.take(channel, found):
                        yield delivery
                    pause = low if found else pause
                    if len(found) < limit:  # there is no more just now
                        pause = low if await hands.told(pause) else min(2 * pause, self._poll[1])
            finally:
                hands.lose_all()

    async def _look(self, channel: str, group: str | None, source: int, limit: int) -> list[Given]:
        """What there is for a listener: of its group's number, or behind the last message that it heard."""
        if group is None:
            return await self._following(channel, source, limit)
        found = await self._claim(source, limit)
        self._held.update(given.seq for given in found)
        return found

    async def _join(self, channel: str, group: str) -> int:
        number = await self._number_of(channel, group)
        self._groups.add(number)
        return number

    @contextmanager
    def _listening(self, channel: str, hands: Hands) -> Generator[None]:
        listeners = self._listeners.setdefault(channel, set())
        listeners.add(hands)
        try:
            yield
        finally:
            listeners.discard(hands)

    def forget(self, seq: int) -> None:
        """A delivery is about to be settled: its lease is renewed no more."""
        self._held.discard(seq)

    def abandon(self, seqs: Sequence[int]) -> None:
        """A listener has gone with deliveries in its hands: those still leased become free. `stop` waits for it."""
        if leased := self._held.intersection(seqs):
            task = asyncio.get_running_loop().create_task(self._lose(leased))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _lose(self, seqs: AbstractSet[int]) -> None:
        self._held.difference_update(seqs)
        await self._drop(sorted(seqs))

    # life

    async def start(self) -> None:
        """Make what is missing, and keep the leases of what is in the hands of listeners."""
        async with self._starting:
            if self._renewing is None:
                await self._prepare()
                self._renewing = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Give back what is not settled, and claim nothing more."""
        for listening in self._listeners.values():
            for hands in listening:
                hands.closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._held:
            await self._lose({*self._held})
        await self._flush()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.lease / 3)
            held = [*self._held]
            try:
                if held:
                    kept = await self._renew(held)
                    self._held.difference_update(set(held).difference(kept))
            except Exception:
                logger.exception("renewing %d leases failed; it is tried again", len(held))


@dataclass(frozen=True, slots=True)
class Given:
    """A message for a listener. `seq` numbers its delivery; of one that everybody hears, the message."""

    seq: int
    message: TransportMessage
    attempt: int = 1


class Hands:
    """What one listener holds."""

    def __init__(self, queue: Queue, group: str | None, limit: int) -> None:
        self.queue = queue
        self.group = group
        self.held: set[QueueDelivery] = set()
        self.closed = False  # the queue has stopped
        self.changed = asyncio.Event()  # something was published or has become free, or there is room again
        self._limit = limit

    @property
    def room(self) -> int:
        """How many more may be given out."""
        return self._limit - len(self.held)

    def take(self, channel: str, found: Sequence[Given]) -> list[QueueDelivery]:
        """Hold what was given."""
        taken = [QueueDelivery(channel, given.message, given.seq, given.attempt, self) for given in found]
        self.held.update(taken)
        return taken

    async def free(self) -> None:
        """Wait until there is room; for ever when the queue has stopped."""
        while self.room <= 0 or self.closed:
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
        if self.room <= 0:
            self.changed.set()
        self.held.remove(delivery)
        return True

    def lose_all(self) -> None:
        """The listener is gone; what it still holds is free, unless the queue has stopped and let go of it before."""
        if self.group is not None:  # the numbers of a broadcast are those of messages, and nothing of it is leased
            self.queue.abandon([delivery.seq for delivery in self.held])
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
            hands.queue.forget(self.seq)
            await work
            hands.queue.wake([self._channel])
        else:
            work.close()
