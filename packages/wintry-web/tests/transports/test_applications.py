"""Applications on a broker as a user writes them: two replicas, and somebody with another client."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from wintry.web import App, TransporterSettings, WinterSettings

from .services import PATIENCE

pytestmark = pytest.mark.anyio
CHANNEL = "change_batch_quantity"
INVALID = [b"{", b"[]", b'{"ref":"b","qty":"many"}', b'{"batch":"b"}', b"\xff", b""]

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


@microservice(TransporterType.TRANSPORTER)
class MessagesControllers:
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        await self.messagebus.handle(cmd)

    @on("change_batch_quantity", broadcast=True)
    async def hear(self, cmd: ChangeBatchQuantity):
        heard.append(cmd.qty)
"""


@pytest.fixture
def written(broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module `feeds` can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feeds.py").write_text(FEEDS.replace("TRANSPORTER", broker.kind.transporter))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("feeds", None)


@pytest.fixture
async def feeds(broker: Any, written: None) -> AsyncIterator[Any]:
    """Two replicas run, and both are reached; the module with what they have handled and heard since."""
    async with AsyncExitStack() as running:
        for _ in range(2):
            await running.enter_async_context(application(broker).running())
        feeds = sys.modules["feeds"]
        await until_both_hear(broker, feeds)
        yield feeds


def application(broker: Any) -> App:
    entry = TransporterSettings(transporter=broker.kind.transporter, url=broker.url)
    return App("feeds", settings=WinterSettings(transporters=[entry]))


async def until_both_hear(broker: Any, feeds: Any) -> None:
    """Say something until both replicas have heard one and the same, and it has been handled."""
    number = 0
    async with asyncio.timeout(PATIENCE):
        while feeds.heard.count(-number) < 2 or ("probe", -number) not in feeds.handled:
            number += 1
            await broker.tell(CHANNEL, order("probe", -number))
            await asyncio.sleep(0.05)


def order(ref: str, qty: int) -> bytes:
    return f'{{"ref": "{ref}", "qty": {qty}}}'.encode()


def handled(feeds: Any) -> list[tuple[str, int]]:
    """What was handled, but probes."""
    return sorted(each for each in feeds.handled if each[1] > 0)


def heard(feeds: Any) -> list[int]:
    return sorted(each for each in feeds.heard if each > 0)


@pytest.mark.contract("WEB-202", "WEB-600", "WEB-602", "WEB-707")
async def test_what_others_publish_is_handled_once_by_two_replicas_and_heard_by_both(broker: Any, feeds: Any) -> None:
    await broker.tell(CHANNEL, *(order("batch", n) for n in range(1, 20)))
    async with asyncio.timeout(PATIENCE):
        while len(heard(feeds)) < 38 or len(handled(feeds)) < 19:
            await asyncio.sleep(0.01)
    assert handled(feeds) == [("batch", n) for n in range(1, 20)]
    assert heard(feeds) == sorted([*range(1, 20), *range(1, 20)])


@pytest.mark.contract("WEB-405", "WEB-609", "WEB-707")
async def test_without_a_journal_what_is_invalid_is_a_dead_letter_of_the_broker(broker: Any, feeds: Any) -> None:
    await broker.tell(CHANNEL, *INVALID, order("batch", 1))
    transport = broker.connect("reader")
    async with asyncio.timeout(PATIENCE):
        while len(letters := await transport.parked(CHANNEL)) < len(INVALID) or not handled(feeds):
            await asyncio.sleep(0.01)
    assert handled(feeds) == [("batch", 1)]
    assert sorted(letter.message.body for letter in letters) == sorted(INVALID)
    assert all(letter.reason.startswith("the body does not fit: ") for letter in letters)
    assert "qty" in next(letter.reason for letter in letters if b"many" in letter.message.body)
    await transport.stop()


@pytest.mark.contract("WEB-604")
@pytest.mark.parametrize("broker", ["valkey", "nats"], indirect=True)
async def test_a_broker_that_is_down_at_the_start_keeps_no_application_from_starting(
    broker: Any, written: None
) -> None:
    broker.kill()
    async with application(broker).running():
        broker.start()
        await broker_reaches(broker, sys.modules["feeds"])


async def broker_reaches(broker: Any, feeds: Any) -> None:
    """Say something until it has been handled."""
    async with asyncio.timeout(PATIENCE):
        while not feeds.handled:
            await broker.tell(CHANNEL, order("batch", 1))
            await asyncio.sleep(0.05)
