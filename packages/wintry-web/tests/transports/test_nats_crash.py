"""Consumers killed between effect and acknowledgement, brokers killed while messages flow: no loss, nothing twice."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from wintry.bus.transports import TransportMessage
from wintry.web.transports.nats import NatsStreams

pytestmark = pytest.mark.anyio
PATIENCE = 60.0
"""How many seconds something may take on a busy machine that takes one elsewhere."""
CHILD = Path(__file__).with_name("nats_child.py")
INVALID = {
    "no json": b"{",
    "no utf-8": b"\xff",
    "no object": b"[]",
    "wrong type": b'{"order": 1}',
    "unknown shape": b'{"other": "1"}',
    "empty": b"",
}


@asynccontextmanager
async def sender(url: str) -> AsyncIterator[NatsStreams]:
    transport = NatsStreams(url)
    yield transport
    await transport.stop()


async def order(transport: NatsStreams, id: str, body: bytes | None = None) -> None:
    sent = json.dumps({"order": id}).encode() if body is None else body
    await transport.publish("orders", [TransportMessage(f"id-{id}", "order", sent)])


@asynccontextmanager
async def child(
    url: str, folder: Path, point: str = "-", mode: str = "on"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service, which ends with the block at the latest."""
    with (folder / "log").open("ab") as log:
        arguments = (url, str(folder), point, mode)
        process = await asyncio.create_subprocess_exec(sys.executable, CHILD, *arguments, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(url: str, folder: Path, point: str = "-", mode: str = "on") -> int:
    """A service from its start to its end; the code that it exits with."""
    async with child(url, folder, point, mode) as process, asyncio.timeout(PATIENCE):
        return await process.wait()


async def end(url: str) -> None:
    """Say that nothing more will be sent."""
    client = await nats.connect(url)
    await client.jsm().add_stream(name="ended", subjects=["ended"])
    await client.close()


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


async def killed_at(point: str, url: str, folder: Path) -> None:
    """A consumer dies at `point`, another one goes on: every order has its effect once, every bad one its dead letter."""
    async with sender(url) as transport:
        for n in range(12):
            await order(transport, str(n))
            await order(transport, f"bad-{n}", b'{"order": "bad"}')
        await end(url)
    assert await run(url, folder, point) == -signal.SIGKILL
    assert await run(url, folder) == 0
    assert counts(folder) == {str(n): 1 for n in range(12)}
    dead = stored(folder, "SELECT id FROM _wintry_journal WHERE status = 'parked'")
    assert sorted(dead) == sorted((f"id-bad-{n}",) for n in range(12))


@pytest.mark.contract("WEB-608")
@pytest.mark.parametrize("point", ["received", "listened", "acked", "buried"])
async def test_a_consumer_that_is_killed_loses_and_doubles_nothing(
    nats_broker: Any, tmp_path: Path, point: str
) -> None:
    await killed_at(point, nats_broker.url, tmp_path)


@pytest.mark.contract("WEB-608")
async def test_without_an_inbox_an_effect_would_be_doubled(nats_broker: Any, tmp_path: Path) -> None:
    async with sender(nats_broker.url) as transport:
        for n in range(12):
            await order(transport, str(n))
        await end(nats_broker.url)
    await run(nats_broker.url, tmp_path, "listened", "no-inbox")
    await run(nats_broker.url, tmp_path, "-", "no-inbox")
    assert max(counts(tmp_path).values()) == 2


class Sender:
    """Sends orders until it is told to end; `taken` are those that the broker has acknowledged."""

    def __init__(self, transport: NatsStreams) -> None:
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
        async with asyncio.timeout(PATIENCE):
            while len(self.taken) < wanted:
                await asyncio.sleep(0.005)


@pytest.mark.contract("WEB-608")
async def test_a_broker_and_a_consumer_that_are_killed_while_messages_flow(nats_broker: Any, tmp_path: Path) -> None:
    async with (
        child(nats_broker.url, tmp_path) as victim,
        child(nats_broker.url, tmp_path) as survivor,
        sender(nats_broker.url) as transport,
    ):
        sending = Sender(transport)
        task = asyncio.ensure_future(sending.run())
        async with asyncio.timeout(PATIENCE):
            while not counts(tmp_path):
                await asyncio.sleep(0.05)
        for _ in range(2):
            await asyncio.to_thread(nats_broker.kill)
            await asyncio.to_thread(nats_broker.start)
            await sending.more(50)
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        await sending.more(50)
        sending.ended = True
        await task
        await end(nats_broker.url)
        async with asyncio.timeout(PATIENCE):
            assert await survivor.wait() == 0
    found = counts(tmp_path)
    assert sending.taken <= found.keys()
    assert set(found.values()) == {1}


@pytest.mark.contract("WEB-609")
async def test_what_is_invalid_is_a_dead_letter_with_the_reason(nats_broker: Any, tmp_path: Path) -> None:
    async with sender(nats_broker.url) as transport:
        for name, body in INVALID.items():
            await order(transport, name, body)
        await order(transport, "good")
        await end(nats_broker.url)
    assert await run(nats_broker.url, tmp_path) == 0
    assert counts(tmp_path) == {"good": 1}
    dead = dict(stored(tmp_path, "SELECT id, error FROM _wintry_journal WHERE status = 'parked'"))
    assert dead.keys() == {f"id-{name}" for name in INVALID}
    assert all(reason.startswith("the body does not fit: ") for reason in dead.values())
    assert "an order is a text" in dead["id-wrong type"]
