"""Stock for ten and 64 orders at once: exactly ten are accepted, and no order is lost to contention."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

ORDERS = 64
STOCK = 10


async def order(world: Any, number: int, accepted: list[int]) -> None:
    async def allocate(uow: Any) -> bool:
        product = await uow.products.get_by_sku(sku="TABLE")
        await asyncio.sleep(0)
        return product.allocate(world.Line(orderid=f"o{number}", qty=1)) is not None

    if await world.uow.run(allocate, retry_for=30):
        accepted.append(number)


@pytest.mark.contract("UOW-044")
async def test_from_one_process(world: Any) -> None:
    await world.stock(quantity=STOCK)
    accepted: list[int] = []

    await asyncio.gather(*(order(world, number, accepted) for number in range(ORDERS)))

    lines = (await world.products.get("TABLE")).batches[0].lines
    assert sorted(line.orderid for line in lines) == sorted(f"o{number}" for number in accepted)
    assert len(lines) == STOCK


@pytest.mark.contract("UOW-044")
async def test_stock_for_all_goes_to_all(world: Any) -> None:
    await world.stock(quantity=ORDERS)
    accepted: list[int] = []

    await asyncio.gather(*(order(world, number, accepted) for number in range(ORDERS)))

    assert sorted(accepted) == list(range(ORDERS))
    product = await world.products.get("TABLE")
    assert product.batches[0].available == 0
    assert world.products.version_of(product) == ORDERS + 1


PROCESS = """
import asyncio, importlib.util, sys

url, first, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
spec = importlib.util.spec_from_file_location("shop", sys.argv[1])
shop = importlib.util.module_from_spec(spec)
sys.modules["shop"] = shop
spec.loader.exec_module(shop)

async def main():
    async with shop.Backends(default=url) as backends:
        world = shop.World(backends)
        async def order(number):
            async def allocate(uow):
                product = await uow.products.get_by_sku(sku="TABLE")
                return product.allocate(shop.Line(orderid=f"o{number}", qty=1)) is not None
            return await world.uow.run(allocate, retry_for=30)
        await world.products.count()
        print("ready", flush=True)
        sys.stdin.readline()
        answers = await asyncio.gather(*(order(number) for number in range(first, first + count)))
        print(*(first + place for place, answer in enumerate(answers) if answer), flush=True)

asyncio.run(main())
"""


@pytest.mark.contract("UOW-044")
async def test_from_two_processes(opened: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    async with opened(default=url) as world:
        await world.stock(quantity=STOCK)

    shop = str(Path(__file__).with_name("conftest.py"))
    half = ORDERS // 2
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROCESS, shop, url, str(first), str(half)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for first in (0, half)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    accepted = [f"o{number}" for output, _ in answers for number in output.decode().split()]

    async with opened(default=url) as world:
        lines = (await world.products.get("TABLE")).batches[0].lines
    assert sorted(line.orderid for line in lines) == sorted(accepted)
    assert len(lines) == STOCK
