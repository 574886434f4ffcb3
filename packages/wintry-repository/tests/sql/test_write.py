"""Whatever is done to an aggregate is what is stored, in few statements."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wintry.models import InvalidValue, Model, same
from wintry.models.tracking import ChangeSet, diff, snapshot
from wintry.repository.backend import Delete, Insert, Update
from wintry.repository.errors import AlreadyExists, ConcurrentModification, UnitAborted
from wintry.repository.sql import SqlBackend, open_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """All of this holds on both."""
    kind: str = request.param
    return kind


Mutation = Callable[[list[Any], Callable[[str], Any]], object]

MUTATIONS: dict[str, Mutation] = {
    "append": lambda items, new: items.append(new("n")),
    "append several": lambda items, new: items.extend([new("n"), new("o"), new("p")]),
    "insert in front": lambda items, new: items.insert(0, new("n")),
    "insert several in front": lambda items, new: items.__setitem__(slice(0, 0), [new("n"), new("o")]),
    "insert in the middle": lambda items, new: items.insert(2, new("n")),
    "insert everywhere": lambda items, new: [items.insert(at, new(f"n{at}")) for at in (0, 2, 4, len(items) + 3)],
    "remove the first": lambda items, new: items.pop(0),
    "remove the last": lambda items, new: items.pop(),
    "remove from the middle": lambda items, new: items.pop(2),
    "remove by a slice": lambda items, new: items.__delitem__(slice(1, 3)),
    "clear": lambda items, new: items.clear(),
    "reverse": lambda items, new: items.reverse(),
    "rotate": lambda items, new: items.append(items.pop(0)),
    "swap": lambda items, new: items.__setitem__(slice(0, 2), [items[1], items[0]]),
    "shuffle": lambda items, new: random.Random(4).shuffle(items),
    "replace one": lambda items, new: items.__setitem__(1, new("n")),
    "replace all": lambda items, new: items.__setitem__(slice(None), [new("n"), new("o")]),
    "replace one by a twin": lambda items, new: items.__setitem__(1, new("b")),
    "shorten and turn": lambda items, new: items.__setitem__(slice(None), [items[3], new("n"), items[0]]),
    "remove, move and append": lambda items, new: items.__setitem__(slice(None), [items[4], *items[1:3], new("n")]),
}


@pytest.mark.contract("REPO-110")
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=list(MUTATIONS))
@pytest.mark.parametrize("array", ["batches", "allocations", "notes", "nested notes", "streets", "words", "days"])
async def test_every_mutation_of_a_list_is_stored(
    store: Any, models: SimpleNamespace, array: str, mutation: Mutation
) -> None:
    owner, id, reach, new = _arrays(models)[array]
    await store.add(owner)
    changed, version = await store.change(type(owner), id, lambda loaded: mutation(reach(loaded), new))
    ((found, stored_version),) = await store.load(type(owner), id)
    assert same(found, changed), found
    assert stored_version == version
    changed, _ = await store.change(type(owner), id, lambda loaded: mutation(_grown(reach(loaded), new), new))
    ((found, _),) = await store.load(type(owner), id)
    assert same(found, changed), found


def _grown(items: list[Any], new: Callable[[str], Any]) -> list[Any]:
    """A list that holds none of what the mutations put in, and enough for each of them."""
    items[:] = [new(f"again{number}") for number in range(5)]
    return items


def _arrays(models: SimpleNamespace) -> dict[str, tuple[Model, Any, Callable[[Any], list[Any]], Callable[[str], Any]]]:
    def line(name: str) -> Any:
        return models.OrderLine(sku="T", qty=len(name), orderid=name)

    def batch(name: str) -> Any:
        return models.Batch(sku="T", purchased_quantity=1, reference=name, allocations=[line("x"), line(name)])

    def note(name: str) -> Any:
        return models.Note(text=name, at=datetime(2026, 1, 1, tzinfo=UTC) if len(name) > 1 else None)

    def street(name: str) -> Any:
        return models.Street(name=name, numbers=[note(name), note("1")])

    def day(name: str) -> date:
        return date(2026, 1, 1) + timedelta(days=ord(name[-1]))

    letters = "abcde"
    product = models.Product(sku="T", batches=[batch(letter) for letter in letters])
    inner = models.Product(sku="T", batches=[batch("z"), batch("q")])
    inner.batches[1].allocations = [line(letter) for letter in letters]
    everything = models.Everything(
        id=1,
        day=date(2026, 1, 1),
        address=models.Address(notes=[note(letter) for letter in letters]),
        words=list(letters),
        days=[day(letter) for letter in letters],
        notes=[note(letter) for letter in letters],
        streets=[street(letter) for letter in letters],
    )
    key = (1, date(2026, 1, 1))
    return {
        "batches": (product, "T", lambda loaded: loaded.batches, batch),
        "allocations": (inner, "T", lambda loaded: loaded.batches[1].allocations, line),
        "notes": (everything, key, lambda loaded: loaded.notes, note),
        "nested notes": (everything, key, lambda loaded: loaded.address.notes, note),
        "streets": (everything, key, lambda loaded: loaded.streets, street),
        "words": (everything, key, lambda loaded: loaded.words, str),
        "days": (everything, key, lambda loaded: loaded.days, day),
    }


SETS: dict[str, Callable[[Any, SimpleNamespace], object]] = {
    "a leaf": lambda x, models: setattr(x, "ratio", -0.0),
    "a leaf to None": lambda x, models: setattr(x, "done", None),
    "a time": lambda x, models: setattr(x, "at", datetime(1, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=-9)))),
    "a nested leaf": lambda x, models: setattr(x.address, "city", "Ulm"),
    "a leaf two levels deep": lambda x, models: setattr(x.address.geo, "lat", 0.1 + 0.2),
    "a nested Model to None": lambda x, models: setattr(x, "address", None),
    "an inner Model to None": lambda x, models: setattr(x.address, "geo", None),
    "another nested Model": lambda x, models: setattr(
        x, "address", models.Address(city="Bonn", notes=[models.Note(text="new")])
    ),
    "a nested Model that cannot be None": lambda x, models: setattr(
        x, "home", models.Address(geo=models.Geo(lat=1.0, tracks=[5e-324]), notes=[models.Note(text="h")])
    ),
    "a list to None": lambda x, models: setattr(x, "days", None),
    "scalars in a nested Model": lambda x, models: x.address.geo.tracks.append(1e300),
    "a value in a list": lambda x, models: x.notes.__setitem__(0, models.Note(text="other")),
    "a list in an item": lambda x, models: x.streets[0].numbers.append(models.Note(text="9")),
    "several at once": lambda x, models: (
        setattr(x, "code", "c2"),
        setattr(x.home, "city", "X"),
        x.words.clear(),
        x.notes.clear(),
        setattr(x.streets[0], "name", "Y"),
    ),
}


@pytest.mark.contract("REPO-110")
@pytest.mark.parametrize("change", SETS.values(), ids=list(SETS))
async def test_every_set_is_stored(
    store: Any, models: SimpleNamespace, change: Callable[[Any, SimpleNamespace], object]
) -> None:
    note = models.Note(text="n", at=datetime(2026, 1, 1, tzinfo=UTC))
    address = models.Address(city="Köln", geo=models.Geo(lat=1.5, tracks=[0.1]), notes=[note, models.Note(text="m")])
    everything = models.Everything(
        id=1,
        day=date(2026, 1, 1),
        done=True,
        code="c",
        address=address,
        days=[],
        notes=[note],
        streets=[models.Street(name="s", numbers=[note])],
    )
    other = models.Everything(id=1, day=date(2026, 1, 2), notes=[note])
    await store.add(everything, other)
    key = (1, date(2026, 1, 1))
    changed, _ = await store.change(models.Everything, key, lambda loaded: change(loaded, models))
    ((found, _),) = await store.load(models.Everything, key)
    assert same(found, changed), found
    ((untouched, version),) = await store.load(models.Everything, (1, date(2026, 1, 2)))
    assert same(untouched, other)
    assert version == 1


@asynccontextmanager
async def statements(backend: SqlBackend, changed: Model, changes: ChangeSet) -> AsyncIterator[list[str]]:
    """The statements of one write, as the database runs them."""
    execution = backend.execution()
    try:
        await execution.begin()
        seen: list[str] = []
        if backend.kind == "sqlite":
            await execution.driver.set_trace_callback(seen.append)
            await backend.write(execution, [Update(changed, changes, 1)])
            await execution.driver.set_trace_callback(None)
        else:
            with execution.driver.query_logger(lambda record: seen.append(record.query)):
                await backend.write(execution, [Update(changed, changes, 1)])
                await asyncio.sleep(0)  # a statement is told in the next round of the event loop
        yield seen
        await execution.commit()
    finally:
        await execution.close()


@pytest.mark.contract("REPO-111")
@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (lambda p, m: p.batches[0].allocations.append(m.OrderLine(sku="T", qty=1, orderid="n")), ["UPDATE", "INSERT"]),
        (lambda p, m: p.batches.insert(0, m.Batch(sku="T", purchased_quantity=1, reference="n")), ["UPDATE", "INSERT"]),
        (lambda p, m: p.batches.pop(), ["UPDATE", "DELETE"]),
        (lambda p, m: setattr(p.batches[1], "eta", date(2026, 1, 1)), ["UPDATE", "UPDATE"]),
        (lambda p, m: p.batches.append(p.batches.pop(0)), ["UPDATE", "SELECT", "UPDATE"]),
        (
            lambda p, m: p.batches.insert(1, m.Batch(sku="T", purchased_quantity=1, reference="n")),
            ["UPDATE", "SELECT", "INSERT"],
        ),
    ],
    ids=["append", "in front", "remove", "set", "move", "in between"],
)
async def test_a_change_is_few_statements(
    store: Any, backend: SqlBackend, models: SimpleNamespace, mutate: Any, expected: list[str]
) -> None:
    batches = [models.Batch(sku="T", purchased_quantity=1, reference=letter) for letter in "abcdef"]
    await store.add(models.Product(sku="T", batches=batches))
    ((product, _),) = await store.load(models.Product, "T")
    before = snapshot(product)
    mutate(product, models)
    async with statements(backend, product, diff(before, product)) as seen:
        sent = dict.fromkeys(seen)  # a statement that cascades is traced once for each table
        assert sorted(text.split()[0] for text in sent) == sorted(expected), seen


@pytest.mark.contract("REPO-112")
async def test_a_narrow_gap_renumbers_the_list(store: Any, models: SimpleNamespace) -> None:
    def put(loaded: Any, number: int) -> None:
        loaded.notes.insert(1, models.Note(text=str(number)))
        loaded.streets.insert(1, models.Street(name=str(number), numbers=[models.Note(text="x")]))

    key = (1, date(2026, 1, 1))
    await store.add(
        models.Everything(
            id=1,
            day=key[1],
            notes=[models.Note(text="a"), models.Note(text="z")],
            streets=[models.Street(name="a"), models.Street(name="z")],
        )
    )
    for number in range(25):  # each halves the gap behind the first item
        changed, _ = await store.change(models.Everything, key, lambda loaded, number=number: put(loaded, number))
    ((found, _),) = await store.load(models.Everything, key)
    assert same(found, changed)
    assert [note.text for note in found.notes] == ["a", *map(str, reversed(range(25))), "z"]


@pytest.mark.contract("REPO-112")
async def test_a_narrow_gap_between_children_with_ids_renumbers_them(store: Any, models: SimpleNamespace) -> None:
    def batch(reference: str) -> Any:
        return models.Batch(sku="T", purchased_quantity=1, reference=reference)

    await store.add(models.Product(sku="T", batches=[batch("a"), batch("z")]))
    for number in range(25):  # each halves the gap behind the first child
        await store.change(models.Product, "T", lambda p, number=number: p.batches.insert(1, batch(str(number))))
    ((found, _),) = await store.load(models.Product, "T")
    assert [each.reference for each in found.batches] == ["a", *map(str, reversed(range(25))), "z"]


@pytest.mark.contract("REPO-110")
async def test_a_nested_model_that_comes_back_has_no_lists_of_its_predecessor(
    store: Any, models: SimpleNamespace
) -> None:
    key = (1, date(2026, 1, 1))
    address = models.Address(notes=[models.Note(text="old"), models.Note(text="older")])
    await store.add(models.Everything(id=1, day=key[1], address=address))
    await store.change(models.Everything, key, lambda loaded: setattr(loaded, "address", None))
    again = models.Address(notes=[models.Note(text="new")])
    await store.change(models.Everything, key, lambda loaded: setattr(loaded, "address", again))
    ((found, _),) = await store.load(models.Everything, key)
    assert same(found.address, again)


@pytest.mark.contract("REPO-113")
async def test_a_unique_value_passes_from_row_to_row(store: Any, models: SimpleNamespace) -> None:
    a, b, c = (models.Everything(id=number, day=date(2026, 1, 1), code=f"c{number}") for number in (1, 2, 3))
    await store.add(a, b, c)
    loaded = [found for found, _ in await store.load(models.Everything, *((n, date(2026, 1, 1)) for n in (1, 2, 3)))]
    before = [snapshot(each) for each in loaded]
    loaded[0].code, loaded[1].code, loaded[2].code = loaded[1].code, loaded[2].code, loaded[0].code
    await store.write(*(Update(new, diff(old, new), 1) for old, new in zip(before, loaded, strict=True)))
    found = await store.load(models.Everything, *((n, date(2026, 1, 1)) for n in (1, 2, 3)))
    assert [each.code for each, _ in found] == ["c2", "c3", "c1"]


@pytest.mark.contract("REPO-113")
async def test_a_unique_value_passes_from_a_removed_row_to_a_new_one(store: Any, models: SimpleNamespace) -> None:
    def batch(reference: str) -> Any:
        return models.Batch(sku="T", purchased_quantity=1, reference=reference)

    await store.add(models.Product(sku="A", batches=[batch("x")]), models.Product(sku="B", batches=[batch("y")]))
    ((a, _), (b, _)) = await store.load(models.Product, "A", "B")
    before = snapshot(a), snapshot(b)
    a.batches, b.batches = b.batches, a.batches
    await store.write(Update(a, diff(before[0], a), 1), Update(b, diff(before[1], b), 1))
    ((a, _), (b, _)) = await store.load(models.Product, "A", "B")
    assert [a.batches[0].reference, b.batches[0].reference] == ["y", "x"]


@pytest.mark.contract("REPO-114")
async def test_what_is_taken_is_named(store: Any, models: SimpleNamespace) -> None:
    batch = models.Batch(sku="T", purchased_quantity=1, reference="x")
    await store.add(models.Product(sku="A", batches=[batch]), models.Everything(id=1, day=date(2026, 1, 1), code="c"))
    cases = [
        (models.Product(sku="A"), "sku", "A"),
        (models.Product(sku="B", batches=[batch]), "batches.reference", "x"),
        (models.Everything(id=1, day=date(2026, 1, 1)), "id, day", (1, date(2026, 1, 1))),
        (models.Everything(id=2, day=date(2026, 1, 1), code="c"), "code", "c"),
    ]
    for taken, field, value in cases:
        good = models.Product(sku="first", batches=[models.Batch(sku="T", purchased_quantity=1, reference="good")])
        with pytest.raises(AlreadyExists) as caught:
            await store.write(Insert(good), Insert(taken))
        assert (caught.value.entity, caught.value.field, caught.value.value) == (type(taken), field, value)
    assert await store.rows("SELECT count(*) FROM products") == [(1,)]


@pytest.mark.contract("REPO-115")
async def test_a_stale_write_changes_nothing(store: Any, models: SimpleNamespace) -> None:
    await store.add(models.Product(sku="A"), models.Product(sku="B"))
    ((first, _),) = await store.load(models.Product, "A")
    before = snapshot(first)
    await store.change(
        models.Product, "A", lambda p: p.batches.append(models.Batch(sku="A", purchased_quantity=1, reference="won"))
    )
    first.batches.append(models.Batch(sku="A", purchased_quantity=1, reference="lost"))
    with pytest.raises(ConcurrentModification) as caught:
        await store.write(Delete(models.Product, "B", 1), Update(first, diff(before, first), 1))
    assert (caught.value.id, caught.value.expected, caught.value.found) == ("A", 1, 2)
    with pytest.raises(ConcurrentModification) as caught:
        await store.write(Delete(models.Product, "A", 1))
    assert caught.value.found == 2
    with pytest.raises(ConcurrentModification) as caught:
        await store.write(Delete(models.Product, "gone", 1))
    assert caught.value.found is None
    found = await store.load(models.Product, "A", "B")
    assert [[batch.reference for batch in product.batches] for product, _ in found] == [["won"], []]


@pytest.mark.contract("REPO-116")
async def test_a_failed_write_poisons_its_transaction(store: Any, backend: SqlBackend, models: SimpleNamespace) -> None:
    await store.add(models.Product(sku="A"))
    execution = backend.execution()
    await backend.write(execution, [Insert(models.Product(sku="B"))])
    with pytest.raises(AlreadyExists):
        await backend.write(execution, [Insert(models.Product(sku="A"))])
    with pytest.raises(UnitAborted):
        await backend.load(execution, models.Product, ["B"])
    with pytest.raises(UnitAborted):
        await execution.commit()
    assert await store.rows("SELECT sku FROM products") == [("A",)]


@pytest.mark.contract("REPO-117")
async def test_a_value_that_no_store_may_hold_is_refused_before_any_statement(
    store: Any, backend: SqlBackend, models: SimpleNamespace
) -> None:
    execution = backend.execution()
    with pytest.raises(InvalidValue, match="batches"):
        batch = models.Batch(sku="T", purchased_quantity=2**63, reference="x")
        await backend.write(
            execution, [Insert(models.Product(sku="A")), Insert(models.Product(sku="B", batches=[batch]))]
        )
    assert not execution.begun
    await execution.close()


@pytest.mark.contract("REPO-118")
async def test_children_go_with_their_root(store: Any, models: SimpleNamespace) -> None:
    lines = [models.OrderLine(sku="A", qty=1, orderid="o")]
    batch = models.Batch(sku="A", purchased_quantity=1, reference="x", allocations=lines)
    await store.add(models.Product(sku="A", batches=[batch]))
    await store.write(Delete(models.Product, "A", 1))
    for name in ("products", "product_batches", "product_batches_allocations"):
        assert await store.rows(f"SELECT count(*) FROM {name}") == [(0,)]
    await store.write(Delete(models.Product, "A"))  # without a version: whatever is there, also nothing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture holds classes only
@given(data=st.data())
def test_any_history_of_a_list_is_stored(data: st.DataObject, models: SimpleNamespace) -> None:
    """Lists of children and of values, rearranged at random several times: what is loaded is what was stored."""

    async def run() -> None:
        backend = open_backend("default", "sqlite://", {})
        backend.bind(models.Everything)
        backend.bind(models.Product)
        async with AsyncExitStack() as opened:
            await backend.open()
            opened.push_async_callback(backend.close)
            await backend.create_schema()
            product = models.Product(sku="T")
            key = (1, date(2026, 1, 1))
            everything = models.Everything(id=1, day=key[1])
            await _write(backend, Insert(product), Insert(everything))
            for version in range(1, data.draw(st.integers(2, 6))):
                names = data.draw(st.lists(st.sampled_from("abcdefghij"), max_size=8))
                unique = list(dict.fromkeys(names))
                before = snapshot(product), snapshot(everything)
                known = {batch.reference: batch for batch in product.batches}
                product.batches = [
                    known.get(name) or models.Batch(sku="T", purchased_quantity=1, reference=name) for name in unique
                ]
                everything.notes = [models.Note(text=name) for name in names]
                everything.streets = [models.Street(name=name, numbers=everything.notes[:1]) for name in names[:3]]
                await _write(
                    backend,
                    Update(product, diff(before[0], product), version),
                    Update(everything, diff(before[1], everything), version),
                )
                execution = backend.execution(read_only=True)
                ((stored, _),) = await backend.load(execution, models.Product, ["T"])
                ((values, _),) = await backend.load(execution, models.Everything, [key])
                await execution.close()
                assert same(stored, product)
                assert same(values, everything)

    asyncio.run(run())


async def _write(backend: SqlBackend, *operations: Any) -> None:
    execution = backend.execution()
    try:
        await backend.write(execution, operations)
        await execution.commit()
    finally:
        await execution.close()
