"""The service on the broker, here the durable queue in its database: what it hears, what it says, what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import Any

import pytest
from wintry_test_servers.service import reading

pytestmark = pytest.mark.anyio

Settled = Callable[..., Awaitable[Any]]


async def shell(service: Any, *words: str) -> str:
    """What `python -m wintry.bus` prints beside the running service."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = await service.run(
            "wintry.bus", *words, "--app", "allocation.app:app", stdout=out.fileno(), stderr=err.fileno()
        )
        code = await asyncio.wait_for(process.wait(), 60)
        out.seek(0)
        err.seek(0)
        assert code == 0, err.read()
        return out.read()


async def change(service: Any, **body: object) -> None:
    await shell(service, "send", "change_batch_quantity", json.dumps(body))


async def parked(service: Any) -> bool:
    """Whether there is a dead letter, as the service's health says."""
    told = (await service.get("/health/ready")).json()
    return " 0 parked" not in told["checks"]["bus"]["detail"]


@pytest.mark.contract("APP-017")
class TestHearing:
    @pytest.mark.contract("APP-215")
    async def test_a_quantity_changes_and_the_line_moves(self, service: Any, settled: Settled) -> None:
        await service.add_batch("b1", "TABLE", 10)
        await service.add_batch("b2", "TABLE", 10, eta="2030-01-01")
        await service.allocate("o1", "TABLE", 5)

        await change(service, ref="b1", qty=3)

        async def moved() -> bool:
            return bool(await service.lines("TABLE") == [("o1", "b2", 5)])

        await settled(moved)
        await service.views_agree("TABLE", ["o1"])

    async def test_of_two_processes_one_does_it(self, make_service: Any, settled: Settled) -> None:
        first, second = make_service("shared"), make_service("shared")
        await first.start()
        await second.start()
        await first.add_batch("b1", "TABLE", 100)
        for number in range(20):
            await first.allocate(f"o{number}", "TABLE", 5)

        await asyncio.gather(*(change(first, ref="b1", qty=quantity) for quantity in (90, 80, 70)))

        def heard() -> int:
            return int(first.log.read_text().count("Heard from the broker"))  # both write into it

        async def done() -> bool:
            product = await second.product("TABLE")
            return heard() >= 3 and product["batches"][0]["purchased_quantity"] in (70, 80, 90)

        await settled(done)
        for service in (first, second):
            await service.views_agree("TABLE", [f"o{number}" for number in range(20)])
        assert await shell(first, "dead", "list") == ""
        assert heard() == 3

    @pytest.mark.parametrize(
        ("body", "reason"),
        [({"ref": "nope", "qty": 1}, "Unknown batch nope"), ({"ref": "b1", "qty": -1}, "greater than or equal to 0")],
    )
    async def test_what_cannot_be_done_is_a_dead_letter_with_its_reason(
        self, service: Any, settled: Settled, body: dict[str, Any], reason: str
    ) -> None:
        await service.add_batch("b1", "TABLE", 10)

        await change(service, **body)

        await settled(partial(parked, service))
        line = await shell(service, "dead", "list")
        number = line.split()[0]
        assert reason in await shell(service, "dead", "show", number)
        assert (await service.product("TABLE"))["batches"][0]["purchased_quantity"] == 10

    async def test_a_dead_letter_is_applied_once_what_it_missed_is_there(self, service: Any, settled: Settled) -> None:
        await change(service, ref="late", qty=4)

        await settled(partial(parked, service))
        line = await shell(service, "dead", "list")
        await service.add_batch("late", "TABLE", 10)
        assert await shell(service, "dead", "redrive", line.split()[0]) == "1 redriven\n"

        async def applied() -> bool:
            return bool((await service.product("TABLE"))["batches"][0]["purchased_quantity"] == 4)

        await settled(applied)
        assert await shell(service, "dead", "list") == ""


HEARER = """
import asyncio
from uuid import uuid4
from wintry.bus.component import open_runtime
from wintry.bus.transports import TransportMessage
from allocation.app import app

async def main():
    async with open_runtime(app.settings) as runtime:
        transport = runtime.transports[runtime.default_transport]
        async def hear(channel):
            async for delivery in transport.receive(channel, group=None, prefetch=10):
                if delivery.message.type == "probe":
                    waiting.discard(channel)
                else:
                    print(channel, delivery.message.body.decode(), flush=True)
                await delivery.ack()
        waiting = {"line_allocated", "line_deallocated", "out_of_stock"}
        hearing = [asyncio.ensure_future(hear(channel)) for channel in waiting]
        while waiting:
            for channel in tuple(waiting):
                await transport.publish(channel, [TransportMessage(uuid4().hex, "probe", b"")])
            await asyncio.sleep(0.1)
        print("hearing", flush=True)
        await asyncio.gather(*hearing)

asyncio.run(main())
"""


@asynccontextmanager
async def hearing(service: Any) -> AsyncIterator[asyncio.StreamReader]:
    """Another team's process that hears what the service says: lines of channel and body."""
    (service.folder / "hearer.py").write_text(HEARER)
    output, given = os.pipe()
    with (service.folder / "hearer.log").open("wb") as log, os.fdopen(given, "wb") as written:
        process = await service.run("hearer", stdout=written.fileno(), stderr=log.fileno())
    said = await reading(output)
    try:
        if not await said.readline():
            raise AssertionError(f"it does not hear:\n{(service.folder / 'hearer.log').read_text()}")
        yield said
    finally:
        process.kill()
        await process.wait()


@pytest.mark.contract("APP-018")
async def test_other_services_hear_what_happened(service: Any) -> None:
    await service.add_batch("b1", "TABLE", 10)

    async with hearing(service) as said:

        async def heard() -> tuple[str, dict[str, Any]]:
            channel, _, body = (await asyncio.wait_for(said.readline(), 20)).decode().partition(" ")
            assert body, (service.folder / "hearer.log").read_text()
            return channel, json.loads(body)

        await service.allocate("o1", "TABLE", 8)
        line = {"orderid": "o1", "sku": "TABLE", "qty": 8}
        assert await heard() == ("line_allocated", {**line, "batchref": "b1"})

        await service.post("/change_batch_quantity", ref="b1", qty=1)
        said_then = dict([await heard(), await heard()])  # two channels, in either order
        assert said_then == {"line_deallocated": {**line, "batchref": "b1"}, "out_of_stock": line}
