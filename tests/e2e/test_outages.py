"""A server that the running service stands on is killed and comes back: what needs it is refused, nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from wintry_test_servers.databases import mongodb_database, postgres_database, redis_database
from wintry_test_servers.plugin import server
from wintry_test_servers.run import Run, Server
from wintry_test_servers.service import variable

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

Settled = Callable[..., Awaitable[Any]]
VARIABLES = {
    "postgres": variable("backends.default"),
    "mongodb": variable("backends.views"),
    "redis": variable("transporters.redis"),
}
WAITING = 40


@contextmanager
def server_of_its_own(run: Run, kind: str) -> Iterator[tuple[Server, str]]:
    """A server for nobody else, and the URL of a database on it."""
    with server(run, kind) as made:
        match kind:
            case "postgres":
                database = postgres_database(made.url)
            case "mongodb":
                database = mongodb_database(made.url)
            case _:
                database = redis_database(made.url, run)
        with database as url:
            yield made, url


async def sent(service: Any, orders: list[str]) -> None:
    """Each order until it is accepted, eight clients at once; refused is only what may be sent again."""
    waiting = iter(orders)

    async def client() -> None:
        for order in waiting:
            while (answer := await service.allocate(order, "TABLE")).status_code != 202:
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client() for _ in range(8)))


async def status(service: Any, path: str) -> int:
    """What a reader is answered."""
    return int((await service.get(path)).status_code)


@pytest.mark.contract("APP-029")
@pytest.mark.parametrize("profile", ["servers"], indirect=True)
@pytest.mark.parametrize(("kind", "refused"), [("postgres", "/products/TABLE"), ("mongodb", "/allocations/o0")])
async def test_a_database_that_is_killed_and_comes_back(
    make_service: Any, servers: Run, settled: Settled, kind: str, refused: str
) -> None:
    with server_of_its_own(servers, kind) as (database, url):
        service = await make_service("service", **{VARIABLES[kind]: url}).start()
        await service.add_batch("b1", "TABLE", 1000)
        before, after = [f"o{n}" for n in range(40)], [f"o{n}" for n in range(40, 80)]
        await sent(service, before)
        running = [process.pid for process in service.processes]
        sending = asyncio.create_task(sent(service, after))
        await asyncio.to_thread(database.kill)

        async def unavailable() -> bool:
            return await status(service, refused) == 503

        async def not_ready() -> bool:
            return await status(service, "/health/ready") == 503

        await settled(unavailable)
        await settled(not_ready)
        assert await status(service, "/health/live") == 200
        await asyncio.to_thread(database.start)
        await sending

        async def ready() -> bool:
            return await status(service, "/health/ready") == 200

        await settled(ready)
        assert [order for order, _, _ in await service.lines("TABLE")] == sorted(before + after)
        await service.views_agree("TABLE", before + after)
        assert [process.pid for process in service.processes] == running
        assert await service.stop() == [0]


@pytest.mark.contract("APP-029")
@pytest.mark.parametrize("profile", ["servers"], indirect=True)
async def test_a_broker_that_is_killed_and_comes_back_is_told_what_it_missed(
    make_service: Any, servers: Run, settled: Settled
) -> None:
    with server_of_its_own(servers, "redis") as (broker, url):
        service = await make_service("service", **{VARIABLES["redis"]: url}).start()
        await service.add_batch("b1", "TABLE", 1000)
        orders = [f"o{n}" for n in range(20)]
        await sent(service, orders[:10])
        await asyncio.to_thread(broker.kill)

        await sent(service, orders[10:])
        await service.views_agree("TABLE", orders)
        assert await status(service, "/health/ready") == 200
        await asyncio.to_thread(broker.start)

        async with Redis.from_url(url, socket_timeout=None) as client:

            async def said() -> set[str]:
                entries = await client.xrange("wintry:{line_allocated}")
                return {json.loads(fields[b"body"])["orderid"] for _, fields in entries}

            async def all_said() -> bool:
                return await said() >= set(orders[10:])  # those before may have died with the broker's memory

            await settled(all_said)
        assert await service.stop() == [0]


@pytest.mark.contract("APP-017")
@pytest.mark.parametrize("profile", ["servers, two processes"], indirect=True)
async def test_a_plain_publish_is_handled_by_one_of_two_processes(service: Any, settled: Settled) -> None:
    await service.add_batch("b1", "TABLE", 100)
    await service.add_batch("b2", "TABLE", 100, eta="2030-01-01")
    for number in range(WAITING):
        await service.allocate(f"o{number}", "TABLE", 2)

    url, quantities = service.environment[VARIABLES["redis"]], (90, 80, 70, 60)

    def heard() -> int:
        return int(service.log.read_text().count("Heard from the broker"))

    async with Redis.from_url(url, socket_timeout=None) as client:

        async def bridged() -> bool:
            return dict(await client.pubsub_numsub("change_batch_quantity"))[b"change_batch_quantity"] == 1

        await settled(bridged)
        for quantity in quantities:
            heard_by = await client.publish("change_batch_quantity", json.dumps({"ref": "b1", "qty": quantity}))
            assert heard_by == 1

        async def handled() -> bool:
            groups = await client.xinfo_groups("wintry:{change_batch_quantity}")
            return heard() >= 4 and all(group["pending"] == group["lag"] == 0 for group in groups)

        await settled(handled)

    async def reallocated() -> bool:
        return len(await service.lines("TABLE")) == WAITING

    await settled(reallocated)  # what no longer fits is in no batch for a moment, and in no view either
    await service.views_agree("TABLE", [f"o{number}" for number in range(WAITING)])
    lines = await service.lines("TABLE")
    assert len(lines) == len({order for order, _, _ in lines}) == WAITING
    last = (await service.product("TABLE"))["batches"][0][
        "purchased_quantity"
    ]  # whose turn came last, of two processes
    assert last in quantities
    assert sum(quantity for _, batch, quantity in lines if batch == "b1") <= last
    assert heard() == 4
