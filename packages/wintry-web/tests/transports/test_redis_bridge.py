"""What is sent by a plain PUBLISH is heard by one of all replicas, and handled once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from wintry_test_servers.nursery import Nursery

from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_bridge import ADD, LOOK, TENURE, Bridge

from .services import PATIENCE, forked

pytestmark = [pytest.mark.anyio, pytest.mark.contract("WEB-202")]
CHANNEL = "change_batch_quantity"
STREAM = f"wintry:{{{CHANNEL}}}"
SLACK = 2.5
"""How many seconds later than it should a busy machine may do something."""


async def listen(transport: RedisStreams, heard: list[str], channel: str = CHANNEL) -> None:
    async with aclosing(transport.receive(channel, group="g", prefetch=10)) as deliveries:
        async for delivery in deliveries:
            heard.append(delivery.message.body.decode())
            await delivery.ack()


@asynccontextmanager
async def replica(url: str, owner: str, heard: list[str], *, bridge: bool = True) -> AsyncIterator[RedisStreams]:
    """A process that listens, and what it hears."""
    transport = RedisStreams(url, owner=owner, bridge=bridge)
    await transport.start()
    listening = asyncio.ensure_future(listen(transport, heard))
    try:
        yield transport
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await transport.stop()


@pytest.fixture
async def client(redis_broker: Any) -> AsyncIterator[Any]:
    # Without its time limit for sending, which on Python 3.11 can swallow the cancellation of who publishes.
    async with Redis.from_url(redis_broker.url, socket_timeout=None) as client:
        yield client


async def subscribed(client: Any, wanted: int, channel: str = CHANNEL) -> None:
    """Return when so many connections are subscribed."""
    async with asyncio.timeout(PATIENCE):
        while dict(await client.pubsub_numsub(channel))[channel.encode()] != wanted:
            await asyncio.sleep(0.002)


async def heard_all(heard: list[str], *wanted: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not set(wanted) <= set(heard):
            await asyncio.sleep(0.01)


async def test_a_plain_publish_is_handled_once_by_two_replicas(redis_broker: Any, client: Any) -> None:
    first, second = list[str](), list[str]()
    async with replica(redis_broker.url, "one", first), replica(redis_broker.url, "two", second):
        await subscribed(client, 1)
        for n in range(20):
            await client.publish(CHANNEL, f"{n}")
        async with asyncio.timeout(PATIENCE):
            while len(first) + len(second) < 20:
                await asyncio.sleep(0.01)
        assert sorted([*first, *second], key=int) == [str(n) for n in range(20)]
        assert await client.xlen(STREAM) == 20


async def test_without_the_bridge_a_plain_publish_is_not_heard(redis_broker: Any, client: Any) -> None:
    heard = list[str]()
    async with replica(redis_broker.url, "one", heard, bridge=False):
        await client.xadd(STREAM, {"body": "a"})
        await heard_all(heard, "a")
        assert await client.publish(CHANNEL, "b") == 0


async def test_the_bridge_comes_back_with_the_broker(redis_broker: Any, client: Any) -> None:
    heard = list[str]()
    async with replica(redis_broker.url, "one", heard):
        await subscribed(client, 1)
        await asyncio.to_thread(redis_broker.kill)
        await asyncio.to_thread(redis_broker.start)
        await client.connection_pool.disconnect()
        await subscribed(client, 1)
        await client.publish(CHANNEL, "a")
        await heard_all(heard, "a")


async def test_what_was_heard_is_kept_until_the_broker_takes_it(
    redis_broker: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, refused = Redis.execute_command, list[str]()

    async def refuse_once(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments[:2] == ("EVAL", ADD) and len(refused) < 2:
            refused.append(arguments[-1].decode())
            raise RedisConnectionError("away")
        return await execute(self, *arguments, **options)

    heard = list[str]()
    async with replica(redis_broker.url, "one", heard):
        await subscribed(client, 1)
        monkeypatch.setattr(Redis, "execute_command", refuse_once)
        await client.publish(CHANNEL, "a")
        await heard_all(heard, "a")
        await subscribed(client, 1)
        await client.publish(CHANNEL, "b")
        await heard_all(heard, "b")
    assert refused == ["a", "a"]
    assert heard == ["a", "b"]


async def test_a_channel_that_nobody_wants_any_more_is_given_up(redis_broker: Any, client: Any) -> None:
    async with replica(redis_broker.url, "one", []) as one:
        listening = asyncio.ensure_future(listen(one, [], "other"))
        await subscribed(client, 1, "other")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await subscribed(client, 0, "other")
        async with asyncio.timeout(PATIENCE):
            while await client.exists("wintry:{other}:bridge"):
                await asyncio.sleep(0.01)


async def test_who_ends_gives_up_whatever_he_was_doing(redis_broker: Any, client: Any) -> None:
    before = asyncio.all_tasks()
    for steps in range(25):
        bridge = Bridge(redis_broker.url, "one")
        bridge.add(CHANNEL)
        await subscribed(client, 1)
        bridge.remove(CHANNEL)
        for _ in range(steps):
            await asyncio.sleep(0)
        await bridge.stop()
        assert asyncio.all_tasks() == before, f"{steps} steps after its last listener it left a task"
        assert not await client.exists(f"{STREAM}:bridge"), f"it ended {steps} steps after its last listener"


async def window(client: Any, leave: Callable[[], Awaitable[object]]) -> float:
    """For how many seconds what is PUBLISHed is not heard when the elected process leaves."""
    times = list[float]()

    async def publish() -> None:
        while True:
            times.append(time.monotonic())
            await client.publish(CHANNEL, str(len(times) - 1))
            await asyncio.sleep(0.002)

    async def bridged() -> list[int]:
        return [int(fields[b"body"]) for _, fields in await client.xrange(STREAM)]

    async def newest() -> int:
        return max((int(fields[b"body"]) for _, fields in await client.xrevrange(STREAM, count=1)), default=-1)

    await subscribed(client, 1)
    publishing = asyncio.ensure_future(publish())
    try:
        async with asyncio.timeout(PATIENCE):
            while await newest() < 0:
                await asyncio.sleep(0.01)
            await leave()
            left = len(times)
            while await newest() <= left:
                await asyncio.sleep(0.01)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    heard = await bridged()
    assert len(heard) == len(set(heard))
    missed = [n for n in range(min(heard), max(heard)) if n not in heard]
    return times[missed[-1] + 1] - times[missed[0]] if missed else 0.0


async def test_another_replica_hears_when_the_elected_one_ends(
    redis_broker: Any, client: Any, record_property: Callable[[str, object], None]
) -> None:
    async with AsyncExitStack() as elected:
        await elected.enter_async_context(replica(redis_broker.url, "one", []))
        await subscribed(client, 1)
        async with replica(redis_broker.url, "two", []):
            seconds = await window(client, elected.aclose)
    record_property("window", seconds)
    print(f"window after an orderly end: {seconds * 1000:.0f} ms")
    assert seconds < SLACK


async def test_another_replica_hears_when_the_elected_one_is_killed(
    redis_broker: Any,
    client: Any,
    nursery: Nursery,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    arguments = ("listen", redis_broker.name, redis_broker.url, CHANNEL)
    async with forked(nursery, tmp_path / "log", *arguments) as elected:

        async def kill() -> None:
            elected.kill()
            await elected.wait()

        await subscribed(client, 1)
        async with replica(redis_broker.url, "two", []):
            seconds = await window(client, kill)
    record_property("window", seconds)
    print(f"window after kill -9: {seconds * 1000:.0f} ms")
    assert seconds < TENURE + LOOK + SLACK
