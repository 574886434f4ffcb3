"""The contract of a transport, as a suite.

Subclass it in a test module as `class TestMyTransport(TransportContract)` and give it a fixture `transport` that
yields a started transport with channels of its own. What a transport says it cannot do is not asked of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from ..transports.transport import Delivery, Transport, TransportMessage

WAIT = 5.0
SILENCE = 0.05


def message(id: str, *, key: str | None = None, body: bytes = b"{}") -> TransportMessage:
    """A message with little in it."""
    return TransportMessage(id, "Went", body, key, {"time": "2026-01-01T00:00:00+00:00"})


class Hearing:
    """A listener that collects what it is given."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Delivery] = asyncio.Queue()

    async def next(self) -> Delivery:
        """The next delivery."""
        return await asyncio.wait_for(self.heard.get(), WAIT)

    async def ids(self, count: int) -> list[str]:
        """The ids of the next deliveries, each acknowledged."""
        got = []
        for _ in range(count):
            delivery = await self.next()
            await delivery.ack()
            got.append(delivery.message.id)
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
    transport: Transport, channel: str = "c", *, group: str | None = "g", prefetch: int = 10
) -> AsyncGenerator[Hearing]:
    """Listen to a channel while the block runs."""
    hearing = Hearing()

    async def listen() -> None:
        async for delivery in transport.receive(channel, group=group, prefetch=prefetch):
            hearing.heard.put_nowait(delivery)

    task = asyncio.get_running_loop().create_task(listen())
    await asyncio.sleep(0.01 if group is None else 0)  # a broadcast is heard from when one listens
    try:
        yield hearing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(transport: Transport, *messages: TransportMessage, channel: str = "c") -> Sequence[TransportMessage]:
    await transport.publish(channel, messages)
    return messages


class TransportContract:
    """What every transport does."""

    async def test_a_message_arrives_as_it_was_sent(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            (sent,) = await publish(transport, message("a", key="k", body=b'{"n": "\xc3\xa9"}'))
            delivery = await hearing.next()
            got = delivery.message
            assert (got.id, got.type, got.body, got.key) == (sent.id, sent.type, sent.body, sent.key)
            assert dict(got.headers) == dict(sent.headers)
            await delivery.ack()

    async def test_messages_come_in_the_order_of_publishing(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            await publish(transport, *(message(str(n)) for n in range(20)))
            assert await hearing.ids(20) == [str(n) for n in range(20)]

    async def test_channels_are_apart(self, transport: Transport) -> None:
        async with listening(transport, "one") as one, listening(transport, "two") as two:
            await publish(transport, message("a"), channel="one")
            assert await one.ids(1) == ["a"]
            assert await two.silent()

    async def test_a_group_that_comes_later_is_given_what_was_published_before(self, transport: Transport) -> None:
        await publish(transport, message("a"), message("b"))
        async with listening(transport) as hearing:
            assert await hearing.ids(2) == ["a", "b"]

    async def test_listeners_of_one_group_share_the_messages(self, transport: Transport) -> None:
        async with listening(transport) as one, listening(transport) as two:
            await publish(transport, *(message(str(n)) for n in range(20)))
            got: list[str] = []
            for _ in range(20):
                waits = [asyncio.ensure_future(hearing.heard.get()) for hearing in (one, two)]
                done, rest = await asyncio.wait(waits, timeout=WAIT, return_when=asyncio.FIRST_COMPLETED)
                for wait in rest:
                    wait.cancel()
                for wait in done:
                    delivery = wait.result()
                    await delivery.ack()
                    got.append(delivery.message.id)
                if len(got) == 20:
                    break
            assert sorted(got, key=int) == [str(n) for n in range(20)]

    async def test_every_group_is_given_every_message(self, transport: Transport) -> None:
        async with listening(transport, group="g") as one, listening(transport, group="h") as two:
            await asyncio.sleep(0.01)
            await publish(transport, message("a"))
            assert await one.ids(1) == ["a"]
            assert await two.ids(1) == ["a"]

    async def test_a_broadcast_reaches_every_listener(self, transport: Transport) -> None:
        if not transport.caps.broadcast:
            return
        async with listening(transport, group=None) as one, listening(transport, group=None) as two:
            await publish(transport, message("a"))
            assert await one.ids(1) == ["a"]
            assert await two.ids(1) == ["a"]

    async def test_a_broadcast_is_heard_from_when_one_listens(self, transport: Transport) -> None:
        if not transport.caps.broadcast:
            return
        await publish(transport, message("a"))
        async with listening(transport, group=None) as hearing:
            await publish(transport, message("b"))
            assert await hearing.ids(1) == ["b"]

    async def test_an_acknowledged_message_is_not_given_again(self, transport: Transport) -> None:
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            await hearing.ids(1)
        async with listening(transport) as hearing:
            assert await hearing.silent()

    async def test_what_a_listener_left_unsettled_is_given_to_another(self, transport: Transport) -> None:
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            first = await hearing.next()
            assert first.attempt in (0, 1)
        async with listening(transport) as hearing:
            again = await hearing.next()
            assert again.message.id == "a"
            if transport.caps.attempts:
                assert again.attempt == 2
            await again.ack()

    async def test_a_released_message_comes_again_and_its_attempt_does_not_count(self, transport: Transport) -> None:
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            await (await hearing.next()).release()
            again = await hearing.next()
            assert again.message.id == "a"
            assert again.attempt in (0, 1)
            await again.ack()

    async def test_a_parked_message_is_not_given_again(self, transport: Transport) -> None:
        await publish(transport, message("a"), message("b"))
        async with listening(transport) as hearing:
            await (await hearing.next()).park("why")
            assert await hearing.ids(1) == ["b"]
            await publish(transport, message("c"))
            assert await hearing.ids(1) == ["c"]
        async with listening(transport) as hearing:
            assert await hearing.silent()

    async def test_settling_twice_does_nothing(self, transport: Transport) -> None:
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            delivery = await hearing.next()
            await delivery.ack()
            await delivery.ack()
            await delivery.release()
            await delivery.park("why")
            assert await hearing.silent()

    async def test_no_more_than_the_prefetch_is_given_out(self, transport: Transport) -> None:
        await publish(transport, *(message(str(n)) for n in range(3)))
        async with listening(transport, prefetch=2) as hearing:
            first, second = await hearing.next(), await hearing.next()
            assert await hearing.silent()
            await first.ack()
            third = await hearing.next()
            assert third.message.id == "2"
            await second.ack()
            await third.ack()

    async def test_the_next_message_of_a_key_waits_for_the_one_before(self, transport: Transport) -> None:
        if not transport.caps.ordered:
            return
        await publish(transport, message("a", key="k"), message("b", key="k"), message("c", key="other"))
        async with listening(transport) as hearing:
            first, other = await hearing.next(), await hearing.next()
            assert {first.message.id, other.message.id} == {"a", "c"}
            assert await hearing.silent()
            await first.ack()
            await other.ack()
            assert await hearing.ids(1) == ["b"]

    async def test_publishing_nothing_is_nothing(self, transport: Transport) -> None:
        await publish(transport)
        async with listening(transport) as hearing:
            assert await hearing.silent()

    async def test_a_large_body_arrives_whole(self, transport: Transport) -> None:
        body = b'"' + b"x" * 500_000 + b'"'
        await publish(transport, message("a", body=body))
        async with listening(transport) as hearing:
            delivery = await hearing.next()
            assert delivery.message.body == body
            await delivery.ack()

    async def test_starting_twice_is_starting_once(self, transport: Transport) -> None:
        await transport.start()
        await transport.start()
        await transport.check()

    async def test_many_listeners_get_every_message_once(self, transport: Transport) -> None:
        total, got = 200, asyncio.Queue[str]()

        async def listen() -> None:
            async for delivery in transport.receive("c", group="g", prefetch=5):
                got.put_nowait(delivery.message.id)
                await delivery.ack()

        tasks = [asyncio.ensure_future(listen()) for _ in range(5)]
        await publish(transport, *(message(str(n)) for n in range(total)))
        heard = [await asyncio.wait_for(got.get(), WAIT) for _ in range(total)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(heard, key=int) == [str(n) for n in range(total)]
        assert got.empty()
