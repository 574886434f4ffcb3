"""Conflicts, and running the whole again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wintry.uow import AlreadyExists, Conflict, UnitError, retry, transactional

pytestmark = pytest.mark.anyio


async def rename(world: Any, name: str) -> None:
    """Another task is faster."""

    async def change() -> None:
        async with world.uow as uow:
            (await uow.products.get("TABLE")).name = name
            await uow.commit()

    await asyncio.create_task(change())


@pytest.mark.contract("UOW-040")
async def test_run_commits_and_gives_the_result(world: Any) -> None:
    async def work(uow: Any) -> str:
        await uow.products.create(entity=world.Product(sku="TABLE"))
        return "done"

    assert await world.uow.run(work) == "done"
    assert await world.products.count() == 1


@pytest.mark.contract("UOW-040")
async def test_run_rolls_back_what_raises_and_does_not_repeat_it(world: Any) -> None:
    attempts = 0

    async def work(uow: Any) -> None:
        nonlocal attempts
        attempts += 1
        await uow.products.create(entity=world.Product(sku="TABLE"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.uow.run(work)

    assert attempts == 1
    assert await world.products.count() == 0


@pytest.mark.contract("UOW-040")
async def test_a_conflict_runs_all_of_it_again_with_fresh_objects(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()
        scopes, seen = [], []

        async def work(uow: Any) -> None:
            product = await uow.products.get("TABLE")
            scopes.append(uow)
            seen.append((product, product.name))
            if len(seen) == 1:
                await rename(world, "theirs")
            product.name += ", mine"

        await world.uow.run(work)

        assert [name for _, name in seen] == ["", "theirs"]
        assert seen[0][0] is not seen[1][0]
        assert scopes[0] is not scopes[1]
        assert (await world.products.get("TABLE")).name == "theirs, mine"


@pytest.mark.contract("UOW-040")
async def test_a_conflict_that_the_function_swallowed_is_retried_too(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()
        attempts = 0

        async def work(uow: Any) -> None:
            nonlocal attempts
            attempts += 1
            product = await uow.products.get("TABLE")
            if attempts == 1:
                await rename(world, "theirs")
            product.name += ", mine"
            try:
                await uow.commit()
            except Conflict:
                pass

        await world.uow.run(work)

        assert (await world.products.get("TABLE")).name == "theirs, mine"


async def always_late(world: Any, uow: Any) -> None:
    product = await uow.products.get("TABLE")
    await rename(world, product.name + "x")
    product.name = "mine"


@pytest.mark.contract("UOW-041")
async def test_retries_cap_the_repetitions(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()

        with pytest.raises(Conflict) as caught:
            await world.uow.run(lambda uow: always_late(world, uow), retries=3, retry_for=60)

        assert (await world.products.get("TABLE")).name == "xxxx"
        assert caught.value.__notes__[0].startswith("attempt 4, ")


class Clock:
    """A loop's time that passes while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 0.0

    def get_running_loop(self) -> Clock:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.contract("UOW-041")
@pytest.mark.parametrize("retry_for", [0.5, 2.0])
async def test_attempts_go_on_as_long_as_they_may(monkeypatch: pytest.MonkeyPatch, retry_for: float) -> None:
    clock = Clock()
    monkeypatch.setattr(retry, "asyncio", clock)

    async def attempt() -> None:
        clock.now += 0.01
        begun.append(clock.now)
        raise Conflict("late")

    begun: list[float] = []
    with pytest.raises(Conflict):
        await retry.attempts(attempt, retry_for=retry_for, retries=None)

    assert retry_for - retry.LONGEST_PAUSE - 0.01 <= begun[-1] <= retry_for + 0.01


@pytest.mark.contract("UOW-041")
async def test_time_ends_the_attempts(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()

        with pytest.raises(Conflict):
            await world.uow.run(lambda uow: always_late(world, uow), retry_for=0)

        assert (await world.products.get("TABLE")).name == "x"


@pytest.mark.contract("UOW-041")
async def test_nothing_but_a_conflict_is_retried(world: Any) -> None:
    await world.stock()
    attempts = 0

    async def work(uow: Any) -> None:
        nonlocal attempts
        attempts += 1
        await uow.products.create(entity=world.Product(sku="TABLE"))

    with pytest.raises(AlreadyExists):
        await world.uow.run(work)

    assert attempts == 1


@pytest.mark.contract("UOW-040")
async def test_options_apply_to_each_attempt(world: Any) -> None:
    async def work(uow: Any) -> list[Any]:
        await uow.products.create(entity=world.Product(sku="TABLE", name="new"))
        found: list[Any] = await uow.products.find_by_name(name="new")
        return found

    assert await world.uow(flush="commit").run(work) == []
    assert await world.products.count() == 1


@pytest.mark.contract("UOW-042")
async def test_a_transactional_function_is_one_unit(world: Any) -> None:
    @transactional
    async def add(products: Any, skus: list[str]) -> int:
        for sku in skus:
            await products.create(entity=world.Product(sku=sku))
        if "" in skus:
            raise ValueError("no sku")
        return len(skus)

    assert await add(world.products, ["A", "B"]) == 2
    with pytest.raises(ValueError, match="no sku"):
        await add(products=world.products, skus=["C", ""])

    assert [product.sku for product in await world.products.find()] == ["A", "B"]


@pytest.mark.contract("UOW-042")
async def test_a_transactional_method_covers_what_its_object_holds_and_is_retried(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()

        class Service:
            def __init__(self) -> None:
                self.products = world.products
                self.attempts = 0

            @transactional(retries=1)
            async def rename(self) -> None:
                """Docstring."""
                self.attempts += 1
                product = await self.products.get("TABLE")
                if self.attempts == 1:
                    await rename(world, "theirs")
                product.name += ", mine"

        class Holder:
            def __init__(self) -> None:
                self.uow = world.uow

            @transactional
            async def name(self) -> str:
                async with self.uow as uow:
                    product = await uow.products.get("TABLE")
                    assert product is await world.products.get("TABLE")
                    return str(product.name)

        service = Service()
        await service.rename()

        assert service.attempts == 2
        assert service.rename.__doc__ == "Docstring."
        assert await Holder().name() == "theirs, mine"


@pytest.mark.contract("UOW-042")
async def test_transactional_without_a_repository_says_so() -> None:
    @transactional
    async def nothing(number: int) -> int:
        return number

    with pytest.raises(UnitError, match="nothing takes no repository"):
        await nothing(1)


@pytest.mark.contract("UOW-043")
async def test_inside_a_unit_run_and_transactional_join_and_run_once(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()
        attempts = []

        @transactional
        async def late(products: Any) -> None:
            attempts.append("transactional")
            product = await products.get("TABLE")
            await rename(world, product.name + "x")
            product.name = "mine"

        async def inner(uow: Any) -> None:
            attempts.append("run")
            await late(world.products)

        with pytest.raises(Conflict):
            async with world.uow as uow:
                await world.uow.run(inner)
                await uow.commit()

        assert attempts == ["run", "transactional"]
        assert (await world.products.get("TABLE")).name == "x"


@pytest.mark.contract("UOW-040", "UOW-061")
async def test_a_unit_that_a_conflict_of_a_joined_one_doomed_is_retried(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        attempts = inner_attempts = 0

        @transactional
        async def innermost(products: Any) -> None:
            nonlocal inner_attempts
            inner_attempts += 1
            if attempts == 1:
                raise Conflict("not yet")

        async def inner(uow: Any) -> None:
            await innermost(world.products)

        async def work(uow: Any) -> None:
            nonlocal attempts
            attempts += 1
            try:
                await world.uow.run(inner)
            except Conflict:
                pass

        await world.uow.run(work)

        assert (attempts, inner_attempts) == (2, 2)
