"""Stock for ten, or for all, and 64 orders at once: as many are accepted as there is stock, none is lost to contention.

With and without locks, from one process and from two. The deep profile does it 200 times on each store.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

ORDERS = 64
ROUNDS = 200 if os.environ.get("TEST_WINTRY_PROFILE") == "deep" else 1
PATIENCE = 60.0
"""Seconds: as long as an order that is refused and refused again may take."""


async def order(world: Any, number: int, accepted: list[int], *, lock: bool) -> None:
    async def allocate(uow: Any) -> bool:
        product = await uow.products.get("TABLE", lock=lock)
        await asyncio.sleep(0)
        return product.allocate(world.Line(orderid=f"o{number}", qty=1)) is not None

    if await world.uow.run(allocate, retry_for=PATIENCE):
        accepted.append(number)


@pytest.mark.contract("UOW-044")
@pytest.mark.timeout(60 + 8 * ROUNDS)
@pytest.mark.parametrize("lock", [False, True], ids=["not locked", "locked"])
@pytest.mark.parametrize("stock", [10, ORDERS])
async def test_from_one_process(opened: Any, url: str, stock: int, lock: bool) -> None:
    for _ in range(ROUNDS):
        async with opened(default=url) as world:
            await world.stock(quantity=stock)
            accepted: list[int] = []

            await asyncio.gather(*(order(world, number, accepted, lock=lock) for number in range(ORDERS)))

            product = await world.products.get("TABLE")
            lines = product.batches[0].lines
            assert sorted(line.orderid for line in lines) == sorted(f"o{number}" for number in accepted)
            assert len(lines) == stock
            assert world.products.version_of(product) == stock + 1
            await world.products.delete_all()


PROCESS = """
import asyncio, importlib.util, sys

path, url, lock, patience, first, count = sys.argv[1:]
spec = importlib.util.spec_from_file_location("shop", path)
shop = importlib.util.module_from_spec(spec)
sys.modules["shop"] = shop
spec.loader.exec_module(shop)

async def main():
    async with shop.Backends(default=url) as backends:
        world = shop.World(backends)
        async def order(number):
            async def allocate(uow):
                product = await uow.products.get("TABLE", lock=lock == "lock")
                return product.allocate(shop.Line(orderid=f"o{number}", qty=1)) is not None
            return await world.uow.run(allocate, retry_for=float(patience))
        await world.products.count()
        print("ready", flush=True)
        sys.stdin.readline()
        numbers = range(int(first), int(first) + int(count))
        answers = await asyncio.gather(*(order(number) for number in numbers))
        print(*(number for number, answer in zip(numbers, answers) if answer), flush=True)

asyncio.run(main())
"""


@pytest.mark.contract("UOW-044")
@pytest.mark.parametrize("lock", [False, True], ids=["not locked", "locked"])
@pytest.mark.parametrize("stock", [10, ORDERS])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mongodb"])
async def test_from_two_processes(
    opened: Any, fresh_url: Callable[[str], str], kind: str, stock: int, lock: bool
) -> None:
    url = fresh_url(kind)
    async with opened(default=url) as world:
        await world.stock(quantity=stock)

    answers = await orders_of_two(url, lock=lock)

    async with opened(default=url) as world:
        lines = (await world.products.get("TABLE")).batches[0].lines
    assert sorted(line.orderid for line in lines) == sorted(answers)
    assert len(lines) == stock


async def orders_of_two(url: str, *, lock: bool) -> list[str]:
    """The orders that were accepted, of two processes that begin at the same moment with half of them each."""
    shop, half = str(Path(__file__).with_name("conftest.py")), ORDERS // 2
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROCESS, shop, url, "lock" if lock else "", str(PATIENCE), str(first), str(half)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for first in (0, half)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    return [f"o{number}" for output, _ in outputs for number in output.decode().split()]
