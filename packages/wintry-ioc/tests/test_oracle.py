"""punq as the oracle: a random graph is wired alike, identity by identity; and what must not be inherited from it.

punq's modes are the lifetimes: `Scope.singleton` = singleton, a cached registration (one for each resolve) = scoped,
an uncached one = transient.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Annotated, Any

import punq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wintry.ioc import Container, InjectionError, Lifetime, Named, injectable

LIFETIMES: tuple[Lifetime, ...] = ("singleton", "scoped", "transient")
Graph = list[tuple[Lifetime, list[int]]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Nodes in order of need: a lifetime, and which of the earlier ones are needed. Nothing captive."""
    nodes: Graph = []
    reaches_scoped: list[bool] = []
    for number in range(draw(st.integers(1, 9))):
        needs = draw(st.lists(st.integers(0, number - 1), unique=True, max_size=4)) if number else []
        reaches = any(reaches_scoped[each] for each in needs)
        lifetime = draw(st.sampled_from(LIFETIMES[1:] if reaches else LIFETIMES))
        nodes.append((lifetime, needs))
        reaches_scoped.append(lifetime == "scoped" or (reaches and lifetime == "transient"))
    return nodes


def classes(nodes: Graph) -> list[type[Any]]:
    made: list[type[Any]] = []
    for number, (_, needs) in enumerate(nodes):
        fields = {f"n{each}": made[each] for each in needs}
        made.append(injectable(type(f"N{number}", (), {"__annotations__": fields})))
    return made


def shape(roots: list[object]) -> list[tuple[object, ...]]:
    """Objects numbered in the order in which they are met, with what each holds: equal for isomorphic graphs."""
    numbers: dict[int, int] = {}
    lines: list[tuple[object, ...]] = []

    def visit(node: object) -> int:
        if id(node) not in numbers:
            numbers[id(node)] = len(numbers)
            lines.append((numbers[id(node)], type(node), *((name, visit(each)) for name, each in vars(node).items())))
        return numbers[id(node)]

    lines.append(tuple(visit(root) for root in roots))
    return lines


@pytest.mark.contract("IOC-080")
@given(graphs())
def test_a_random_graph_is_wired_as_punq_wires_it(nodes: Graph) -> None:
    made = classes(nodes)
    oracle, container = punq.Container(), Container()
    for cls, (lifetime, _) in zip(made, nodes, strict=True):
        if lifetime == "singleton":
            oracle.register(cls, scope=punq.Scope.singleton)
        else:
            oracle.register(cls, cache=lifetime == "scoped")
        container.register(cls, lifetime=lifetime)

    async def ours() -> list[object]:
        found = []
        async with container:
            for _ in range(2):
                async with container.scope() as scope:
                    found.append(await scope.get(made[-1]))
        return found

    assert shape(asyncio.run(ours())) == shape([oracle.resolve(made[-1]) for _ in range(2)])


@pytest.mark.contract("IOC-080")
@given(graphs(), st.data())
def test_every_root_of_one_scope_shares_what_is_scoped(nodes: Graph, data: st.DataObject) -> None:
    made = classes(nodes)
    order = data.draw(st.permutations(range(len(made))))
    container = Container()
    for cls, (lifetime, _) in zip(made, nodes, strict=True):
        container.register(cls, lifetime=lifetime)

    async def run() -> None:
        async with container, container.scope() as scope:
            found = {made[each]: await scope.get(made[each]) for each in order}
            for number, (_, needs) in enumerate(nodes):
                for each in needs:
                    if nodes[each][0] != "transient":
                        assert getattr(found[made[number]], f"n{each}") is found[made[each]]

    asyncio.run(run())


class A: ...


class B: ...


def run(container: Container, *keys: Any) -> list[Any]:
    async def ask() -> list[Any]:
        async with container, container.scope() as scope:
            return [await scope.get(key) for key in keys]

    return asyncio.run(ask())


@pytest.mark.contract("IOC-081")
def test_a_collected_container_leaves_no_object_to_another() -> None:
    for _ in range(200):
        first = Container()
        first.register(A)
        assert type(run(first, A)[0]) is A
        del first
        gc.collect(0)
        second = Container()
        second.register(B)
        assert type(run(second, B)[0]) is B


@pytest.mark.contract("IOC-081")
def test_a_list_keeps_the_singletons_that_exist() -> None:
    container = Container()
    container.register(A)
    one, several, again = run(container, A, list[A], A)
    assert several == [one] == [again]


@pytest.mark.contract("IOC-081")
def test_a_cycle_is_not_called_a_missing_provider() -> None:
    class Hen:
        def __init__(self, egg: Egg) -> None: ...

    class Egg:
        def __init__(self, hen: Hen) -> None: ...

    Hen.__init__.__annotations__["egg"] = Egg
    Egg.__init__.__annotations__["hen"] = Hen
    container = Container()
    container.register(Hen)
    container.register(Egg)
    with pytest.raises(InjectionError, match="cycle") as caught:
        container.validate()
    assert "no provider" not in str(caught.value)


@pytest.mark.contract("IOC-081")
def test_factories_are_wired_awaited_and_ended() -> None:
    log: list[str] = []

    async def make_a() -> A:
        return A()

    def make_b(a: A) -> Iterator[B]:
        assert type(a) is A
        yield B()
        log.append("ended")

    container = Container()
    container.register(A, make_a)
    container.register(B, make_b, lifetime="scoped")
    assert type(run(container, B)[0]) is B
    assert log == ["ended"]


@pytest.mark.contract("IOC-081")
def test_a_name_in_a_constructor_is_kept() -> None:
    class Wants:
        def __init__(self, other: Annotated[A, Named("other")]) -> None:
            self.other = other

    class Other(A): ...

    container = Container()
    container.register(A)
    container.register(A, Other, name="other")
    container.register(Wants)
    assert type(run(container, Wants)[0].other) is Other


@pytest.mark.contract("IOC-081")
def test_looking_for_what_is_not_there_leaves_nothing_behind() -> None:
    container = Container()
    container.register(A)

    async def ask() -> list[str]:
        async with container, container.scope() as scope:
            for _ in range(5):
                with pytest.raises(LookupError):
                    await scope.get(B)
        return [str(each) for each in container.faults]

    assert asyncio.run(ask()) == []
    assert container.subclasses(B) == []


@pytest.mark.contract("IOC-081")
def test_two_classes_of_one_name_are_two_keys() -> None:
    one, other = type("Same", (), {}), type("Same", (), {})
    container = Container()
    container.register(one)
    container.register(other)
    assert [type(each) for each in run(container, one, other)] == [one, other]
