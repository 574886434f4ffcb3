"""Consumers killed between effect and acknowledgement, brokers killed while messages flow: no loss, nothing twice."""

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

import pytest
from wintry_test_servers.nursery import Nursery

from wintry.bus.transports import TransportMessage

from .services import PATIENCE, Service, Store, forked

pytestmark = pytest.mark.anyio
ONE_OF_EACH = pytest.mark.parametrize("broker", ["valkey", "rabbitmq", "nats"], indirect=True)
ORDERS = {str(n) for n in range(12)}
BAD = {f"bad-{n}" for n in range(12)}
INVALID = {
    "no json": b"{",
    "no utf-8": b"\xff",
    "no object": b"[]",
    "wrong type": b'{"order": 1}',
    "unknown shape": b'{"other": "1"}',
    "empty": b"",
}


class Shop:
    """A broker, services that take orders from it, and what they have stored."""

    def __init__(self, broker: Any, nursery: Nursery, folder: Path) -> None:
        self.broker = broker
        self.store = Store(folder)
        self._nursery = nursery
        self._folder = folder

    def service(self, *, point: str = "", inbox: str = "with") -> AbstractAsyncContextManager[Service]:
        """A service that is killed at `point`, if that is one."""
        arguments = ("serve", self.broker.name, self.broker.url, str(self._folder), point, inbox)
        return forked(self._nursery, self._folder / "log", *arguments)

    async def killed(self, point: str, *, inbox: str = "with") -> None:
        """Have a service, until it is killed at `point`."""
        async with self.service(point=point, inbox=inbox) as victim:
            assert await victim.wait() == -signal.SIGKILL

    async def settled(self, holds: Callable[[], bool], *, inbox: str = "with") -> None:
        """Have a service until something holds and there is nothing left to do, not even what it gave back at its end."""
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self.service(inbox=inbox) as service:
                    await self.finish(service, holds)
                if not await self.left():
                    return

    async def finish(self, service: Service, holds: Callable[[], bool]) -> None:
        """End a service in order, when something holds and it has been given all there is."""
        await service.until(holds)
        async with asyncio.timeout(PATIENCE):
            while await self.left():
                await asyncio.sleep(0.02)
        assert await service.end() == 0

    async def left(self) -> int:
        return await self.broker.left("orders", "shop")


@pytest.fixture
def shop(broker: Any, nursery: Nursery, tmp_path: Path) -> Shop:
    return Shop(broker, nursery, tmp_path)


class Sender:
    """Sends orders until the block ends; `taken` are those that the broker has taken responsibility for."""

    def __init__(self, broker: Any) -> None:
        self.taken = set[str]()
        self._transport = broker.connect("sender")
        self._flow: asyncio.Task[None] | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self._transport.stop()

    async def send(self, id: str, body: bytes | None = None) -> None:
        sent = json.dumps({"order": id}).encode() if body is None else body
        await self._transport.publish("orders", [TransportMessage(f"id-{id}", "order", sent)])

    def flow(self) -> None:
        """Send one order after the other, whatever happens to the broker."""
        self._flow = asyncio.ensure_future(self._send_all())

    async def end(self) -> None:
        """Stop that, and finish what is being sent."""
        self._over = True
        if self._flow is not None:
            await self._flow

    async def more(self, count: int) -> None:
        """Return when so many more have been taken."""
        wanted = len(self.taken) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.taken) < wanted:
                await asyncio.sleep(0.005)

    async def _send_all(self) -> None:
        number = 0
        while not self._over:
            number += 1
            try:
                await self.send(str(number))
                self.taken.add(str(number))
            except ConnectionError:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.002)


@pytest.mark.contract("WEB-404", "WEB-608", "WEB-706")
async def test_a_consumer_that_is_killed_before_it_acknowledged_loses_and_doubles_nothing(shop: Shop) -> None:
    await killed_at("listened", shop)


@ONE_OF_EACH
@pytest.mark.contract("WEB-404", "WEB-608", "WEB-706")
@pytest.mark.parametrize("point", ["received", "acked", "buried"])
async def test_a_consumer_that_is_killed_elsewhere_loses_and_doubles_nothing(shop: Shop, point: str) -> None:
    await killed_at(point, shop)


async def killed_at(point: str, shop: Shop) -> None:
    """A consumer dies, another one goes on: every order has its effect once, every bad one its dead letter."""
    async with Sender(shop.broker) as sender:
        for order, bad in zip(sorted(ORDERS), sorted(BAD), strict=True):
            await sender.send(order)
            await sender.send(bad, b'{"order": "bad"}')
    await shop.killed(point)
    await shop.settled(lambda: len(shop.store.counts) == len(shop.store.dead) == 12)
    assert shop.store.counts == dict.fromkeys(ORDERS, 1)
    assert shop.store.dead.keys() == {f"id-{bad}" for bad in BAD}


@ONE_OF_EACH
@pytest.mark.contract("WEB-404", "WEB-608", "WEB-706")
async def test_without_an_inbox_an_effect_would_be_doubled(shop: Shop) -> None:
    """The control: what was not acknowledged when its effect was stored has it again."""
    async with Sender(shop.broker) as sender:
        for order in sorted(ORDERS):
            await sender.send(order)
    await shop.killed("listened", inbox="without")
    before = shop.store.counts
    await shop.settled(lambda: shop.store.counts.keys() == ORDERS, inbox="without")
    assert set(before.values()) == {1}
    assert any(shop.store.counts[order] > 1 for order in before)
    assert shop.store.dead == {}


@pytest.mark.contract("WEB-404", "WEB-608", "WEB-706")
async def test_a_broker_and_a_consumer_that_are_killed_while_messages_flow(shop: Shop) -> None:
    async with shop.service() as victim, shop.service() as survivor, Sender(shop.broker) as sender:
        sender.flow()
        await survivor.until(lambda: bool(shop.store.counts))
        for _ in range(2):
            await asyncio.to_thread(shop.broker.kill)
            await asyncio.to_thread(shop.broker.start)
            await sender.more(50)
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        await sender.more(50)
        await sender.end()
        await shop.finish(survivor, lambda: sender.taken <= shop.store.counts.keys())
    assert set(shop.store.counts.values()) == {1}


@pytest.mark.contract("WEB-405", "WEB-609", "WEB-707")
async def test_what_is_invalid_is_a_dead_letter_with_the_reason(shop: Shop) -> None:
    async with Sender(shop.broker) as sender:
        for name, body in INVALID.items():
            await sender.send(name, body)
        await sender.send("good")
    await shop.settled(lambda: bool(shop.store.counts) and len(shop.store.dead) == len(INVALID))
    assert shop.store.counts == {"good": 1}
    dead = shop.store.dead
    assert dead.keys() == {f"id-{name}" for name in INVALID}
    assert all(reason.startswith("the body does not fit: ") for reason in dead.values())
    assert "an order is a text" in dead["id-wrong type"]
