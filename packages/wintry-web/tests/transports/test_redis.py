"""What the transports on Redis do beyond the contract: connections that break, groups that are lost, dead letters."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from wintry.bus import Runtime
from wintry.bus.errors import CapabilityError
from wintry.bus.transports import Listener, Runner, TransportMessage
from wintry.web.transports import redis_client, redis_reading
from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_pubsub import RedisPubSub

from .proxy import proxy_to
from .services import PATIENCE

pytestmark = pytest.mark.anyio
STREAM = "wintry:{c}"
ONE_KIND = pytest.mark.parametrize("redis_broker", ["valkey"], indirect=True)
"""For what is our own doing, and takes seconds."""


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await holds():
            await asyncio.sleep(0.02)


async def heard_by(transport: RedisStreams | RedisPubSub, into: list[str], group: str | None = "g") -> None:
    async with aclosing(transport.receive("c", group=group, prefetch=10)) as deliveries:
        async for delivery in deliveries:
            into.append(delivery.message.body.decode())
            await delivery.ack()


@asynccontextmanager
async def replica(
    url: str, owner: str, *, bridge: bool = False, group: str | None = "g"
) -> AsyncIterator[tuple[RedisStreams, list[str]]]:
    """A process that listens, and what it hears; its listener must not end by itself."""
    transport, heard = RedisStreams(url, owner=owner, bridge=bridge, lease=2), list[str]()
    await transport.start()
    listening = asyncio.ensure_future(heard_by(transport, heard, group))
    try:
        yield transport, heard
        assert not listening.done()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await transport.stop()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStreams]:
    """A process that sends, or listens by hand."""
    transport = RedisStreams(url, **{"owner": "me", "bridge": False, **options})
    await transport.start()
    try:
        yield transport
    finally:
        await transport.stop()


def sent(body: str) -> TransportMessage:
    return TransportMessage(f"id-{body}", "c", body.encode())


async def pending(url: str) -> int:
    async with Redis.from_url(url) as client:
        found = await client.xpending(STREAM, "g")
        return int(found["pending"])


@pytest.mark.contract("WEB-203")
async def test_a_group_that_is_lost_is_made_again(redis_broker: Any) -> None:
    async with replica(redis_broker.url, "one") as (one, heard):
        await one.publish("c", [sent("a")])

        async def complete() -> bool:
            return len(heard) == 1

        await until(complete)
        await one.client.flushall()
        heard.clear()
        await one.publish("c", [sent("b")])
        await until(complete)
        assert heard == ["b"]


@pytest.mark.contract("WEB-203")
async def test_a_broker_that_hangs_is_waited_for(redis_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_reading, "REPLY", 0.2)
    async with replica(redis_broker.url, "one") as (one, heard):
        await one.publish("c", [sent("a")])
        redis_broker.pause()
        await asyncio.sleep(redis_reading.BLOCK + 0.5)  # a reader has given up by now
        redis_broker.resume()
        await one.publish("c", [sent("b")])

        async def complete() -> bool:
            return heard == ["a", "b"]

        await until(complete)


@pytest.mark.contract("WEB-203")
@ONE_KIND
async def test_a_broker_that_hangs_is_not_reached(redis_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "REPLY", 0.2)
    async with opened(redis_broker.url) as transport:
        await transport.check()
        redis_broker.pause()
        for work in (transport.check(), transport.publish("c", [sent("a")]), transport.parked("c")):
            with pytest.raises(ConnectionError, match="no answer within 0.2 s"):
                await work
        redis_broker.resume()


@pytest.mark.contract("WEB-203")
@ONE_KIND
async def test_a_broken_stream_keeps_no_other_from_being_renewed(redis_broker: Any) -> None:
    async with opened(redis_broker.url, lease=0.6) as transport:
        sources = {channel: transport.receive(channel, group="g", prefetch=1) for channel in "bcdefghi"}
        for channel, source in sources.items():
            await transport.publish(channel, [sent("a")])
            await anext(source)
        for channel in "bdefghi":
            await transport.client.set(f"wintry:{{{channel}}}", "no stream")
        await asyncio.sleep(2.0)
        (entry,) = await transport.client.xpending_range(STREAM, "g", "-", "+", 1)
        assert entry["time_since_delivered"] < 600
        for source in sources.values():
            await source.aclose()


@pytest.mark.contract("WEB-203")
@ONE_KIND
async def test_silence_for_longer_than_a_reply_may_take_breaks_no_connection(
    redis_broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pubsub, plain = RedisPubSub(redis_broker.url), list[str]()
    listening = asyncio.ensure_future(heard_by(pubsub, plain, None))
    async with (
        replica(redis_broker.url, "one") as (one, shared),
        replica(redis_broker.url, "two", group=None) as (_, all),
    ):

        async def connections() -> dict[str, str]:
            return {each["id"]: each["cmd"] for each in await one.client.client_list()}

        async def all_there() -> bool:
            return len({"xreadgroup", "xread", "subscribe"} & set((await connections()).values())) == 3

        await until(all_there)
        before = await connections()
        await asyncio.sleep(5.5)  # the limit of the client for a reply is five seconds
        assert set(await connections()) == set(before)
        await one.publish("c", [sent("a")])
        await pubsub.publish("c", [sent("b")])

        async def complete() -> bool:
            return (shared, all, plain) == (["a"], ["a"], ["b"])

        await until(complete)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await pubsub.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.contract("WEB-204")
async def test_what_a_process_that_died_held_is_claimed_with_its_attempt_counted(redis_broker: Any) -> None:
    async with opened(redis_broker.url, owner="dead") as dead:
        await dead.publish("c", [sent("a")])
        await dead.client.xgroup_create(STREAM, "g", "0")
        await dead.client.xreadgroup("g", "dead:1", {STREAM: ">"})
    async with (
        opened(redis_broker.url, owner="other", lease=0.2) as other,
        aclosing(other.receive("c", group="g", prefetch=1)) as deliveries,
        asyncio.timeout(PATIENCE),
    ):
        delivery = await anext(deliveries)
        assert (delivery.message.id, delivery.attempt) == ("id-a", 2)
        await delivery.ack()


@pytest.mark.contract("WEB-204")
async def test_what_somebody_holds_for_longer_than_a_lease_stays_his(redis_broker: Any) -> None:
    async with opened(redis_broker.url, lease=0.3) as one, opened(redis_broker.url, owner="other", lease=0.3) as two:
        await one.publish("c", [sent("a")])
        async with aclosing(one.receive("c", group="g", prefetch=1)) as deliveries:
            delivery = await anext(deliveries)
            async with aclosing(two.receive("c", group="g", prefetch=1)) as others:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(others), 0.9)
            await delivery.ack()
    assert await pending(redis_broker.url) == 0


@pytest.mark.contract("WEB-401")
async def test_what_was_on_its_way_when_the_connection_broke_is_owed_first(redis_broker: Any) -> None:
    async with (
        proxy_to(redis_broker.url) as proxy,
        opened(redis_broker.url) as sender,
        opened(proxy.url, owner="p") as transport,
    ):
        proxy.cut_at(b"BLOCK", after=True)
        await sender.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries, asyncio.timeout(PATIENCE):
            first = asyncio.ensure_future(anext(deliveries))
            await proxy.cut.wait()
            await sender.publish("c", [sent("b")])
            delivery = await first
            assert (delivery.message.id, delivery.attempt) == ("id-a", 2)
            await delivery.ack()
            second = await anext(deliveries)
            assert (second.message.id, second.attempt) == ("id-b", 1)
            await second.ack()


@pytest.mark.contract("WEB-401")
async def test_a_connection_that_breaks_while_claiming_leaves_nothing_in_nobodys_hands(redis_broker: Any) -> None:
    async with opened(redis_broker.url, owner="dead") as dead:
        await dead.publish("c", [sent("a"), sent("b")])
        await dead.client.xgroup_create(STREAM, "g", "0")
        await dead.client.xreadgroup("g", "dead:1", {STREAM: ">"})
    async with proxy_to(redis_broker.url) as proxy, opened(proxy.url, owner="p", lease=0.2) as transport:
        proxy.cut_at(b"*6\r\n$8\r\nXPENDING")  # of a range, as claiming asks for it
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            got = {(await anext(deliveries)).message.id for _ in range(2)}
        assert proxy.cut.is_set()
        assert got == {"id-a", "id-b"}


@pytest.mark.contract("WEB-402")
@pytest.mark.parametrize("after", [False, True])
async def test_an_acknowledgement_waits_for_the_broker_and_is_not_lost(redis_broker: Any, after: bool) -> None:
    async with opened(redis_broker.url) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            first, second = await anext(deliveries), await anext(deliveries)
            redis_broker.kill()
            settling = asyncio.gather(first.ack(), second.park("it does not fit"))
            reading = asyncio.ensure_future(anext(deliveries))
            await asyncio.wait([settling], timeout=0.3)
            assert not settling.done()
            redis_broker.start()
            await settling
            await transport.publish("c", [sent("c")])
            assert (await reading).message.id == "id-c"
            assert [letter.message.id for letter in await transport.parked("c")] == ["id-b"]
    assert await pending(redis_broker.url) == 1


@pytest.mark.contract("WEB-402")
async def test_a_reply_that_is_lost_makes_no_second_dead_letter(redis_broker: Any) -> None:
    async with proxy_to(redis_broker.url) as proxy, opened(proxy.url) as transport:
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            delivery = await anext(deliveries)
            proxy.cut_at(b"XADD", after=True)
            await delivery.park("it does not fit")
            assert proxy.cut.is_set()
        assert len(await transport.parked("c")) == 1
    assert await pending(redis_broker.url) == 0


@pytest.mark.contract("WEB-402")
async def test_a_listener_that_ends_waits_for_no_broker(redis_broker: Any) -> None:
    async with opened(redis_broker.url) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            first, second = await anext(deliveries), await anext(deliveries)
            redis_broker.kill()
            settling = asyncio.ensure_future(first.ack())
            await second.release()
        await settling
    redis_broker.start()
    assert await pending(redis_broker.url) == 2


@pytest.mark.contract("WEB-402")
async def test_what_was_claimed_meanwhile_is_not_given_back(redis_broker: Any) -> None:
    async with opened(redis_broker.url) as transport:
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries:
            delivery = await anext(deliveries)
            ((id, _),) = await transport.client.xrange(STREAM)
            await transport.client.xclaim(STREAM, "g", "other", 0, [id])
            await delivery.release()
            (entry,) = await transport.client.xpending_range(STREAM, "g", "-", "+", 9)
            assert entry["consumer"] == b"other"


@pytest.mark.contract("WEB-205")
async def test_old_entries_go_only_when_they_are_acknowledged(redis_broker: Any) -> None:
    async with opened(redis_broker.url, retention=0, lease=0.1) as one:
        await one.client.xgroup_create(STREAM, "g", "0", mkstream=True)  # without a group nothing is kept for anybody
        await one.publish("c", [sent("0"), sent("a"), sent("b")])

        async def fewer_than(count: int) -> bool:
            return bool(await one.client.xlen(STREAM) < count)

        async with aclosing(one.receive("c", group="g", prefetch=3)) as deliveries:
            done, first, second = [await anext(deliveries) for _ in range(3)]
            await done.ack()
            await until(partial(fewer_than, 3))
            assert await one.client.xlen(STREAM) == 2
            await first.park("it does not fit")
            await second.ack()
        await until(partial(fewer_than, 2))
        (dead,) = await one.parked("c")
        assert (dead.message.id, dead.group, dead.reason) == ("id-a", "g", "it does not fit")


@pytest.mark.contract("WEB-205")
async def test_what_another_group_has_not_read_stays(redis_broker: Any) -> None:
    async with opened(redis_broker.url, retention=0, lease=0.1) as one:
        for group in ("behind", "g"):
            await one.client.xgroup_create(STREAM, group, "0", mkstream=True)
        await one.publish("c", [sent("0"), sent("a"), sent("b")])
        ((_, read),) = await one.client.xreadgroup("behind", "me", {STREAM: ">"}, count=2)
        await one.client.xack(STREAM, "behind", *(id for id, _ in read))
        async with aclosing(one.receive("c", group="g", prefetch=3)) as deliveries:
            for _ in range(3):
                await (await anext(deliveries)).ack()

        async def tidied() -> bool:
            return bool(await one.client.xlen(STREAM) < 3)

        await until(tidied)
        assert await one.client.xlen(STREAM) == 2


@pytest.mark.contract("WEB-403")
@pytest.mark.parametrize(
    ("fields", "body", "id"),
    [
        ({"body": '{"n": 1}'}, {"n": 1}, None),
        ({"n": "1", "name": "é"}, {"n": "1", "name": "é"}, None),
        ({"id": "x", "type": "Went", "body": "1", "traceparent": "t"}, 1, "x"),
    ],
)
async def test_what_others_add_to_the_stream_is_understood(
    redis_broker: Any, fields: dict[str, str], body: object, id: str | None
) -> None:
    async with opened(redis_broker.url) as transport:
        place = (await transport.client.xadd(STREAM, fields)).decode()
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries:
            delivery = await anext(deliveries)
            assert json.loads(delivery.message.body) == body
            assert delivery.message.id == (id or f"c:{place}")
            await delivery.ack()


@pytest.mark.contract("WEB-206")
async def test_pubsub_reaches_everyone_and_cannot_share(redis_broker: Any) -> None:
    transport, first, second = RedisPubSub(redis_broker.url), list[str](), list[str]()
    tasks = [asyncio.ensure_future(heard_by(transport, into, None)) for into in (first, second)]

    async def subscribed() -> bool:
        return dict(await transport.client.pubsub_numsub("c"))[b"c"] == 2

    await until(subscribed)
    await transport.publish("c", [sent("a")])

    async def complete() -> bool:
        return first == second == ["a"]

    await until(complete)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await transport.stop()

    async def handle(_: object) -> None: ...

    listener = Listener("one", "c", bytes.decode, handle)
    with pytest.raises(CapabilityError, match="share"):
        Runner(Runtime(transports={"p": transport}), transport, [listener], group="g")


@pytest.mark.contract("WEB-204")
async def test_many_in_the_hands_of_others_keep_a_listener_neither_from_what_was_left_nor_from_what_is_new(
    redis_broker: Any,
) -> None:
    async with Redis.from_url(redis_broker.url) as client, opened(redis_broker.url, lease=60) as transport:
        await transport.publish("c", [sent(f"{n}") for n in range(40)])
        await client.xgroup_create(STREAM, "g", "0")
        await client.xreadgroup("g", "busy", {STREAM: ">"}, count=40)
        (last,) = await client.xrevrange(STREAM, count=1)
        await client.xclaim(STREAM, "g", "gone", 0, [last[0]], time=1, justid=True)
        await transport.publish("c", [sent("new")])
        heard = list[str]()
        async with asyncio.timeout(PATIENCE), aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries:
            async for delivery in deliveries:
                heard.append(delivery.message.body.decode())
                await delivery.ack()
                if len(heard) == 2:
                    break
        assert heard == ["39", "new"]
