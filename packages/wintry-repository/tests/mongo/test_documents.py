"""What stands in a collection, and how few statements put it there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from wintry.models import Array, Field, Model, RequiredId, same
from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import Delete, Insert, Operation, Update
from wintry.repository.errors import AlreadyExists, ConcurrentModification, StoreError
from wintry.repository.mongo import MongoBackend, collection, open_backend
from wintry.repository.mongo.changes import planned
from wintry.repository.plan import QueryPlan

pytestmark = pytest.mark.anyio

Open = Callable[..., Awaitable[MongoBackend]]


class Line(Model):
    sku: str = RequiredId()
    orderid: str = RequiredId()
    qty: int = 1


class Note(Model):
    text: str
    at: datetime | None = None


class Batch(Model):
    reference: str = RequiredId(unique=True)
    quantity: int = 0
    eta: date | None = None
    lines: list[Line] = Array()
    notes: list[Note] = Array()


class Address(Model):
    city: str | None = None
    notes: list[Note] = Array()


class Product(Model):
    sku: str = RequiredId()
    code: str | None = Field(default=None, unique=True)
    weight: float = 0.0
    address: Address | None = None
    batches: list[Batch] = Array()
    words: list[str] = Array()
    days: list[date] | None = None


class Reading(Model):
    sensor: str = RequiredId()
    day: date = RequiredId()
    value: int | None = None


class Tree(Model):
    id: int = RequiredId()
    children: list[Tree] = Array()


def product() -> Product:
    return Product(
        sku="T",
        batches=[
            Batch(reference=f"b{n}", lines=[Line(sku="T", orderid=f"o{m}") for m in range(3)], notes=[Note(text="n")])
            for n in range(3)
        ],
        words=["x", "y"],
        address=Address(city="Bonn"),
    )


async def write(backend: MongoBackend, *operations: Operation) -> None:
    execution = backend.execution()
    try:
        await backend.write(execution, operations)
        await execution.commit()
    finally:
        await execution.close()


async def load(backend: MongoBackend, model: type[Model], *ids: Any) -> list[tuple[Any, int]]:
    execution = backend.execution(read_only=True)
    try:
        return list(await backend.load(execution, model, ids))
    finally:
        await execution.close()


def change(loaded: Any, mutate: Callable[[Any], object], version: int = 1) -> Update:
    before = snapshot(loaded)
    mutate(loaded)
    return Update(loaded, diff(before, loaded), version)


@pytest.mark.contract("REPO-300")
async def test_every_field_is_written_in_its_type(open_on: Open) -> None:
    backend = await open_on(Product)
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    batch = Batch(reference="b", eta=date(2026, 1, 2), notes=[Note(text="n", at=moment)])

    await write(backend, Insert(Product(sku="T", batches=[batch], days=[date(1, 1, 1)])))

    assert await collection(Product, backend).find_one({}) == {
        "_id": "T",
        "code": None,
        "weight": 0.0,
        "address": None,
        "batches": [
            {
                "reference": "b",
                "quantity": 0,
                "eta": datetime(2026, 1, 2),
                "lines": [],
                "notes": [{"text": "n", "at": {"date": datetime(1969, 12, 31, 23, 59, 59, 999_000), "us": 999}}],
            }
        ],
        "words": [],
        "days": [datetime(1, 1, 1)],
        "_version": 1,
    }
    found = await collection(Product, backend).find_one({"batches.quantity": {"$type": "long"}})
    assert type(found["_version"]) is Int64


@pytest.mark.contract("REPO-301")
async def test_a_composite_id_is_a_document(open_on: Open) -> None:
    backend = await open_on(Reading)

    await write(backend, Insert(Reading(day=date(2026, 1, 1), sensor="s")))

    stored = await collection(Reading, backend).find_one({})
    assert list(stored) == ["_id", "value", "_version"]
    assert list(stored["_id"].items()) == [("sensor", "s"), ("day", datetime(2026, 1, 1))]
    assert await load(backend, Reading, ("s", date(2026, 1, 1)))


@pytest.mark.contract("REPO-302")
async def test_what_a_document_lacks_is_its_default_and_what_it_has_beyond_stays(open_on: Open) -> None:
    backend = await open_on(Product)
    raw = collection(Product, backend)
    await raw.insert_one({"_id": "T", "_version": 4, "old": 1, "batches": [{"reference": "b", "color": "red"}]})

    ((found, version),) = await load(backend, Product, "T")
    assert same(found, Product(sku="T", batches=[Batch(reference="b")]))
    await write(backend, change(found, lambda product: setattr(product.batches[0], "quantity", 3), version))

    stored = await raw.find_one({})
    assert (stored["old"], stored["_version"]) == (1, 5)
    assert stored["batches"] == [{"reference": "b", "color": "red", "quantity": 3}]


REWRITES: dict[str, Callable[[Product], object]] = {
    "reordered": lambda p: p.batches.reverse(),
    "put in between": lambda p: p.batches.insert(1, Batch(reference="new")),
    "removed and changed": lambda p: (p.batches.pop(0), setattr(p.batches[0], "quantity", 7)),
    "below a list that is rewritten": lambda p: (p.batches.reverse(), p.batches[0].lines.reverse()),
    "one of the lower lists": lambda p: p.batches[1].lines.reverse(),
}


@pytest.mark.contract("REPO-302")
@pytest.mark.parametrize("rewrite", REWRITES)
async def test_what_children_have_beyond_their_fields_stays_where_their_list_is_rewritten(
    open_on: Open, rewrite: str
) -> None:
    backend = await open_on(Product)
    raw = collection(Product, backend)
    await write(backend, Insert(product()))
    document = await raw.find_one({})
    for batch in document["batches"]:
        batch["color"] = f"of {batch['reference']}"
        for line in batch["lines"]:
            line["gift"] = f"{batch['reference']} {line['orderid']}"
    await raw.replace_one({}, document)
    ((found, version),) = await load(backend, Product, "T")

    await write(backend, change(found, REWRITES[rewrite], version))

    stored = await raw.find_one({})
    assert same((await load(backend, Product, "T"))[0][0], found)
    for batch in stored["batches"]:
        if batch["reference"] != "new":
            assert batch["color"] == f"of {batch['reference']}"
            assert [line["gift"] for line in batch["lines"]] == [
                f"{batch['reference']} {line['orderid']}" for line in batch["lines"]
            ]


@pytest.mark.contract("REPO-302")
async def test_what_children_have_beyond_their_fields_stays_where_a_unique_value_passes(open_on: Open) -> None:
    backend = await open_on(Product)
    raw = collection(Product, backend)
    await write(backend, *(Insert(Product(sku=sku, batches=[Batch(reference=sku)])) for sku in "ab"))
    await raw.update_many({}, {"$set": {"batches.0.color": "red"}})
    loaded = [object for object, _ in await load(backend, Product, "a", "b")]

    await write(
        backend,
        *(change(each, lambda each: each.batches.append(Batch(reference=f"{each.sku}2"))) for each in loaded),
    )

    for stored in await raw.find().to_list(None):
        assert [batch.get("color") for batch in stored["batches"]] == ["red", None]


@pytest.mark.contract("REPO-302")
async def test_a_document_without_a_version_or_a_needed_field_is_told(open_on: Open) -> None:
    backend = await open_on(Product)
    await collection(Product, backend).insert_many([{"_id": "a"}, {"_id": "b", "_version": 1, "batches": [{}]}])

    for id, reason in (
        ("a", "products: the document .a.: it has no _version"),
        ("b", "a stored Batch has no 'reference'"),
    ):
        with pytest.raises(StoreError, match=reason):
            await load(backend, Product, id)


NOON = datetime(2026, 1, 1, 12)


@pytest.mark.contract("REPO-302")
async def test_a_time_that_is_a_plain_date_of_the_store_is_read(open_on: Open) -> None:
    backend = await open_on(Product)
    notes = [{"text": "n", "at": NOON}]
    await collection(Product, backend).insert_one({"_id": "T", "_version": 1, "address": {"notes": notes}})

    ((found, _),) = await load(backend, Product, "T")

    assert found.address.notes[0].at == NOON.replace(tzinfo=UTC)


@pytest.mark.contract("REPO-302")
@pytest.mark.parametrize(
    ("model", "document", "reason"),
    [
        (Reading, {"_id": {"sensor": "s"}}, "readings: the document {'sensor': 's'}: its _id has no 'day'"),
        (Reading, {"_id": "s"}, "readings: the document 's': its _id has no 'sensor'"),
        (Reading, {"_id": {"sensor": "s", "day": "x"}}, "'day' is 'x'"),
        (Reading, {"_id": {"sensor": "s", "day": NOON}, "value": "many"}, "'value' is 'many'"),
        (Reading, {"_id": {"sensor": "s", "day": NOON}, "_version": "new"}, "'_version' is 'new'"),
        (Product, {"_id": "T", "batches": [None]}, "'batches' is [None]"),
        (Product, {"_id": "T", "batches": {"reference": "b"}}, "'batches' is {'reference': 'b'}"),
        (Product, {"_id": "T", "address": "Bonn"}, "'address' is 'Bonn'"),
        (Product, {"_id": "T", "days": [NOON, 5]}, "'days' is"),
        (Product, {"_id": "T", "batches": [{}]}, "products: the document 'T': a stored Batch has no 'reference'"),
        (Product, {"_id": "T", "batches": [{"reference": "b", "notes": [{"text": "n", "at": {}}]}]}, "'at' is {}"),
        (Product, {"_id": "T", "batches": [{"reference": "b", "quantity": None}]}, "'quantity' is None"),
        (
            Tree,
            {"_id": 1, "children": [{"id": {}, "children": []}]},
            "trees: the document 1: a stored Tree: 'id' is {}",
        ),
    ],
)
async def test_a_document_that_cannot_be_read_is_told(
    open_on: Open, model: type[Model], document: dict[str, Any], reason: str
) -> None:
    backend = await open_on(model)
    await collection(model, backend).insert_one({"_version": 1, **document})
    execution = backend.execution(read_only=True)

    with pytest.raises(StoreError) as caught:
        await backend.compile(QueryPlan("all", model, "find")).run(execution, ())
    await execution.close()

    assert reason in str(caught.value)


async def test_a_model_may_contain_itself(open_on: Open) -> None:
    backend = await open_on(Tree)
    tree = Tree(id=1, children=[Tree(id=2, children=[Tree(id=3)])])

    await write(backend, Insert(tree))

    assert same((await load(backend, Tree, 1))[0][0], tree)


PLANS: dict[str, tuple[Callable[[Product], object], dict[str, Any]]] = {
    "a field": (lambda p: setattr(p, "weight", 1.5), {"$set": {"weight": 1.5}}),
    "a nested field": (lambda p: setattr(p.address, "city", None), {"$set": {"address.city": None}}),
    "a child's field": (
        lambda p: setattr(p.batches[1].lines[2], "qty", 7),
        {"$set": {"batches.1.lines.2.qty": 7}},
    ),
    "appended": (
        lambda p: p.batches[0].lines.append(Line(sku="T", orderid="o9")),
        {"$push": {"batches.0.lines": {"$each": [{"sku": "T", "orderid": "o9", "qty": 1}]}}},
    ),
    "removed": (
        lambda p: p.batches.pop(1),
        {"$pull": {"batches": {"reference": {"$in": ["b1"]}}}},
    ),
    "removed by a composite id": (
        lambda p: p.batches[0].lines.pop(1),
        {"$pull": {"batches.0.lines": {"$or": [{"sku": "T", "orderid": "o1"}]}}},
    ),
    "appended and changed elsewhere": (
        lambda p: (p.batches[0].notes.append(Note(text="m")), setattr(p.batches[2], "quantity", 2)),
        {
            "$set": {"batches.2.quantity": 2},
            "$push": {"batches.0.notes": {"$each": [{"text": "m", "at": None}]}},
        },
    ),
    "scalars": (lambda p: p.words.append("z"), {"$set": {"words": ["x", "y", "z"]}}),
}


@pytest.mark.contract("REPO-303")
@pytest.mark.parametrize("name", PLANS)
async def test_a_change_is_one_small_update(name: str) -> None:
    mutate, expected = PLANS[name]
    update = change(product(), mutate)

    assert planned(update.object, update.changes)[0] == expected


@pytest.mark.contract("REPO-303")
@pytest.mark.parametrize(
    "mutate",
    [
        lambda p: (p.batches[0].lines.append(Line(sku="T", orderid="x")), setattr(p.batches[0].lines[0], "qty", 2)),
        lambda p: (p.batches[0].lines.append(Line(sku="T", orderid="x")), p.batches[0].lines.pop(0)),
        lambda p: p.batches[0].lines.reverse(),
        lambda p: p.batches[0].lines.insert(0, Line(sku="T", orderid="x")),
    ],
    ids=["appended and changed", "appended and removed", "moved", "put in front"],
)
async def test_a_mixture_sets_that_list_alone(mutate: Callable[[Product], object]) -> None:
    update = change(product(), mutate)

    (path,) = planned(update.object, update.changes)[0]["$set"]
    assert path == "batches.0.lines"


def edited(product: Product, seed: int) -> None:
    """Some edits at random."""
    draw = random.Random(seed)
    for number in range(draw.randint(1, 4)):
        batch = draw.choice(product.batches) if product.batches else None
        lines: list[Any] = draw.choice([batch.lines, batch.notes, product.batches]) if batch else product.batches
        fresh: dict[int, Callable[[], Any]] = {
            id(batch.lines if batch else None): lambda n=number: Line(sku=f"s{seed}", orderid=f"{n}"),
            id(batch.notes if batch else None): lambda n=number: Note(text=f"{n}"),
            id(product.batches): lambda n=number: Batch(reference=f"r{seed}-{n}", notes=[Note(text="new")]),
        }
        match draw.randint(0, 8):
            case 0 | 1:
                lines.append(fresh[id(lines)]())
            case 2:
                lines.insert(0, fresh[id(lines)]())
            case 3 | 4 if lines:
                lines.pop(draw.randrange(len(lines)))
            case 5:
                draw.shuffle(lines)
            case 6 if batch is not None:
                batch.quantity = number
            case 7:
                product.address = None if product.address else Address(notes=[Note(text="a")])
            case _:
                product.words = [*product.words, "w"] if draw.random() < 0.5 else []


@pytest.mark.contract("REPO-303")
def test_any_edits_are_stored_as_they_are(mongodb_url: str) -> None:
    with asyncio.Runner() as runner:
        backend = open_backend("default", mongodb_url, {})
        backend.bind(Product)
        runner.run(backend.open())
        runner.run(backend.create_schema())

        @given(st.lists(st.integers(0, 10_000), min_size=1, max_size=3, unique=True))
        def check(seeds: list[int]) -> None:
            runner.run(stored_as_it_is(seeds))

        async def stored_as_it_is(seeds: list[int]) -> None:
            await write(backend, Insert(product()))
            for seed in seeds:
                ((found, version),) = await load(backend, Product, "T")
                await write(backend, change(found, lambda p, seed=seed: edited(p, seed), version))
                ((again, _),) = await load(backend, Product, "T")
                assert same(again, found), (again, found)
            await write(backend, Delete(Product, "T"))

        try:
            check()
        finally:
            runner.run(backend.close())


@pytest.mark.contract("REPO-304")
async def test_unique_values_pass_between_aggregates_in_one_write(open_on: Open) -> None:
    backend = await open_on(Product)
    first = Product(sku="a", code="1", batches=[Batch(reference="x"), Batch(reference="y", quantity=5)])
    second = Product(sku="b", code="2", batches=[Batch(reference="z")])
    await write(backend, Insert(first), Insert(second))

    def take(taken: Product, batch: Batch, code: str) -> None:
        taken.code = code
        taken.batches.append(batch)

    old = [snapshot(first), snapshot(second)]
    y, z = first.batches.pop(), second.batches.pop()
    take(first, z, "2")
    take(second, y, "1")
    await write(
        backend,
        *(Update(each, diff(before, each), 1) for before, each in zip(old, (first, second), strict=True)),
    )

    found = await load(backend, Product, "a", "b")
    assert [version for _, version in found] == [2, 2]
    assert all(same(a, b) for (a, _), b in zip(found, (first, second), strict=True))


@pytest.mark.contract("REPO-304")
async def test_a_deleted_aggregate_s_values_are_free_in_the_same_write(open_on: Open) -> None:
    backend = await open_on(Product)
    await write(backend, Insert(Product(sku="a", code="1", batches=[Batch(reference="x")])))

    await write(backend, Insert(Product(sku="b", code="1", batches=[Batch(reference="x")])), Delete(Product, "a", 1))

    assert [found.sku for found, _ in await load(backend, Product, "a", "b")] == ["b"]


@pytest.mark.contract("REPO-305")
async def test_a_unique_value_twice_in_one_aggregate_is_refused(open_on: Open) -> None:
    class Part(Model):
        id: int = RequiredId()
        serial: str = Field(unique=True)

    class Machine(Model):
        id: int = RequiredId()
        parts: list[Part] = Array()

    backend = await open_on(Machine)
    machine = Machine(id=1, parts=[Part(id=1, serial="s"), Part(id=2, serial="s")])

    with pytest.raises(AlreadyExists) as caught:
        await write(backend, Insert(machine))

    assert (caught.value.field, caught.value.value) == ("parts.serial", "s")


@pytest.mark.contract("REPO-306")
async def test_one_stale_aggregate_of_many_is_named_and_nothing_is_written(open_on: Open) -> None:
    backend = await open_on(Product)
    await write(backend, *(Insert(Product(sku=sku)) for sku in "abc"))
    loaded = [found for found, _ in await load(backend, Product, "a", "b", "c")]
    ((other, _),) = await load(backend, Product, "b")
    await write(backend, change(other, lambda product: setattr(product, "weight", 9.0)))

    with pytest.raises(ConcurrentModification) as caught:
        await write(backend, *(change(each, lambda product: setattr(product, "weight", 1.0)) for each in loaded))

    assert (caught.value.id, caught.value.expected, caught.value.found) == ("b", 1, 2)
    assert [(found.weight, version) for found, version in await load(backend, Product, *"abc")] == [
        (0.0, 1),
        (9.0, 2),
        (0.0, 1),
    ]


async def test_an_aggregate_that_was_flushed_before_is_flushed_again(open_on: Open) -> None:
    backend = await open_on(Product)
    await write(backend, Insert(Product(sku="a")))
    ((found, version),) = await load(backend, Product, "a")
    execution = backend.execution()
    await backend.write(execution, [change(found, lambda product: setattr(product, "weight", 1.0), version)])
    again = change(found, lambda product: setattr(product, "weight", 2.0))
    await backend.write(execution, [Update(found, again.changes, 2, bump=False)])
    await execution.commit()

    assert [(p.weight, v) for p, v in await load(backend, Product, "a")] == [(2.0, 2)]
