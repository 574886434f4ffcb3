"""Two units at once, in every order in which their operations can follow one another.

A schedule gives each unit its turns; a unit that a conflict sends back runs its second attempt when it likes. Where one
waits for the other's lock (PostgreSQL) its turns are given later; where it is refused (MongoDB) it is out of the
schedule. In the end it is all the same: the store holds, and the units were told, what they would have been one after
the other, on every store.

Two operations each by default, up to four in the deep profile, which takes some of the orders at random where there are
many. `pytest -s` shows the table: for each order of turns, on
each store, whether one waited for the other, and whether one was refused and ran again.
"""

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import asyncpg
import pytest

pytestmark = pytest.mark.anyio

DEEP = os.environ.get("TEST_WINTRY_PROFILE") == "deep"
STORES = ("memory", "postgresql", "mongodb")
ORDERS = 24  # of one pair; two operations and a commit each have twenty


async def load(world: Any, uow: Any, name: str) -> None:
    await uow.products.get("TABLE")


async def look(world: Any, uow: Any, name: str) -> None:
    await uow.products.get("LAMP")


async def query(world: Any, uow: Any, name: str) -> None:
    """Stores what the unit has changed so far."""
    await uow.products.find_by_name(name="nobody")


async def allocate(world: Any, uow: Any, name: str, sku: str = "TABLE") -> str:
    product = await uow.products.get(sku)
    if product is None:
        return f"no {sku}"
    return "accepted" if product.allocate(world.Line(orderid=name, qty=1)) is not None else "sold out"


async def allocate_chair(world: Any, uow: Any, name: str) -> str:
    return await allocate(world, uow, name, "CHAIR")


async def rename(world: Any, uow: Any, name: str) -> str:
    product = await uow.products.get("TABLE")
    if product is None:
        return "nothing to rename"
    product.name += "renamed "
    return "renamed"


async def delete(world: Any, uow: Any, name: str) -> str:
    product = await uow.products.get("TABLE")
    if product is None:
        return "nothing to delete"
    await uow.products.delete(entity=product)
    return "deleted"


async def create(world: Any, uow: Any, name: str) -> str:
    lamp = await uow.products.get("LAMP")
    if lamp is None:
        await uow.products.create(entity=world.Product(sku="LAMP", name="one "))
        return "created"
    lamp.name += "one more "
    return "added"


Step = Callable[[Any, Any, str], Awaitable[Any]]
Script = tuple[Step, ...]

SCRIPTS: Sequence[Script] = (
    (load, allocate, query),
    (load, rename, query),
    (load, delete, query),
    (look, create, query),
    (allocate, query, allocate_chair),
    (allocate_chair, query, allocate),
)
SHORT: Sequence[Script] = ((allocate,), (rename,), (delete,), (create,))


class Schedule:
    """Lets two units run step by step, in the order in which their numbers come."""

    def __init__(self, blocked: Callable[[], Awaitable[bool]]) -> None:
        self.go = [asyncio.Event(), asyncio.Event()]
        self.idle = [asyncio.Event(), asyncio.Event()]
        self.out: set[int] = set()
        self.blocked = blocked
        self.waited = False

    async def turn(self, number: int) -> None:
        """Wait for it."""
        self.idle[number].set()
        await self.go[number].wait()
        self.go[number].clear()

    async def run(self, order: Sequence[int], tasks: Sequence["asyncio.Task[Any]"]) -> None:
        for number in itertools.chain(order, itertools.cycle((0, 1))):
            if all(task.done() for task in tasks):
                return
            if await self.settled(number, tasks):
                self.idle[number].clear()
                self.go[number].set()
                await self.settled(number, tasks)

    async def settled(self, number: int, tasks: Sequence["asyncio.Task[Any]"]) -> bool:
        """Whether it is at its next turn; False where it is done, waits for the other one, or begins again and again."""
        waiting = asyncio.ensure_future(self.idle[number].wait())
        try:
            while True:
                await asyncio.wait({waiting, tasks[number]}, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done() or tasks[number].done():
                    return not tasks[number].done()
                if number in self.out:
                    return False
                if await self.blocked():
                    self.waited = True
                    return False
        finally:
            waiting.cancel()


async def interleaved(world: Any, scripts: Sequence[Script], order: Sequence[int], blocked: Any) -> tuple[Any, str]:
    """What the two were told and what is stored, and how the one that was late came to know."""
    await world.products.delete_all()
    await world.stock("TABLE", 1)
    await world.stock("CHAIR", 2)
    schedule = Schedule(blocked)
    attempts = [0, 0]

    async def unit(number: int) -> list[Any]:
        async def work(uow: Any) -> list[Any]:
            attempts[number] += 1
            if not (first := attempts[number] == 1):
                schedule.out.add(number)
            told = []
            for step in scripts[number]:
                if first:
                    await schedule.turn(number)
                told.append(await step(world, uow, f"unit {number}"))
            if first:
                await schedule.turn(number)
            return [each for each in told if each is not None]

        return list(await world.uow.run(work, retry_for=30))

    tasks = [asyncio.create_task(unit(number)) for number in (0, 1)]
    await schedule.run(order, tasks)
    told = [task.result() for task in tasks]
    how = ("waits" if schedule.waited else "") + ("refused" if max(attempts) > 1 else "")
    return await outcome(world, told), how or "alone"


async def outcome(world: Any, told: Sequence[Any]) -> Any:
    stored = {
        product.sku: (product.name, sorted(line.orderid for batch in product.batches for line in batch.lines))
        for product in await world.products.find()
    }
    return tuple(map(tuple, told)), tuple(sorted((sku, name, tuple(lines)) for sku, (name, lines) in stored.items()))


async def one_after_the_other(world: Any, scripts: Sequence[Script]) -> list[Any]:
    """The two outcomes that there may be."""

    async def never() -> bool:
        return False

    orders = [[number] * (len(scripts[number]) + 1) for number in (0, 1)]
    return [
        (await interleaved(world, scripts, [*first, *second], never))[0] for first, second in (orders, orders[::-1])
    ]


def orders_of(scripts: Sequence[Script]) -> Iterator[tuple[int, ...]]:
    """The orders of the turns, or as many as are tried; each script ends with a commit."""
    first, second = (len(script) + 1 for script in scripts)
    found = list(itertools.combinations(range(first + second), first))
    for places in random.sample(found, min(len(found), ORDERS)):
        yield tuple(0 if place in places else 1 for place in range(first + second))


def pairs() -> list[tuple[Script, Script]]:
    scripts = [*SHORT, *SCRIPTS] if DEEP else SHORT
    return [pair for pair in itertools.combinations_with_replacement(scripts, 2) if len(pair[0]) == len(pair[1])]


def title(pair: Sequence[Script]) -> str:
    return " and ".join("-".join(step.__name__ for step in script) for script in pair)


@pytest.mark.contract("UOW-312")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", pairs(), ids=title)
async def test_whatever_the_order_it_is_as_if_one_came_after_the_other(
    opened: Any, fresh_url: Callable[[str], str], pair: Sequence[Script]
) -> None:
    async with opened(default="memory://") as world:
        expected = await one_after_the_other(world, pair)
    table: dict[tuple[int, ...], dict[str, tuple[Any, str]]] = {order: {} for order in orders_of(pair)}
    for kind in STORES:
        url = fresh_url(kind)
        watch = await Watch.of(kind, url)
        async with opened(default=url) as world:
            for order, found in table.items():
                found[kind] = await interleaved(world, pair, order, watch.blocked)
        await watch.close()

    for order, found in table.items():
        print("".join("AB"[number] for number in order), {kind: how for kind, (_, how) in found.items()})
        assert "waits" not in found["mongodb"][1], "there it is refused"
        for kind, (result, _) in found.items():
            assert result in expected, (title(pair), order, kind)
        if not crossed(pair):  # then both wait for each other on PostgreSQL, and who is refused is for it to say
            assert found["postgresql"][0] == found["mongodb"][0], (title(pair), order, found)


def crossed(pair: Sequence[Script]) -> bool:
    """Whether the two change the same aggregates in opposite orders."""
    first, second = ([step for step in script if step in (allocate, allocate_chair)] for script in pair)
    return len(first) > 1 and first == second[::-1]


class Watch:
    """Tells whether a unit waits for another one's lock."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @classmethod
    async def of(cls, kind: str, url: str) -> "Watch":
        if kind != "postgresql":
            return cls(None)
        connection = await asyncpg.connect(url)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")  # of later connections
        return cls(connection)

    async def blocked(self) -> bool:
        if self.connection is None:
            return False
        text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await self.connection.fetchval(text))

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()
