"""The container against the same objects wired by hand, a scope opened and closed around each graph.

`endpoint` is the way that a framework goes: the plan is compiled once. `get` is the public `scope.get`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import punq

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits import ioc as limit
from wintry.ioc import Container


def shape(root: object) -> list[object]:
    """The classes of a graph and which objects are shared."""
    numbers: dict[int, int] = {}
    lines: list[object] = []

    def visit(node: object) -> int:
        if id(node) not in numbers:
            numbers[id(node)] = len(numbers)
            lines.append((type(node).__name__, *((name, visit(each)) for name, each in vars(node).items())))
        return numbers[id(node)]

    visit(root)
    return lines


def scoped(classes: tuple[type[Any], ...]) -> Container:
    container = Container()
    container.register(limit.Settings, lifetime="singleton")
    for each in classes:
        container.register(each, lifetime="scoped")
    return container


def case(name: str, goals: list[Goal], classes: tuple[type[Any], ...], by_hand: Callable[..., object]) -> Case:
    made = Case(name=name, goals=goals, compare=shape)

    @made.limit
    @contextmanager
    def hand() -> Iterator[Operation]:
        settings = limit.Settings()

        async def operation() -> object:
            return by_hand(settings)

        yield operation

    @made.peer("punq")
    @contextmanager
    def peer() -> Iterator[Operation]:
        container = punq.Container()
        container.register(limit.Settings, scope=punq.Scope.singleton)
        for each in classes:
            container.register(each)

        async def operation() -> object:
            return container.child().resolve(classes[-1])  # a child is what punq has for a scope

        yield operation

    return made


def endpoint(number: int, classes: tuple[type[Any], ...], by_hand: Callable[..., object]) -> Case:
    goals = [Goal("limit", at_most=2.5), Goal("punq", at_most=1 / 30)]
    made = case(f"endpoint-{number}", goals, classes, by_hand)

    @made.ours
    @asynccontextmanager
    async def ours() -> AsyncIterator[Operation]:
        container = scoped(classes)
        plan = container.compile(classes[-1])
        async with container:

            async def operation() -> object:
                async with container.scope() as scope:
                    return await plan.make(scope) if plan.is_async else plan.make(scope)

            yield operation

    return made


def get(number: int, classes: tuple[type[Any], ...], by_hand: Callable[..., object]) -> Case:
    made = case(f"get-{number}", [Goal("limit", at_most=4.0)], classes, by_hand)

    @made.ours
    @asynccontextmanager
    async def ours() -> AsyncIterator[Operation]:
        container = scoped(classes)
        async with container:

            async def operation() -> object:
                async with container.scope() as scope:
                    found: object = await scope.get(classes[-1])
                    return found

            yield operation

    return made


endpoint_4 = endpoint(4, limit.FOUR, limit.controller)
endpoint_10 = endpoint(10, limit.TEN, limit.endpoint)
get_4 = get(4, limit.FOUR, limit.controller)
get_10 = get(10, limit.TEN, limit.endpoint)
