"""On RabbitMQ: consumers killed between effect and acknowledgement, brokers killed while messages flow."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from wintry.bus.transports import TransportMessage
from wintry.web.transports.rabbitmq import RabbitMQ
from wintry.web.transports.rabbitmq_wire import Names

pytestmark = pytest.mark.anyio
PATIENCE = 60.0
"""How many seconds something may take on a busy machine that takes one elsewhere."""
CHILD = Path(__file__).with_name("rabbitmq_child.py")
ORDERS = Names("orders")


@asynccontextmanager
async def sender(url: str) -> AsyncIterator[RabbitMQ]:
    transport = RabbitMQ(url, owner="sender")
    yield transport
    await transport.stop()


async def order(transport: RabbitMQ, id: str, body: bytes | None = None) -> None:
    sent = json.dumps({"order": id}).encode() if body is None else body
    await transport.publish("orders", [TransportMessage(f"id-{id}", "order", sent)])


@asynccontextmanager
async def child(
    url: str, folder: Path, point: str = "-", mode: str = "on"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service, which ends with the block at the latest."""
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, CHILD, url, str(folder), point, mode, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> int:
    """Ask a service to end, and wait for it; the code that it exits with."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


def stored(folder: Path, text: str) -> list[Any]:
    """What the database has; nothing while it is being made."""
    connection = sqlite3.connect(folder / "default.db")
    try:
        return connection.execute(text).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def counts(folder: Path) -> dict[str, int]:
    return dict(stored(folder, "SELECT id, count FROM effects"))


def dead(folder: Path) -> dict[str, str]:
    return dict(stored(folder, "SELECT id, error FROM _wintry_journal WHERE status = 'parked'"))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.05)


async def left(url: str) -> int:
    """How many messages are still in the queues of the channel, when nobody holds any."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = 0
        for name in (ORDERS.queue("shop"), ORDERS.waiting):
            queue = await channel.declare_queue(name, passive=True)
            found += queue.declaration_result.message_count or 0
        return found


async def killed_at(point: str, url: str, folder: Path) -> None:
    """A consumer dies at `point`, another one goes on: every order has its effect once, every bad one its dead letter."""
    async with sender(url) as transport:
        for n in range(12):
            await order(transport, str(n))
            await order(transport, f"bad-{n}", b'{"order": "bad"}')
    async with child(url, folder, point) as victim, asyncio.timeout(PATIENCE):
        assert await victim.wait() == -signal.SIGKILL
    async with child(url, folder) as survivor:
        await until(lambda: len(counts(folder)) == len(dead(folder)) == 12)
        async with asyncio.timeout(PATIENCE):
            while await left(url):
                await asyncio.sleep(0.05)
        assert await ended(survivor) == 0  # with what it holds settled
    assert await left(url) == 0
    assert counts(folder) == {str(n): 1 for n in range(12)}
    assert sorted(dead(folder)) == sorted(f"id-bad-{n}" for n in range(12))


@pytest.mark.contract("WEB-706")
@pytest.mark.parametrize("point", ["received", "listened", "acked", "buried"])
async def test_a_consumer_that_is_killed_loses_and_doubles_nothing(rabbit: Any, tmp_path: Path, point: str) -> None:
    await killed_at(point, rabbit.url, tmp_path)


@pytest.mark.contract("WEB-706")
async def test_without_an_inbox_an_effect_would_be_doubled(rabbit: Any, tmp_path: Path) -> None:
    async with sender(rabbit.url) as transport:
        for n in range(12):
            await order(transport, str(n))
    async with child(rabbit.url, tmp_path, "listened", "no-inbox") as victim, asyncio.timeout(PATIENCE):
        await victim.wait()
    async with child(rabbit.url, tmp_path, "-", "no-inbox"):
        await until(lambda: len(counts(tmp_path)) == 12 and max(counts(tmp_path).values()) == 2)


class Sender:
    """Sends orders until it is told to end; `taken` are those that the broker has confirmed."""

    def __init__(self, transport: RabbitMQ) -> None:
        self.taken = set[str]()
        self.ended = False
        self._transport = transport

    async def run(self) -> None:
        number = 0
        while not self.ended:
            number += 1
            try:
                await order(self._transport, str(number))
                self.taken.add(str(number))
            except ConnectionError:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.002)

    async def more(self, count: int) -> None:
        wanted = len(self.taken) + count
        await until(lambda: len(self.taken) >= wanted)


@pytest.mark.contract("WEB-706")
async def test_a_broker_and_a_consumer_that_are_killed_while_messages_flow(rabbit: Any, tmp_path: Path) -> None:
    async with (
        child(rabbit.url, tmp_path) as victim,
        child(rabbit.url, tmp_path) as survivor,
        sender(rabbit.url) as transport,
    ):
        sending = Sender(transport)
        task = asyncio.ensure_future(sending.run())
        await until(lambda: bool(counts(tmp_path)))
        for _ in range(2):
            await asyncio.to_thread(rabbit.kill)
            await asyncio.to_thread(rabbit.start)
            await sending.more(50)
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        await sending.more(50)
        sending.ended = True
        await task
        await until(lambda: sending.taken <= counts(tmp_path).keys())
        assert await ended(survivor) == 0
    assert set(counts(tmp_path).values()) == {1}


@pytest.mark.contract("WEB-706")
async def test_a_service_ends_in_time_while_its_broker_is_away(rabbit: Any, tmp_path: Path) -> None:
    async with child(rabbit.url, tmp_path) as process, sender(rabbit.url) as transport:
        await order(transport, "1")
        await until(lambda: bool(counts(tmp_path)))
        rabbit.kill()
        async with asyncio.timeout(20):
            assert await ended(process) == 0
