"""The transport inside one process: for tests, and for applications without a broker.

A channel keeps what was published, for each group one line of messages and for each listener of its own one more; a
group that listens later is given what was published before, because the first line to ask gets what nobody has taken
yet. Nothing survives the process. Messages of one key are given out one at a time, and what is released goes back to
where it stood. Parked messages stay readable in `parked`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from .transport import Caps, Parked, TransportMessage


@dataclass(eq=False, slots=True)
class _Entry:
    number: int
    message: TransportMessage
    attempt: int = 0


@dataclass(eq=False, slots=True)
class _Line:
    """What one group has still to be given."""

    waiting: deque[_Entry] = field(default_factory=deque)
    busy: set[str] = field(default_factory=set)  # keys with a message in somebody's hands
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, entry: _Entry) -> None:
        self.waiting.append(entry)
        self.changed.set()

    def put_back(self, entry: _Entry) -> None:
        at = next((i for i, other in enumerate(self.waiting) if other.number > entry.number), len(self.waiting))
        self.waiting.insert(at, entry)
        self.free(entry)

    def free(self, entry: _Entry) -> None:
        if entry.message.key is not None:
            self.busy.discard(entry.message.key)
        self.changed.set()

    def take(self) -> _Entry | None:
        for entry in self.waiting:
            key = entry.message.key
            if key is None or key not in self.busy:
                self.waiting.remove(entry)
                if key is not None:
                    self.busy.add(key)
                return entry
        return None


class MemoryDelivery:
    """One message in the hands of one listener."""

    def __init__(self, channel: str, entry: _Entry, line: _Line, hands: _Hands) -> None:
        self.message = entry.message
        self.attempt = entry.attempt
        self._channel = channel
        self._entry = entry
        self._line = line
        self._hands = hands

    async def ack(self) -> None:
        if self._hands.give_up(self):
            self._line.free(self._entry)

    async def park(self, reason: str) -> None:
        if self._hands.give_up(self):
            self._hands.parked.append(Parked(self._channel, self._hands.group, self.message, reason))
            self._line.free(self._entry)

    async def release(self) -> None:
        if self._hands.give_up(self):
            self._entry.attempt -= 1
            self._line.put_back(self._entry)

    def lose(self) -> None:
        """The listener is gone: the message is given out again, and the attempt counts."""
        self._line.put_back(self._entry)


class _Hands:
    """What one listener holds."""

    def __init__(self, group: str | None, limit: int, parked: list[Parked]) -> None:
        self.group = group
        self.parked = parked
        self._limit = limit
        self._held: set[MemoryDelivery] = set()
        self._freed = asyncio.Event()

    async def free(self) -> None:
        while len(self._held) >= self._limit:
            self._freed.clear()
            await self._freed.wait()

    def take(self, delivery: MemoryDelivery) -> None:
        self._held.add(delivery)

    def give_up(self, delivery: MemoryDelivery) -> bool:
        """Whether it was held; settling twice does nothing."""
        if delivery not in self._held:
            return False
        self._held.remove(delivery)
        self._freed.set()
        return True

    def lose_all(self) -> None:
        for delivery in sorted(self._held, key=lambda held: held._entry.number, reverse=True):
            delivery.lose()
        self._held.clear()


@dataclass(eq=False, slots=True)
class _Channel:
    unclaimed: list[TransportMessage] = field(default_factory=list)
    groups: dict[str, _Line] = field(default_factory=dict)
    listeners: list[_Line] = field(default_factory=list)


class Memory:
    """A transport whose channels live in this object."""

    caps = Caps(groups=True, broadcast=True, ordered=True, attempts=True, dead_letters=True, envelope=True)

    def __init__(self) -> None:
        self.parked: list[Parked] = []
        self._channels: dict[str, _Channel] = {}
        self._number = 0

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Hand messages to every group and every listener of its own."""
        to = self._channel(channel)
        for message in messages:
            if not to.groups:
                to.unclaimed.append(message)
            for line in (*to.groups.values(), *to.listeners):
                line.put(self._entry(message))

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncIterator[MemoryDelivery]:
        """Messages of a channel; see `Transport.receive`."""
        source = self._channel(channel)
        line = self._join(source, group)
        hands = _Hands(group, prefetch, self.parked)
        try:
            while True:
                await hands.free()
                entry = line.take()
                if entry is None:
                    line.changed.clear()
                    await line.changed.wait()
                    continue
                entry.attempt += 1
                delivery = MemoryDelivery(channel, entry, line, hands)
                hands.take(delivery)
                yield delivery
        finally:
            hands.lose_all()
            if group is None:
                source.listeners.remove(line)

    async def check(self) -> None:
        """Always within reach."""

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to disconnect from; who listens goes on, since several runtimes may share it."""

    def _channel(self, name: str) -> _Channel:
        return self._channels.setdefault(name, _Channel())

    def _entry(self, message: TransportMessage) -> _Entry:
        self._number += 1
        return _Entry(self._number, message)

    def _join(self, channel: _Channel, group: str | None) -> _Line:
        if group is None:
            line = _Line()
            channel.listeners.append(line)
            return line
        joined = channel.groups.get(group)
        if joined is None:
            joined = channel.groups[group] = _Line()
            for message in channel.unclaimed:
                joined.put(self._entry(message))
            channel.unclaimed.clear()
        return joined
