"""What the transports on Redis do beyond the contract: brokers that go away, plain PUBLISH, groups that are lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from wintry.bus import Runtime
from wintry.bus.errors import CapabilityError
from wintry.bus.transports import Listener, Runner, TransportMessage
from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_pubsub import RedisPubSub

pytestmark = pytest.mark.anyio


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


async def heard_by(transport: RedisStreams | RedisPubSub, into: list[str], group: str | None = "g") -> None:
    async with aclosing(transport.receive("c", group=group, prefetch=10)) as deliveries:
        async for delivery in deliveries:
            into.append(delivery.message.body.decode())
            await delivery.ack()


@asynccontextmanager
async def replica(url: str, owner: str, *, bridge: bool = True) -> AsyncIterator[tuple[RedisStreams, list[str]]]:
    transport, heard = RedisStreams(url, owner=owner, bridge=bridge, lease=2), list[str]()
    await transport.start()
    listening = asyncio.ensure_future(heard_by(transport, heard))
    try:
        yield transport, heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await transport.stop()


def sent(body: str) -> TransportMessage:
    return TransportMessage(f"id-{body}", "c", body.encode())


@pytest.mark.contract("WEB-202")
async def test_a_plain_publish_is_handled_once_by_two_replicas(redis_server: Any) -> None:
    async with replica(redis_server.url, "one") as (one, first), replica(redis_server.url, "two") as (_, second):

        async def subscribed() -> bool:
            return dict(await one.client.pubsub_numsub("c"))[b"c"] == 1

        await until(subscribed)
        for n in range(20):
            await one.client.publish("c", f"{n}")

        async def complete() -> bool:
            return len(first) + len(second) >= 20

        await until(complete)
        assert sorted([*first, *second], key=int) == [str(n) for n in range(20)]
        assert await one.client.xlen("wintry:{c}") == 20


@pytest.mark.contract("WEB-202")
async def test_another_replica_hears_when_the_elected_one_ends(redis_server: Any) -> None:
    async with replica(redis_server.url, "two") as (two, heard):
        async with replica(redis_server.url, "one"):
            pass

        async def subscribed() -> bool:
            return dict(await two.client.pubsub_numsub("c"))[b"c"] == 1

        await until(subscribed)
        await two.client.publish("c", "late")

        async def complete() -> bool:
            return heard == ["late"]

        await until(complete)


@pytest.mark.contract("WEB-202")
async def test_without_the_bridge_a_plain_publish_is_not_heard(redis_server: Any) -> None:
    async with replica(redis_server.url, "one", bridge=False) as (one, heard):
        await one.publish("c", [sent("a")])

        async def complete() -> bool:
            return heard == ["a"]

        await until(complete)
        assert await one.client.publish("c", "b") == 0


@pytest.mark.contract("WEB-203")
async def test_a_group_that_is_lost_is_made_again(redis_url: str) -> None:
    async with replica(redis_url, "one", bridge=False) as (one, heard):
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
async def test_messages_flow_on_when_the_broker_was_killed(redis_server: Any) -> None:
    async with replica(redis_server.url, "one", bridge=False) as (one, heard):
        taken = []
        for n in range(60):
            if n == 20:
                redis_server.kill()
            if n == 25:
                redis_server.start()
            try:
                await one.publish("c", [sent(str(n))])
                taken.append(str(n))
            except ConnectionError:
                assert n >= 20

        async def complete() -> bool:
            return set(taken) <= set(heard)

        await until(complete)
        assert len(taken) >= 50


@pytest.mark.contract("WEB-203")
async def test_a_broker_that_is_down_at_the_start_is_waited_for(redis_server: Any) -> None:
    redis_server.kill()
    async with replica(redis_server.url, "one") as (one, heard):
        with pytest.raises(ConnectionError):
            await one.check()
        redis_server.start()
        await one.publish("c", [sent("a")])

        async def complete() -> bool:
            return heard == ["a"]

        await until(complete)


@pytest.mark.contract("WEB-204")
async def test_what_a_process_that_died_held_is_claimed_with_its_attempt_counted(redis_url: str) -> None:
    dead = RedisStreams(redis_url, owner="dead", lease=0.2, bridge=False)
    await dead.publish("c", [sent("a")])
    await dead.client.xgroup_create("wintry:{c}", "g", "0")
    await dead.client.xreadgroup("g", "dead:1", {"wintry:{c}": ">"})
    await dead.stop()
    other = RedisStreams(redis_url, owner="other", lease=0.2, bridge=False)
    await other.start()
    async with asyncio.timeout(10), aclosing(other.receive("c", group="g", prefetch=1)) as deliveries:
        delivery = await anext(deliveries)
        assert (delivery.message.id, delivery.attempt) == ("id-a", 2)
        await delivery.ack()
    await other.stop()


@pytest.mark.contract("WEB-205")
async def test_dead_letters_have_their_reason_and_old_entries_go_only_when_acknowledged(redis_url: str) -> None:
    one = RedisStreams(redis_url, owner="one", bridge=False, retention=0)
    await one.publish("c", [sent("a"), sent("b")])
    async with aclosing(one.receive("c", group="g", prefetch=2)) as deliveries:
        first, second = await anext(deliveries), await anext(deliveries)
        await one._tidy("c")
        assert await one.client.xlen("wintry:{c}") == 2
        await first.park("it does not fit")
        await second.ack()
    (dead,) = await one.parked("c")
    assert (dead.message.id, dead.group, dead.reason) == ("id-a", "g", "it does not fit")
    await one.stop()


@pytest.mark.contract("WEB-206")
async def test_pubsub_reaches_everyone_and_cannot_share(redis_server: Any) -> None:
    transport, first, second = RedisPubSub(redis_server.url), list[str](), list[str]()
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
