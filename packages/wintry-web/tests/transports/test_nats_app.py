"""Applications on NATS as a user writes them: two replicas, and somebody with the command line of NATS."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import pytest

from wintry.bus import Runtime
from wintry.bus.errors import SettingsError
from wintry.bus.transports.brokers import brokers
from wintry.web import App, TransporterSettings, TransporterType, WinterSettings
from wintry.web.transports.nats import NatsStreams

PATIENCE = 60.0
"""How many seconds something may take on a busy machine that takes one elsewhere."""
pytestmark = pytest.mark.anyio

FEEDS = """
from wintry.bus import Command, MessageQueue, command_handler
from wintry.ioc import provider
from wintry.web import TransporterType, microservice, on

handled = []
told = []


class ChangeBatchQuantity(Command):
    ref: str
    qty: int


@provider
class MessageBus(MessageQueue):
    @command_handler
    async def change(self, command: ChangeBatchQuantity) -> None:
        handled.append((command.ref, command.qty))


@microservice(TransporterType.nats)
class NatsMessagesControllers:
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        await self.messagebus.handle(cmd)

    @on("prices", broadcast=True)
    async def prices(self, cmd: ChangeBatchQuantity):
        told.append(cmd.ref)
"""


@pytest.fixture
async def feeds(nats_broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Two replicas run; their module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feeds.py").write_text(FEEDS)
    importlib.invalidate_caches()
    entry = TransporterSettings(transporter=TransporterType.nats, url=nats_broker.url)
    async with AsyncExitStack() as running:
        for _ in range(2):
            app = App("feeds", settings=WinterSettings(transporters=[entry]))
            await running.enter_async_context(app.running())
        yield sys.modules["feeds"]
    sys.modules.pop("feeds")


async def say(url: str, channel: str, bodies: Sequence[bytes]) -> None:
    """Publish as others do, once there is a stream for it."""
    client = await nats.connect(url)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.jsm().stream_info(f"wintry-{channel}")
                break
            except nats.js.errors.NotFoundError:
                await asyncio.sleep(0.01)
    for body in bodies:
        await client.jetstream().publish(f"wintry.channel.{channel}", body)
    await client.close()


@pytest.mark.contract("WEB-602")
async def test_what_others_publish_is_handled_once_by_two_replicas(nats_broker: Any, feeds: Any) -> None:
    bodies = [b'{"ref": "batch-%d", "qty": %d}' % (n, n) for n in range(20)]
    await say(nats_broker.url, "change_batch_quantity", bodies)
    async with asyncio.timeout(PATIENCE):
        while len(feeds.handled) < 20:
            await asyncio.sleep(0.01)
    assert sorted(feeds.handled, key=lambda each: each[1]) == [(f"batch-{n}", n) for n in range(20)]


@pytest.mark.contract("WEB-600")
async def test_a_broadcast_reaches_both_replicas(nats_broker: Any, feeds: Any) -> None:
    client = await nats.connect(nats_broker.url)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if (await client.jsm().stream_info("wintry-prices")).state.consumer_count == 2:
                    break
            except nats.js.errors.NotFoundError:
                pass
            await asyncio.sleep(0.01)
    await client.close()
    await say(nats_broker.url, "prices", [b'{"ref": "a", "qty": 1}'])
    async with asyncio.timeout(PATIENCE):
        while len(feeds.told) < 2:
            await asyncio.sleep(0.01)
    assert feeds.told == ["a", "a"]


@pytest.mark.contract("WEB-609")
async def test_without_a_journal_what_is_invalid_is_in_the_dead_letter_stream(nats_broker: Any, feeds: Any) -> None:
    wrong = [b"{", b"[]", b'{"ref":"b","qty":"many"}', b'{"batch":"b"}', b"\xff", b""]
    await say(nats_broker.url, "change_batch_quantity", [*wrong, b'{"ref":"batch-1","qty":1}'])
    transport = NatsStreams(nats_broker.url)
    async with asyncio.timeout(PATIENCE):
        while len(letters := await transport.parked("change_batch_quantity")) < 6 or not feeds.handled:
            await asyncio.sleep(0.01)
    assert feeds.handled == [("batch-1", 1)]
    assert sorted(letter.message.body for letter in letters) == sorted(wrong)
    assert all(letter.reason.startswith("the body does not fit: ") for letter in letters)
    assert "qty" in next(letter.reason for letter in letters if b"many" in letter.message.body)
    await transport.stop()


@pytest.mark.contract("WEB-604")
async def test_a_broker_that_is_down_at_the_start_keeps_no_application_from_starting(
    nats_broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feeds.py").write_text(FEEDS)
    importlib.invalidate_caches()
    nats_broker.kill()
    entry = TransporterSettings(transporter=TransporterType.nats, url=nats_broker.url)
    app = App("feeds", settings=WinterSettings(transporters=[entry]))
    async with app.running():
        nats_broker.start()
        await say(nats_broker.url, "change_batch_quantity", [b'{"ref": "a", "qty": 1}'])
        async with asyncio.timeout(PATIENCE):
            while not sys.modules["feeds"].handled:
                await asyncio.sleep(0.01)
    sys.modules.pop("feeds")


@pytest.mark.contract("WEB-610")
async def test_the_settings_decide() -> None:
    entries = [
        TransporterSettings(name="a", driver="wintry.transporters.nats"),
        TransporterSettings(name="b", url="tls://localhost"),
        TransporterSettings(transporter=TransporterType.nats, url="nats://one:4222,nats://two:4222"),
    ]
    made: dict[str, Any] = {name: connect(Runtime()) for name, connect in brokers(entries).items()}
    assert {name: each.url for name, each in made.items()} == {
        "a": "nats://localhost:4222",
        "b": "tls://localhost",
        "nats": "nats://one:4222,nats://two:4222",
    }
    assert {type(each) for each in made.values()} == {NatsStreams}
    for each in made.values():
        await each.stop()


@pytest.mark.contract("WEB-610")
def test_a_client_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(SettingsError, match=r"^transporters\.queue: .* needs nats: install wintry-web\[nats\]$"):
        brokers([TransporterSettings(name="queue", driver="nats")])
