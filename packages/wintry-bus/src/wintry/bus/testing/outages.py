"""What a transport does when its broker goes away, and what several processes see of one broker.

A second process is a second transport on the same broker (`another`), in this one: that a process dies is for the tests
of the broker's own kind. The broker is killed and started in a thread, so that whoever listens here goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from ..transports.transport import Transport
from .hearing import PROBE, WAIT, Hearing, listening, message, name, publish, reached, sending

LOOKS = 0.5
"""Within so many seconds a listener connects again, or looks for messages once more."""


class Broker(Protocol):
    """A server that can be taken away. Its methods return when it is done."""

    def kill(self) -> None:
        """End it as a crash does."""
        ...

    def start(self) -> None:
        """Start it at the same address, with what it has stored."""
        ...


class Outages:
    """The part of `TransportContract` that takes more than one listener's view: of processes, and of a broker killed."""

    def another(self, transport: Transport) -> Transport | None:
        """A second transport at the same broker, not started; None if there is only this one."""
        return None

    def broker(self) -> Broker | None:
        """The broker of `transport`, if it can be killed."""
        return None

    # several processes

    async def test_starting_twice_is_starting_once(self, transport: Transport) -> None:
        await transport.start()
        await transport.start()
        await transport.check()

    async def test_another_process_is_given_what_was_published(self, transport: Transport) -> None:
        other = self.another(transport)
        if other is None:
            return
        async with listening(other) as hearing:
            await publish(transport, message("a"))
            assert await hearing.ids(1) == ["a"]
        await other.stop()

    async def test_what_a_stopped_process_held_is_given_to_another(self, transport: Transport) -> None:
        other = self.another(transport)
        if other is None or not transport.caps.groups:
            return
        await other.start()
        await publish(transport, message("a"), message("b"))
        source = other.receive("c", group="g", prefetch=2)
        assert {name(await anext(source)), name(await anext(source))} == {"a", "b"}
        await other.stop()
        async with listening(transport) as hearing:
            assert sorted(await hearing.ids(2)) == ["a", "b"]
            if isinstance(source, AsyncGenerator):
                await source.aclose()  # a listener that ends behind its transport takes nothing from anybody

    async def test_a_process_that_has_stopped_takes_nothing_more(self, transport: Transport) -> None:
        other = self.another(transport)
        if other is None or not transport.caps.groups:
            return
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def listen() -> None:
            async for delivery in other.receive("c", group="g", prefetch=5):
                await delivery.ack()
                heard.put_nowait(name(delivery))

        await other.start()
        listener = asyncio.get_running_loop().create_task(listen())
        await publish(transport, message("before"))
        assert await asyncio.wait_for(heard.get(), WAIT) == "before"
        await other.stop()
        await publish(transport, *(message(str(n)) for n in range(20)))
        await asyncio.sleep(LOOKS)
        async with listening(transport) as hearing:
            assert sorted(await hearing.ids(20), key=int) == [str(n) for n in range(20)]
            await publish(transport, *(message(str(n)) for n in range(20, 40)))
            assert sorted(await hearing.ids(20), key=int) == [str(n) for n in range(20, 40)]
            assert (heard.empty(), listener.done()) == (True, False)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            assert await hearing.silent()
        await other.stop()

    # a broker that goes away

    async def test_a_broker_that_is_down_at_the_start_is_waited_for(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None:
            return
        await asyncio.to_thread(broker.kill)
        other = self.another(transport) or transport
        async with listening(other, awake=False) as hearing:
            await asyncio.to_thread(broker.start)
            await reached(other, hearing)
            await publish(other, message("a"))
            assert await hearing.ids(1) == ["a"]
        await other.stop()

    async def test_a_broker_that_is_down_is_told_from_one_that_is_there(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None:
            return
        await transport.check()
        await asyncio.to_thread(broker.kill)
        assert await refused(transport.check)
        await asyncio.to_thread(broker.start)
        await eventually(transport.check)

    async def test_publishing_while_the_broker_is_down_is_refused(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None:
            return
        await asyncio.to_thread(broker.kill)
        assert await refused(partial(publish, transport, message("untaken")))
        await asyncio.to_thread(broker.start)
        await eventually(partial(publish, transport, message("probe", body=PROBE)))
        async with listening(transport) as hearing:
            await publish(transport, message("a"))
            assert "a" in await hearing.ids_until({"a"})

    async def test_messages_flow_on_when_the_broker_was_killed(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None:
            return
        async with listening(transport, into=Hearing(settles=True)) as hearing:
            async with sending(transport) as sender:
                for _ in range(2):
                    await sender.more(20)
                    await asyncio.to_thread(broker.kill)
                    await asyncio.to_thread(broker.start)
                await sender.more(20)
            if transport.caps.durable:
                await hearing.has(sender.taken)
            else:
                await reached(transport, hearing)

    async def test_what_was_published_is_there_when_the_broker_is(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None or not transport.caps.durable:
            return
        await publish(transport, *(message(str(n)) for n in range(100)))
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        async with listening(transport) as hearing:
            assert await hearing.ids(100) == [str(n) for n in range(100)]

    async def test_what_is_held_when_the_broker_is_killed_stands_in_nobodys_way(self, transport: Transport) -> None:
        broker = self.broker()
        if broker is None or not transport.caps.durable:
            return
        await publish(transport, message("a"))
        async with listening(transport, prefetch=2) as hearing:
            delivery = await hearing.next()
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            with suppress(Exception):
                await delivery.ack()  # it may count, or the message comes again
            await eventually(partial(publish, transport, message("b"), message("c")))
            assert set(await hearing.ids_until({"b", "c"})) <= {"a", "b", "c"}
        async with listening(transport) as hearing:
            assert await hearing.silent()


async def eventually(work: Callable[[], Awaitable[object]]) -> None:
    """Try again until it succeeds."""
    async with asyncio.timeout(WAIT):
        while True:
            with suppress(Exception):
                await work()
                return
            await asyncio.sleep(0.02)


async def refused(work: Callable[[], Awaitable[object]]) -> bool:
    """Whether it raises."""
    try:
        await work()
    except Exception:  # noqa: BLE001 - whatever this transport raises while its broker is away
        return True
    return False
