"""The kinds of broker, each described once: for the tests, and for the services that they kill.

What the suites here ask of every broker, and every client asks in another way, is a field of `Kind`. What is asked of
one kind alone stands in that one's own module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika
import nats
from redis.asyncio import Redis

from wintry.web.transports import nats_wire, rabbitmq_wire, redis_reading, redis_wire, waiting
from wintry.web.transports.nats import NatsStreams
from wintry.web.transports.rabbitmq import RabbitMQ
from wintry.web.transports.redis import RedisStreams


@dataclass(frozen=True)
class Kind:
    """A kind of broker.

    `connect(url, owner, lease)` makes a transport, which has `parked`. `left(url, channel, group)` is how many messages
    a group has not done with; of RabbitMQ without those that somebody holds. `tell(url, channel, bodies)` publishes bare
    bodies as another team's program does: nothing is kept where nobody has listened yet.
    """

    server: str
    transporter: str
    connect: Callable[[str, str, float], Any]
    left: Callable[[str, str, str], Awaitable[int]]
    tell: Callable[[str, str, Sequence[bytes]], Awaitable[None]]


async def left_on_redis(url: str, channel: str, group: str) -> int:
    stream = redis_wire.stream_of(channel)
    async with Redis.from_url(url) as client:
        (found,) = [each for each in await client.xinfo_groups(stream) if each["name"] == group.encode()]
        unread = await client.xrange(stream, min=f"({found['last-delivered-id'].decode()}")  # its lag may be unknown
        return int(found["pending"]) + len(unread)


async def left_on_rabbitmq(url: str, channel: str, group: str) -> int:
    names = rabbitmq_wire.Names(channel)
    async with await aio_pika.connect(url) as connection, connection.channel() as asking:
        queues = [await asking.declare_queue(name, passive=True) for name in (names.queue(group), names.waiting)]
    return sum(queue.declaration_result.message_count or 0 for queue in queues)


async def left_on_nats(url: str, channel: str, group: str) -> int:
    client = await nats.connect(url)
    try:
        found = await client.jsm().consumer_info(nats_wire.stream_of(channel), group)
        return (found.num_pending or 0) + (found.num_ack_pending or 0)
    finally:
        await client.close()


async def tell_redis(url: str, channel: str, bodies: Sequence[bytes]) -> None:
    async with Redis.from_url(url) as client:
        for body in bodies:
            await client.publish(channel, body)


async def tell_rabbitmq(url: str, channel: str, bodies: Sequence[bytes]) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as sending:
        exchange = await sending.declare_exchange(rabbitmq_wire.Names(channel).exchange, "fanout", durable=True)
        for body in bodies:
            await exchange.publish(aio_pika.Message(body), "")


async def tell_nats(url: str, channel: str, bodies: Sequence[bytes]) -> None:
    client = await nats.connect(url)
    try:
        for body in bodies:
            await client.publish(nats_wire.subject_of(channel), body)
        await client.flush()
    finally:
        await client.close()


def redis_streams(url: str, owner: str, lease: float) -> RedisStreams:
    return RedisStreams(url, owner=owner, lease=lease)


def rabbitmq(url: str, owner: str, _: float) -> RabbitMQ:
    return RabbitMQ(url, owner=owner)


def nats_streams(url: str, _: str, lease: float) -> NatsStreams:
    return NatsStreams(url, lease=lease)


KINDS = {
    "valkey": Kind("redis", "redis", redis_streams, left_on_redis, tell_redis),
    "redis": Kind("redis_system", "redis", redis_streams, left_on_redis, tell_redis),
    "rabbitmq": Kind("rabbitmq", "rabbitmq", rabbitmq, left_on_rabbitmq, tell_rabbitmq),
    "nats": Kind("nats", "nats", nats_streams, left_on_nats, tell_nats),
}
"""By name; the redis-server of the system is one beside Valkey."""

HASTE: list[tuple[Any, str, float]] = [
    (waiting, "LONGEST_WAIT", 0.5),
    (redis_reading, "BLOCK", 0.25),
]
"""Tests and their services wait less: for a broker that is away, and in a read of Redis before they look around."""
