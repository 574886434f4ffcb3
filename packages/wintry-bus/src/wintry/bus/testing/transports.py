"""The contract of a transport, as a suite.

Subclass it in a test module as `class TestMyTransport(TransportContract)` and give it a fixture `transport` that
yields a transport with channels of its own. What a transport says it cannot do is not asked of it. A subclass answers
three more questions where it can: `another` is the same broker as another process sees it, `dead` is what is kept of
the messages that were parked, and `broker` takes the broker away and brings it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..transports.transport import Transport, TransportMessage
from .hearing import HEADERS, WAIT, listening, message, name, publish, reached
from .outages import Outages


class TransportContract(Outages):
    """What every transport does. `messages` go to `listeners` where many of both are tried at once."""

    listeners = 50
    messages = 5_000

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]] | None:
        """Body and reason of the messages of a channel that were parked; None if nobody can look."""
        return None

    # what arrives

    async def test_a_message_arrives_as_it_was_sent(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            (sent,) = await publish(transport, message("a", key="k"))
            delivery = await hearing.next()
            got = delivery.message
            assert got.body == sent.body
            if transport.caps.envelope:
                assert (got.id, got.type, got.key) == (sent.id, sent.type, sent.key)
                assert dict(got.headers) == dict(sent.headers)
            await delivery.ack()

    async def test_a_message_without_key_and_headers_arrives_without(self, transport: Transport) -> None:
        if not transport.caps.envelope:
            return
        async with listening(transport) as hearing:
            await publish(transport, TransportMessage("a", "Went", b"{}"))
            delivery = await hearing.next()
            assert (delivery.message.key, dict(delivery.message.headers)) == (None, {})
            await delivery.ack()

    async def test_any_text_names_a_message(self, transport: Transport) -> None:
        if not transport.caps.envelope:
            return
        text = "é 漢 'a' \"b\" $1 :x %s {y} \\ , ;"
        async with listening(transport) as hearing:
            await publish(transport, TransportMessage(text, text, b"{}", text, {**HEADERS, "other": text}))
            delivery = await hearing.next()
            got = delivery.message
            assert (got.id, got.type, got.key, got.headers["other"]) == (text, text, text, text)
            await delivery.ack()

    async def test_a_body_is_bytes(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            for body in (b"\x00\xff\r\n", b"", "é".encode("latin-1")):
                await publish(transport, message(f"id-{body!r}", body=body))
                delivery = await hearing.next()
                assert delivery.message.body == body
                await delivery.ack()

    async def test_a_large_body_arrives_whole(self, transport: Transport) -> None:
        body = b'"' + b"x" * 500_000 + b'"'
        async with listening(transport) as hearing:
            await publish(transport, message("a", body=body))
            delivery = await hearing.next()
            assert delivery.message.body == body
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

    async def test_publishing_nothing_is_nothing(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            await publish(transport)
            assert await hearing.silent()

    async def test_what_many_send_at_once_arrives(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            await asyncio.gather(*(publish(transport, message(str(n)), message(str(100 + n))) for n in range(100)))
            assert sorted(await hearing.ids(200), key=int) == [str(n) for n in range(200)]

    async def test_a_message_that_is_published_twice_is_given_out_once(self, transport: Transport) -> None:
        if not transport.caps.dedupe:
            return
        async with listening(transport) as hearing:
            await publish(transport, message("a"))
            await publish(transport, message("a"), message("b"))
            assert await hearing.ids(2) == ["a", "b"]
            assert await hearing.silent()

    async def test_the_next_message_of_a_key_waits_for_the_one_before(self, transport: Transport) -> None:
        if not transport.caps.ordered:
            return
        await publish(transport, message("a", key="k"), message("b", key="k"), message("c", key="other"))
        async with listening(transport) as hearing:
            first, other = await hearing.next(), await hearing.next()
            assert {name(first), name(other)} == {"a", "c"}
            assert await hearing.silent()
            await first.ack()
            await other.ack()
            assert await hearing.ids(1) == ["b"]

    # groups

    async def test_a_group_that_comes_later_is_given_what_was_published_before(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        await publish(transport, message("a"), message("b"))
        async with listening(transport) as hearing:
            assert await hearing.ids(2) == ["a", "b"]

    async def test_listeners_of_one_group_share_the_messages(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        async with listening(transport) as one, listening(transport, into=one):
            await publish(transport, *(message(str(n)) for n in range(20)))
            assert sorted(await one.ids(20), key=int) == [str(n) for n in range(20)]
            assert await one.silent()

    async def test_every_group_is_given_every_message(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        async with listening(transport, group="g") as one, listening(transport, group="h") as two:
            await reached(transport, one)
            await reached(transport, two)
            await publish(transport, message("a"))
            assert await one.ids(1) == ["a"]
            assert await two.ids(1) == ["a"]

    async def test_groups_settle_apart(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        async with listening(transport, group="g") as one, listening(transport, group="h") as two:
            await reached(transport, one)
            await reached(transport, two)
            await publish(transport, message("a"))
            mine, theirs = await one.next(), await two.next()
            await mine.park("why")
            await theirs.release()
            assert await two.ids(1) == ["a"]
            assert await one.silent()

    async def test_many_listeners_get_every_message_once(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        got = asyncio.Queue[str]()

        async def listen() -> None:
            async for delivery in transport.receive("c", group="g", prefetch=5):
                got.put_nowait(name(delivery))
                await delivery.ack()

        tasks = [asyncio.ensure_future(listen()) for _ in range(self.listeners)]
        for first in range(0, self.messages, 500):
            await publish(transport, *(message(str(n)) for n in range(first, first + 500)))
        heard = [await asyncio.wait_for(got.get(), WAIT) for _ in range(self.messages)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(heard, key=int) == [str(n) for n in range(self.messages)]
        assert got.empty()

    async def test_a_listener_that_ends_leaves_the_others_listening(self, transport: Transport) -> None:
        async with listening(transport) as staying:
            async with listening(transport):
                pass
            await publish(transport, message("a"))
            assert await staying.ids(1) == ["a"]

    # broadcast

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

    async def test_a_broadcast_takes_nothing_from_a_group(self, transport: Transport) -> None:
        if not (transport.caps.broadcast and transport.caps.groups):
            return
        async with listening(transport) as group, listening(transport, group=None) as everybody:
            await reached(transport, group)
            await publish(transport, message("a"), message("b"))
            assert await everybody.ids(2) == ["a", "b"]
            assert await group.ids(2) == ["a", "b"]

    async def test_a_broadcast_that_is_behind_misses_nothing(self, transport: Transport) -> None:
        if not transport.caps.broadcast:
            return
        async with listening(transport, group=None, prefetch=2) as behind:
            await publish(transport, *(message(str(n)) for n in range(50)))
            first, second = await behind.next(), await behind.next()
            assert await behind.silent()
            await first.ack()
            await second.ack()
            assert await behind.ids(48) == [str(n) for n in range(2, 50)]

    # settling

    async def test_an_acknowledged_message_is_not_given_again(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            await hearing.ids(1)
        async with listening(transport) as hearing:
            assert await hearing.silent()

    async def test_what_a_listener_left_unsettled_is_given_to_another(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        await publish(transport, message("a"))
        for attempt in (1, 2, 3):
            async with listening(transport) as hearing:
                delivery = await hearing.next()
                assert name(delivery) == "a"
                assert delivery.attempt == (attempt if transport.caps.attempts else 0)
        async with listening(transport) as hearing:
            assert await hearing.ids(1) == ["a"]

    async def test_a_released_message_comes_again_and_its_attempt_does_not_count(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        await publish(transport, message("a"))
        async with listening(transport) as hearing:
            await (await hearing.next()).release()
            again = await hearing.next()
            assert name(again) == "a"
            assert again.attempt in (0, 1)
            await again.ack()

    async def test_a_parked_message_is_not_given_again(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            await publish(transport, message("a"), message("b"))
            await (await hearing.next()).park("why")
            assert await hearing.ids(1) == ["b"]
            await publish(transport, message("c"))
            assert await hearing.ids(1) == ["c"]
        async with listening(transport) as hearing:
            assert await hearing.silent()

    async def test_a_parked_message_is_kept_with_its_reason(self, transport: Transport) -> None:
        if not transport.caps.dead_letters:
            return
        async with listening(transport) as hearing:
            await publish(transport, message("a", body=b"{"))
            await (await hearing.next()).park("it is no JSON: é")
        kept = await self.dead(transport, "c")
        assert kept is None or list(kept) == [(b"{", "it is no JSON: é")]

    async def test_settling_twice_does_nothing(self, transport: Transport) -> None:
        async with listening(transport) as hearing:
            await publish(transport, message("a"))
            delivery = await hearing.next()
            await delivery.ack()
            await delivery.ack()
            await delivery.release()
            await delivery.park("why")
            assert await hearing.silent()

    async def test_no_more_than_the_prefetch_is_given_out(self, transport: Transport) -> None:
        if not transport.caps.groups:
            return
        await publish(transport, *(message(str(n)) for n in range(3)))
        async with listening(transport, prefetch=2) as hearing:
            first, second = await hearing.next(), await hearing.next()
            assert await hearing.silent()
            await first.ack()
            third = await hearing.next()
            assert name(third) == "2"
            await second.ack()
            await third.ack()
