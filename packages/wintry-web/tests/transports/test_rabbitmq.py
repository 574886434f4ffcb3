"""What the transport on RabbitMQ does beyond the contract: who hears what, what is lost and made again, dead letters."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aio_pika
import pytest
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed
from wintry_test_servers.nursery import Nursery

from wintry.bus.transports import TransportMessage
from wintry.web.transports import rabbitmq_client as client
from wintry.web.transports import rabbitmq_sending as sending
from wintry.web.transports.rabbitmq import RabbitMQ
from wintry.web.transports.rabbitmq_listening import RabbitDelivery
from wintry.web.transports.rabbitmq_topology import is_first
from wintry.web.transports.rabbitmq_wire import LONGEST_NAME, Names, name_of

from .services import PATIENCE, Store, forked

pytestmark = pytest.mark.anyio
C = Names("c")
STRANGE = ["", "a:b", "a", "é 漢 \x00\n\r", "a#3Ab", "*.#", "x" * 5_000, "x" * 4_999 + "y", "\ud800", "wintry:c", "A"]


def sent(body: str, id: str = "") -> TransportMessage:
    return TransportMessage(id or f"id-{body}", "Went", body.encode())


@asynccontextmanager
async def opened(url: str, owner: str = "me") -> AsyncIterator[RabbitMQ]:
    transport = RabbitMQ(url, owner=owner)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.stop()


@asynccontextmanager
async def amqp(url: str) -> AsyncIterator[Any]:
    """A channel of somebody else."""
    async with await aio_pika.connect(url) as connection, connection.channel(on_return_raises=True) as channel:
        yield channel


async def taken(source: Any, count: int) -> list[str]:
    """The bodies of the next deliveries, each acknowledged."""
    bodies = []
    async with asyncio.timeout(PATIENCE):
        for _ in range(count):
            delivery = await anext(source)
            bodies.append(delivery.message.body.decode())
            await delivery.ack()
    return bodies


async def silent(source: Any) -> bool:
    """Whether nothing more comes; the source ends by it."""
    try:
        await asyncio.wait_for(anext(source), 0.2)
    except TimeoutError:
        return True
    return False


async def joined(transport: RabbitMQ, channel: str, group: str | None) -> Any:
    """A listener that is there: it has heard what was sent to be heard."""
    source = transport.receive(channel, group=group, prefetch=10)
    waiting = asyncio.ensure_future(anext(source))
    while not waiting.done():
        await transport.publish(channel, [sent("are you there?")])
        await asyncio.wait([waiting], timeout=0.05)
    await waiting.result().ack()
    return source


async def until_consumed(channel: Any, queue: str) -> None:
    """Return when somebody consumes a queue, be it there or not."""
    while True:
        with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
            async with channel._connection.channel() as looking:
                if (await looking.declare_queue(queue, passive=True)).declaration_result.consumer_count:
                    return
        await asyncio.sleep(0.05)


async def drained(source: Any) -> None:
    """Take what was sent to be heard."""
    while True:
        try:
            await (await asyncio.wait_for(anext(source), 0.3)).ack()
        except (TimeoutError, StopAsyncIteration):
            return


# who hears what


@pytest.mark.contract("WEB-701")
async def test_what_was_published_before_there_was_a_group_comes_first_and_in_order(rabbit: Any) -> None:
    async with opened(rabbit.url) as one, opened(rabbit.url, "two") as two:
        await one.publish("c", [sent(str(n)) for n in range(50)])
        async with aclosing(two.receive("c", group="g", prefetch=3)) as source:
            first = await anext(source)
            await one.publish("c", [sent(str(n)) for n in range(50, 60)])
            await first.ack()
            assert await taken(source, 59) == [str(n) for n in range(1, 60)]


@pytest.mark.contract("WEB-701")
async def test_a_broadcast_listener_takes_nothing_from_the_first_group(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel:
        async with aclosing(transport.receive("c", group=None, prefetch=5)) as everybody:
            hearing = asyncio.ensure_future(anext(everybody))
            async with asyncio.timeout(PATIENCE):
                while not hearing.done():
                    await transport.publish("c", [sent("a")])
                    await asyncio.wait([hearing], timeout=0.05)
            await transport.publish("c", [sent("b")])  # which somebody hears
        waiting = await channel.declare_queue(C.waiting, passive=True)
        async with aclosing(transport.receive("c", group="g", prefetch=5)) as source:
            bodies = await taken(source, waiting.declaration_result.message_count)
        assert bodies[-1] == "b"


@pytest.mark.contract("WEB-701")
async def test_a_later_group_hears_from_its_coming_on_and_takes_nothing_that_waited(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="first", prefetch=1)) as first:
            held = await anext(first)
            async with aclosing(transport.receive("c", group="later", prefetch=5)) as later:
                coming = asyncio.ensure_future(anext(later))
                await asyncio.wait([coming], timeout=0.5)
                assert not coming.done()
                await transport.publish("c", [sent("new")])
                assert (await asyncio.wait_for(coming, PATIENCE)).message.body == b"new"
            await held.ack()
            assert await taken(first, 2) == ["b", "new"]


@pytest.mark.contract("WEB-700")
async def test_what_a_listener_has_no_room_for_goes_to_another(rabbit: Any) -> None:
    async with opened(rabbit.url) as one, opened(rabbit.url, "two") as two, asyncio.timeout(PATIENCE):
        await one.publish("c", [sent(str(n)) for n in range(10)])
        async with (
            aclosing(one.receive("c", group="g", prefetch=2)) as busy,
            aclosing(two.receive("c", group="g", prefetch=2)) as free,
        ):
            held = [await anext(busy), await anext(busy)]
            assert await taken(free, 8) == [str(n) for n in range(2, 10)]
            for each in held:
                await each.ack()


@pytest.mark.contract("WEB-701")
async def test_what_waited_and_what_follows_share_the_room(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport, asyncio.timeout(PATIENCE):
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as source:
            held = await anext(source)
            await (await anext(source)).ack()
            await transport.publish("c", [sent("c"), sent("d")])
            following = await anext(source)
            more = asyncio.ensure_future(anext(source))
            await asyncio.wait([more], timeout=0.3)
            assert not more.done()
            await held.ack()
            assert (await more).message.body == b"d"
            assert following.message.body == b"c"


@pytest.mark.contract("WEB-701")
async def test_any_text_names_a_channel_and_a_group() -> None:
    names = [name for text in STRANGE for name in (name_of(text), name_of(text, "dead"), name_of("a", "group", text))]
    assert len(set(names)) == len(names)
    assert all(len(name) <= LONGEST_NAME for name in names)


@pytest.mark.contract("WEB-701")
@pytest.mark.parametrize("text", ["", "é 漢 \x00\n\r:#+", "x" * 5_000])
async def test_a_channel_and_a_group_of_any_name_work(rabbit: Any, text: str) -> None:
    async with opened(rabbit.url) as transport:
        await transport.publish(text, [sent("a")])
        async with aclosing(transport.receive(text, group=text, prefetch=1)) as source:
            assert await taken(source, 1) == ["a"]
            await transport.publish(text, [sent("b")])
            delivery = await anext(source)
            await delivery.park("why")
        assert [letter.group for letter in await transport.parked(text)] == [text]


# what breaks


@pytest.mark.contract("WEB-702")
async def test_an_acknowledgement_on_a_lost_connection_does_nothing_and_the_message_comes_again(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as source, asyncio.timeout(PATIENCE):
            first, second = await anext(source), await anext(source)
            rabbit.kill()
            async with asyncio.timeout(10):
                await first.ack()
                await second.park("why")
            rabbit.start()
            again = [await anext(source), await anext(source)]
            assert sorted(each.message.id for each in again) == ["id-a", "id-b"]
            assert [each.attempt for each in again] in ([2, 2], [1, 1])  # a crash may forget that it was given out
            for each in again:
                await each.ack()
        assert await transport.parked("c") == []


@pytest.mark.contract("WEB-702")
async def test_what_a_listener_left_is_given_out_again_with_its_attempt_counted(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport:
        await transport.publish("c", [sent("a")])
        for attempt in (1, 2):
            async with aclosing(transport.receive("c", group="g", prefetch=1)) as source:
                assert (await anext(source)).attempt == attempt
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as source:
            await (await anext(source)).release()
            delivery = await anext(source)
            assert delivery.attempt == 3  # what was counted stays counted
            await delivery.ack()


@pytest.mark.contract("WEB-703")
@pytest.mark.parametrize("group", ["first", "later"])
async def test_a_queue_that_is_deleted_is_made_again(rabbit: Any, group: str) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel, asyncio.timeout(PATIENCE):
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="first", prefetch=5)) as source:
            assert await taken(source, 1) == ["a"]
        async with aclosing(transport.receive("c", group=group, prefetch=5)) as source:
            reading = asyncio.ensure_future(anext(source))
            await until_consumed(channel, C.queue(group))
            await channel.queue_delete(C.queue(group))
            while not reading.done():
                await transport.publish("c", [sent("b")])
                await asyncio.wait([reading], timeout=0.1)
            assert reading.result().message.body == b"b"
            await reading.result().ack()
            reading = asyncio.ensure_future(anext(source))
            await until_consumed(channel, C.queue(group))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.contract("WEB-703")
async def test_exchanges_that_are_deleted_are_made_again_by_who_publishes(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel:
        await transport.publish("c", [sent("a")])
        await channel.exchange_delete(C.exchange)
        await transport.publish("c", [sent("b")])
        await channel.exchange_delete(C.groups)  # now nothing takes a message: it comes back
        await transport.publish("c", [sent("c")])
        async with aclosing(transport.receive("c", group="g", prefetch=5)) as source:
            assert await taken(source, 3) == ["a", "b", "c"]


@pytest.mark.contract("WEB-703")
async def test_a_broker_that_hangs_is_told_in_time_and_holds_nobody_up(
    rabbit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CONFIRM", 0.5)
    monkeypatch.setattr(sending, "reached", lambda seconds=1.0: client.reached(seconds))
    async with opened(rabbit.url) as transport:
        source = await joined(transport, "c", "g")
        await transport.publish("c", [sent("held")])
        delivery: RabbitDelivery = await anext(source)
        rabbit.pause()
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"no answer within 0\.5 s"):
            await transport.publish("c", [sent("a")])
        with pytest.raises(ConnectionError):
            await transport.check()
        await delivery.release()
        await source.aclose()
        await transport.stop()
        assert time.monotonic() - began < 4 * client.REPLY
        rabbit.resume()


@pytest.mark.contract("WEB-703")
async def test_a_listener_notices_that_a_broker_hangs_and_comes_back(rabbit: Any) -> None:
    async with opened(f"{rabbit.url}?heartbeat=1") as transport, asyncio.timeout(PATIENCE):
        source = await joined(transport, "c", "g")
        await drained(source)
        source = transport.receive("c", group="g", prefetch=5)
        reading = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.5)
        rabbit.pause()
        while transport._listening._connection is not None:
            await asyncio.sleep(0.05)
        rabbit.resume()
        while not reading.done():
            try:
                await transport.publish("c", [sent("a")])
            except ConnectionError:
                await asyncio.sleep(0.1)
            await asyncio.wait([reading], timeout=0.1)
        assert reading.result().message.body == b"a"
        await source.aclose()


class Deaf:
    """A client that makes of a cancellation what it is told to, where a channel is closed."""

    def __init__(self, outcome: Exception | None) -> None:
        self.outcome = outcome

    def channel(self) -> "Deaf":
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            if self.outcome is not None:
                raise self.outcome from None

    async def declare_exchange(self, *_: object, **__: object) -> None:
        pass


OUTCOMES = pytest.mark.parametrize("outcome", [None, ChannelPreconditionFailed(), AMQPError("closed"), OSError()])


async def ended(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE / 2)
    assert task.cancelled()


@OUTCOMES
@pytest.mark.contract("WEB-708")
async def test_who_is_cancelled_ends_whatever_the_client_makes_of_it(outcome: Exception | None) -> None:
    async def work() -> None:
        async with client.reached():
            await Deaf(outcome).__aexit__()

    await ended(work())


@OUTCOMES
@pytest.mark.contract("WEB-708")
async def test_who_asks_whether_a_group_is_the_first_ends_when_cancelled(outcome: Exception | None) -> None:
    connection: Any = Deaf(outcome)
    await ended(is_first(connection, C, "g"))


@OUTCOMES
@pytest.mark.contract("WEB-703")
async def test_a_time_limit_holds_whatever_the_client_makes_of_it(outcome: Exception | None) -> None:
    connection: Any = Deaf(outcome)
    with pytest.raises(ConnectionError, match=r"no answer within 0\.01 s"):
        async with client.reached(0.01):
            await is_first(connection, C, "g")


@pytest.mark.contract("WEB-708")
async def test_a_listener_ends_whatever_it_was_doing(rabbit: Any) -> None:
    async def listen() -> None:
        async for _ in transport.receive("c", group="g", prefetch=10):
            pass

    async with opened(rabbit.url) as transport:
        for round in range(60):
            task = asyncio.ensure_future(listen())
            await asyncio.sleep(round * 0.0015)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.cancelled(), f"it goes on, {round * 1.5} ms after its beginning"


@pytest.mark.contract("WEB-706")
async def test_a_service_ends_in_time_while_its_broker_is_away(rabbit: Any, nursery: Nursery, tmp_path: Path) -> None:
    arguments = ("serve", rabbit.name, rabbit.url, str(tmp_path), "", "with")
    async with forked(nursery, tmp_path / "log", *arguments) as service, opened(rabbit.url) as transport:
        await transport.publish("orders", [sent('{"order": "1"}')])
        await service.until(lambda: bool(Store(tmp_path).counts))
        rabbit.kill()
        async with asyncio.timeout(20):
            assert await service.end() == 0


# dead letters


@pytest.mark.contract("WEB-704")
async def test_a_dead_letter_is_there_before_its_message_is_gone(rabbit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel, asyncio.timeout(PATIENCE):
        await transport.publish("c", [TransportMessage("x", "Went", b"1", "k", {"time": "t"})])
        put, refusals = transport._sending.put, 0

        async def refusing(*arguments: Any) -> None:
            nonlocal refusals
            refusals += 1
            if refusals == 1:
                raise ConnectionError("not now")
            if refusals == 3:  # of the second delivery: the dead letter is there, and the connection breaks
                await put(*arguments)
                raise asyncio.CancelledError
            await put(*arguments)

        monkeypatch.setattr(transport._sending, "put", refusing)
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as source:
            await (await anext(source)).park("it does not fit")
            assert refusals == 2
            await transport.publish("c", [sent("b")])
            delivery = await anext(source)
            with pytest.raises(asyncio.CancelledError):
                await delivery.park("it was interrupted")
        letters = await transport.parked("c")
        assert [(each.message.id, each.group, each.reason) for each in letters] == [
            ("x", "g", "it does not fit"),
            ("id-b", "g", "it was interrupted"),
        ]
        assert (letters[0].message.key, letters[0].message.headers) == ("k", {"time": "t"})
        queue = await channel.get_queue(C.queue("g"))
        while (again := await queue.get(fail=False)) is None:
            await asyncio.sleep(0.05)
        assert again.message_id == "id-b"  # was not acknowledged: it comes again
        assert len(await transport.parked("c", limit=1)) == 1


@pytest.mark.contract("WEB-704")
async def test_what_the_broker_gives_up_is_a_dead_letter_too(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel, asyncio.timeout(PATIENCE):
        source = await joined(transport, "c", "g")
        await drained(source)
        await transport.publish("c", [sent("a")])
        message = await (await channel.get_queue(C.queue("g"))).get()
        await message.reject(requeue=False)
        while not (letters := await transport.parked("c")):
            await asyncio.sleep(0.05)
        assert [(each.message.body, each.reason) for each in letters] == [(b"a", "the broker gave it up: rejected")]


# the wire


@pytest.mark.contract("WEB-705")
async def test_what_others_publish_is_understood(rabbit: Any) -> None:
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel, asyncio.timeout(PATIENCE):
        async with aclosing(await joined(transport, "c", "g")) as source:
            exchange = await channel.get_exchange(C.exchange)
            given: list[aio_pika.Message] = [
                aio_pika.Message(b"a", message_id="", headers={}),
                aio_pika.Message(b"b", message_id="id", type="Type", headers={"n": 1, "o": {"p": 1}, "x-y": "z"}),
                aio_pika.Message(
                    b"c", message_id="id", headers={"cloudEvents:id": "other", "cloudEvents:key": bytearray(b"\xff")}
                ),
            ]
            for message in given:
                await exchange.publish(message, "whatever")
            found = []
            while len(found) < 3:
                delivery = await anext(source)
                if delivery.message.body != b"are you there?":
                    found.append(delivery.message)
                    await delivery.park("for its headers")
                await delivery.ack()
        letters = [each.message for each in await transport.parked("c")]
    assert letters == found
    bare, plain, event = found
    assert bare.id
    assert (bare.type, bare.key, bare.headers) == ("c", None, {})
    assert (plain.id, plain.type, plain.headers) == ("id", "Type", {"n": "1"})
    assert (event.id, event.key) == ("other", "\ufffd")


@pytest.mark.contract("WEB-705")
async def test_a_message_is_kept_on_disk_and_says_what_it_is(rabbit: Any) -> None:
    long = "l" * 300
    async with opened(rabbit.url) as transport, amqp(rabbit.url) as channel:
        message = TransportMessage(long, "Went", b"{}", "k", {"traceparent": "t", "CC": "elsewhere"})
        await transport.publish("c", [message])
        got = await (await channel.get_queue(C.waiting)).get()
        assert got.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
        assert got.type == "Went"
        assert {**got.headers, "x-delivery-count": None} == {
            "x-delivery-count": None,
            "cloudEvents:id": long,
            "cloudEvents:type": "Went",
            "cloudEvents:key": "k",
            "cloudEvents:traceparent": "t",
            "cloudEvents:CC": "elsewhere",
        }
        with pytest.raises(ValueError, match="bytes of headers"):
            await transport.publish("c", [TransportMessage("y", "Went", b"", "k" * 70_000)])
        await transport.publish("c", [sent("a")])
