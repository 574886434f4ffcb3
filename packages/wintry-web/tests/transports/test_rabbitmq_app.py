"""Applications on RabbitMQ as a user writes them: two replicas, and somebody with another client."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from wintry.web import App, TransporterSettings, TransporterType, WinterSettings
from wintry.web.transports.rabbitmq import RabbitMQ
from wintry.web.transports.rabbitmq_wire import Names

PATIENCE = 60.0
"""How many seconds something may take on a busy machine that takes one elsewhere."""
pytestmark = pytest.mark.anyio
CHANNEL = "change_batch_quantity"

FEEDS = """
from wintry.bus import Command, MessageQueue, command_handler
from wintry.ioc import provider
from wintry.web import TransporterType, microservice, on

handled = []
heard = []


class ChangeBatchQuantity(Command):
    ref: str
    qty: int


@provider
class MessageBus(MessageQueue):
    @command_handler
    async def change(self, command: ChangeBatchQuantity) -> None:
        handled.append((command.ref, command.qty))


@microservice(TransporterType.rabbitmq)
class RabbitMessagesControllers:
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        await self.messagebus.handle(cmd)

    @on("change_batch_quantity", broadcast=True)
    async def hear(self, cmd: ChangeBatchQuantity):
        heard.append(cmd.qty)
"""


@pytest.fixture
async def feeds(rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Two replicas run; the module with what they have handled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feeds.py").write_text(FEEDS)
    importlib.invalidate_caches()
    entry = TransporterSettings(transporter=TransporterType.rabbitmq, url=rabbitmq_url)
    async with AsyncExitStack() as running:
        for _ in range(2):
            app = App("feeds", settings=WinterSettings(transporters=[entry]))
            await running.enter_async_context(app.running())
        yield sys.modules["feeds"]
    sys.modules.pop("feeds")


async def say(url: str, *bodies: str) -> None:
    """Publish bare bodies, as another team's program does."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(Names(CHANNEL).exchange, "fanout", durable=True)
        for body in bodies:
            await exchange.publish(aio_pika.Message(body.encode("latin-1")), "")


async def until_both_hear(url: str, feeds: Any) -> None:
    """Say something until both replicas have heard one and the same."""
    number = 0
    async with asyncio.timeout(PATIENCE):
        while not number or feeds.heard.count(-number) < 2:
            number += 1
            await say(url, f'{{"ref": "probe", "qty": {-number}}}')
            await asyncio.sleep(0.05)
        feeds.heard.clear()


@pytest.mark.contract("WEB-707")
async def test_a_message_is_handled_once_by_two_replicas_and_heard_by_both(rabbitmq_url: str, feeds: Any) -> None:
    await until_both_hear(rabbitmq_url, feeds)
    await say(rabbitmq_url, *(f'{{"ref":"batch-{n}","qty":{n}}}' for n in range(1, 20)))
    async with asyncio.timeout(PATIENCE):
        while len(feeds.heard) < 38 or len([each for each in feeds.handled if each[1] > 0]) < 19:
            await asyncio.sleep(0.01)
    assert sorted(each for each in feeds.handled if each[1] > 0) == sorted((f"batch-{n}", n) for n in range(1, 20))
    assert sorted(each for each in feeds.heard if each > 0) == sorted([*range(1, 20), *range(1, 20)])


@pytest.mark.contract("WEB-707")
async def test_without_a_journal_what_is_invalid_is_in_the_dead_letter_queue(rabbitmq_url: str, feeds: Any) -> None:
    await until_both_hear(rabbitmq_url, feeds)
    await say(rabbitmq_url, "{", "[]", '{"ref":"b","qty":"many"}', '{"batch":"b"}', "\xff")
    await say(rabbitmq_url, '{"ref":"batch-1","qty":1}')
    transport = RabbitMQ(rabbitmq_url, owner="reader")
    async with asyncio.timeout(PATIENCE):
        while len(letters := await transport.parked(CHANNEL)) < 5 or ("batch-1", 1) not in feeds.handled:
            await asyncio.sleep(0.01)
    assert [each for each in feeds.handled if each[1] > 0] == [("batch-1", 1)]
    assert len(letters) == 5
    assert all(letter.reason.startswith("the body does not fit: ") for letter in letters)
    assert "qty" in next(letter.reason for letter in letters if b"many" in letter.message.body)
    await transport.stop()
