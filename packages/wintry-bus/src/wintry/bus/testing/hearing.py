"""Listening and sending for the contract of a transport: what is heard is collected, what was taken is counted.

Whatever a test wants to know of a delivery it reads from its body, which every transport carries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from os import urandom

from ..transports.transport import Delivery, Transport, TransportMessage

WAIT = 60.0
SILENCE = 0.05
PROBE = b'"is anybody listening?"'
HEADERS = {"time": "2026-01-01T00:00:00+00:00"}


def message(id: str, *, key: str | None = None, body: bytes | None = None) -> TransportMessage:
    """A message with little in it: its id as JSON."""
    return TransportMessage(id, "Went", json.dumps(id).encode() if body is None else body, key, HEADERS)


def name(delivery: Delivery) -> str:
    """Which of the messages it is: by the body, since not every transport carries ids."""
    found: str = json.loads(delivery.message.body)
    return found


class Hearing:
    """A listener that collects what it is given; what only asks whether it listens is not collected.

    With `settles` it acknowledges at once, and only `names` says what came.
    """

    def __init__(self, *, settles: bool = False) -> None:
        self.heard: asyncio.Queue[Delivery] = asyncio.Queue()
        self.names: list[str] = []
        self.probes = 0
        self._settles = settles
        self._came = asyncio.Event()

    async def take(self, delivery: Delivery) -> None:
        if delivery.message.body == PROBE:
            self.probes += 1
            await delivery.ack()
        elif self._settles:
            self.names.append(name(delivery))
            self._came.set()
            await delivery.ack()
        else:
            self.heard.put_nowait(delivery)

    async def has(self, wanted: set[str]) -> None:
        """Return when all of these have come."""
        async with asyncio.timeout(WAIT):
            while not wanted <= set(self.names):
                self._came.clear()
                await self._came.wait()

    async def next(self) -> Delivery:
        """The next delivery."""
        return await asyncio.wait_for(self.heard.get(), WAIT)

    async def ids(self, count: int) -> list[str]:
        """Which the next deliveries are, each acknowledged."""
        got = []
        for _ in range(count):
            delivery = await self.next()
            await delivery.ack()
            got.append(name(delivery))
        return got

    async def ids_until(self, wanted: set[str]) -> list[str]:
        """Which deliveries come until all of these have come, each acknowledged."""
        got: list[str] = []
        async with asyncio.timeout(WAIT):
            while not wanted <= set(got):
                delivery = await self.heard.get()
                await delivery.ack()
                got.append(name(delivery))
        return got

    async def silent(self) -> bool:
        """Whether nothing more comes."""
        try:
            await asyncio.wait_for(self.heard.get(), SILENCE)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def listening(
    transport: Transport,
    channel: str = "c",
    *,
    group: str | None = "g",
    prefetch: int = 10,
    into: Hearing | None = None,
    awake: bool = True,
) -> AsyncGenerator[Hearing]:
    """Listen to a channel while the block runs; alone where the transport has no groups.

    A broadcast is heard from when one listens, which is waited for unless the broker is away (`awake=False`).
    """
    hearing, group = into or Hearing(), group if transport.caps.groups else None

    async def listen() -> None:
        while True:
            try:
                await transport.start()
                async for delivery in transport.receive(channel, group=group, prefetch=prefetch):
                    await hearing.take(delivery)
            except Exception:  # noqa: BLE001 - as a runner does, whatever it is
                await asyncio.sleep(0.02)

    task = asyncio.get_running_loop().create_task(listen())
    try:
        await asyncio.sleep(0)
        if group is None and awake:
            await reached(transport, hearing, channel)
        yield hearing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reached(transport: Transport, hearing: Hearing, channel: str = "c") -> None:
    """Return when what is published is heard, by a broker that may just have come back."""
    before = hearing.probes
    async with asyncio.timeout(WAIT):
        while hearing.probes == before:
            with suppress(Exception):
                await transport.publish(channel, [TransportMessage(urandom(8).hex(), "Probe", PROBE)])
            await asyncio.sleep(0.02)


async def publish(transport: Transport, *messages: TransportMessage, channel: str = "c") -> Sequence[TransportMessage]:
    await transport.publish(channel, messages)
    return messages


class Sender:
    """Publishes one message after the other while the block runs, whatever happens to the broker."""

    def __init__(self, transport: Transport) -> None:
        self.taken: set[str] = set()  # what the broker has taken responsibility for
        self._took = asyncio.Event()
        self._transport = transport
        self._ended = False

    async def run(self) -> None:
        number = 0
        while not self._ended:
            number += 1
            try:
                await publish(self._transport, message(str(number)))
                self.taken.add(str(number))
                self._took.set()
            except Exception:  # noqa: BLE001, S110 - whatever this transport raises while its broker is away
                pass
            await asyncio.sleep(0.002)

    async def more(self, count: int) -> None:
        """Return when so many more have been taken."""
        wanted = len(self.taken) + count
        async with asyncio.timeout(WAIT):
            while len(self.taken) < wanted:
                self._took.clear()
                await self._took.wait()

    def end(self) -> None:
        self._ended = True


@asynccontextmanager
async def sending(transport: Transport) -> AsyncGenerator[Sender]:
    """Send while the block runs, and finish what is being sent."""
    sender = Sender(transport)
    task = asyncio.get_running_loop().create_task(sender.run())
    try:
        yield sender
    finally:
        sender.end()
        await asyncio.wait_for(task, WAIT)
