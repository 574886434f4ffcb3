"""Applications on Redis as a user writes them: two replicas, and somebody with redis-cli."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from wintry.web import App, TransporterSettings, TransporterType, WinterSettings
from wintry.web.transports.redis import RedisStreams

PATIENCE = 60.0
"""How many seconds something may take on a busy machine that takes one elsewhere."""
pytestmark = pytest.mark.anyio

FEEDS = """
from wintry.bus import Command, MessageQueue, command_handler
from wintry.ioc import provider
from wintry.web import TransporterType, microservice, on

handled = []


class ChangeBatchQuantity(Command):
    ref: str
    qty: int


@provider
class MessageBus(MessageQueue):
    @command_handler
    async def change(self, command: ChangeBatchQuantity) -> None:
        handled.append((command.ref, command.qty))


@microservice(TransporterType.redis)
class RedisMessagesControllers:
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        await self.messagebus.handle(cmd)
"""


@pytest.fixture
async def handled(broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[tuple[str, int]]]:
    """Two replicas run; what they have handled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feeds.py").write_text(FEEDS)
    importlib.invalidate_caches()
    entry = TransporterSettings(transporter=TransporterType.redis, url=broker.url)
    async with AsyncExitStack() as running:
        for _ in range(2):
            app = App("feeds", settings=WinterSettings(transporters=[entry]))
            await running.enter_async_context(app.running())
        yield sys.modules["feeds"].handled
    sys.modules.pop("feeds")


async def say(url: str, *lines: str) -> list[str]:
    """Type these lines into a connection, and read a line for each."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.writelines(f"{line}\r\n".encode() for line in lines)
    answers = [(await reader.readline()).decode().strip() for _ in lines]
    writer.close()
    await writer.wait_closed()
    return answers


async def until_one_hears(url: str, line: str) -> None:
    """Say it until somebody has heard it, which nobody has before."""
    async with asyncio.timeout(PATIENCE):
        while await say(url, line) == [":0"]:
            await asyncio.sleep(0.01)


@pytest.mark.contract("WEB-202")
async def test_a_publish_from_redis_cli_is_handled_once_by_two_replicas(broker: Any, handled: list[Any]) -> None:
    await until_one_hears(broker.url, """PUBLISH change_batch_quantity '{"ref":"batch-0","qty":0}'""")
    lines = [f"""PUBLISH change_batch_quantity '{{"ref":"batch-{n}","qty":{n}}}'""" for n in range(1, 20)]
    assert await say(broker.url, *lines) == [":1"] * 19
    async with asyncio.timeout(PATIENCE):
        while len(handled) < 20:
            await asyncio.sleep(0.01)
    assert sorted(handled, key=lambda each: each[1]) == [(f"batch-{n}", n) for n in range(20)]


@pytest.mark.contract("WEB-405")
async def test_without_a_journal_what_is_invalid_is_in_the_dead_letter_stream(broker: Any, handled: list[Any]) -> None:
    await until_one_hears(broker.url, "PUBLISH change_batch_quantity {")
    wrong = ["[]", '\'{"ref":"b","qty":"many"}\'', '\'{"batch":"b"}\'', '"\\xff"']
    await say(broker.url, *(f"PUBLISH change_batch_quantity {body}" for body in wrong))
    await say(broker.url, """PUBLISH change_batch_quantity '{"ref":"batch-1","qty":1}'""")
    transport = RedisStreams(broker.url, owner="reader", bridge=False)
    async with asyncio.timeout(PATIENCE):
        while len(letters := await transport.parked("change_batch_quantity")) < 5 or not handled:
            await asyncio.sleep(0.01)
    assert handled == [("batch-1", 1)]
    assert all(letter.reason.startswith("the body does not fit: ") for letter in letters)
    assert "qty" in next(letter.reason for letter in letters if b"many" in letter.message.body)
    await transport.stop()
