"""What every backend does beside queries: storing, loading, versions, uniqueness, transactions.

Each case is a coroutine function that gets an open `Backends` with a fresh store called "default", and raises
AssertionError where the store breaks the line. It is written against repositories as far as they reach, and against
executions where only two transactions side by side can show the line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wintry.models import InvalidValue, info, same

from ..errors import (
    AlreadyExists,
    ConcurrentModification,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
)
from .models import Address, Line, Mark, Order, Orders, Parcel, Reading, Readings, orders
from .queries import asking, stored

if TYPE_CHECKING:
    from ..connections import Backends

Run: TypeAlias = "Callable[[Backends], Awaitable[None]]"


@dataclass(frozen=True)
class Case:
    """One line of the contract, as a coroutine function that breaks where a backend breaks it."""

    line: str
    run: Run

    def __str__(self) -> str:
        return self.run.__name__


def case(line: str) -> Callable[[Run], Case]:
    """Make a case of a function."""
    return partial(Case, line)


async def raises(expected: type[Exception], awaitable: Awaitable[Any]) -> Any:
    """The error that `awaitable` ends with; AssertionError where it ends with none of the kind."""
    try:
        result = await awaitable
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} expected, but it gave {result!r}")


async def load(backends: Backends, *ids: str) -> Any:
    """The orders of these ids and their versions, as the backend loads them."""
    execution = backends["default"].execution(read_only=True)
    try:
        return await backends["default"].load(execution, Order, ids)
    finally:
        await execution.close()


@case("REPO-042")
async def loads_what_was_saved(backends: Backends) -> None:
    """Every value of every field comes back in its type, on each path that loads it."""
    repository = Orders(backends)
    await repository.create_many(entities=orders())
    for order in orders():
        wanted = stored(order)
        assert same(await repository.get(order.id), wanted), order.id
        (found,) = await repository.find_many([order.id])
        assert same(found, wanted), order.id
    everything = sorted(orders(), key=lambda order: order.id)
    assert all(same(a, stored(b)) for a, b in zip(await repository.find(), everything, strict=True))


@case("REPO-042")
async def times_are_instants(backends: Backends) -> None:
    """A time is kept to the microsecond, and comes back in UTC whatever its zone was."""
    repository = Orders(backends)
    moment = datetime(2026, 6, 1, 1, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    await repository.create(entity=Order(id="x", number=1, at=moment))
    found = await repository.one("x")
    assert found.at == moment
    assert found.at.utcoffset() == timedelta(0)
    assert found.at.microsecond == 1


@case("REPO-060")
async def lists_keep_their_order(backends: Backends) -> None:
    """Children, value objects and scalars come back in the order of the list, after any rearrangement."""
    repository = Orders(backends)
    parcels = [Parcel(code=code, lines=[Line(number=n, sku=code) for n in (3, 1, 2)]) for code in "badc"]
    await repository.create(entity=Order(id="x", number=1, parcels=parcels, words=["b", "a", "b"]))
    found = await repository.one("x")
    assert [parcel.code for parcel in found.parcels] == list("badc")
    assert [line.number for line in found.parcels[2].lines] == [3, 1, 2]
    assert found.words == ["b", "a", "b"]
    found.parcels.sort(key=lambda parcel: parcel.code)
    found.parcels.insert(1, Parcel(code="n"))
    del found.parcels[3]
    found.parcels[0].lines.reverse()
    found.words.insert(0, "z")
    await repository.update(entity=found)
    again = await repository.one("x")
    assert same(again, found), again
    assert [parcel.code for parcel in again.parcels] == ["a", "n", "b", "d"]


@case("REPO-050")
async def finds_by_id(backends: Backends) -> None:
    """get, get_by_id, one, exists, find_many; with a composite id too."""
    repository, readings = Orders(backends), Readings(backends)
    await repository.create_many(entities=[Order(id=id, number=1) for id in "cab"])
    assert await repository.get("nope") is None
    assert await repository.get_by_id(id="nope") is None
    assert (await repository.one("a")).id == "a"
    assert isinstance(await raises(NotFound, repository.one("nope")), LookupError)
    assert [order.id for order in await repository.find_many(["b", "nope", "c", "b"])] == ["b", "c", "b"]
    assert [order.id for order, _ in await load(backends, "b", "nope", "a", "c")] == ["b", "a", "c"]
    assert await repository.find_many([]) == []
    assert (await repository.exists("a"), await repository.exists("nope")) == (True, False)
    await readings.create(entity=Reading(sensor="s", hour=1, value=0.5))
    await readings.create(entity=Reading(sensor="s", hour=2))
    assert (await readings.one(("s", 1))).value == 0.5
    assert await readings.get(("s", 3)) is None
    assert await readings.delete_by_id(id=("s", 1)) is True
    assert [reading.hour for reading in await readings.find()] == [2]


@case("REPO-049")
async def gives_back_what_it_stored(backends: Backends) -> None:
    """create, create_many and update give back the objects that they were given."""
    repository = Orders(backends)
    one, two = Order(id="x", number=1), Order(id="y", number=1)
    assert await repository.create(entity=one) is one
    (same_two,) = await repository.create_many(entities=iter([two]))
    assert same_two is two
    two.number = 2
    assert await repository.update(entity=two) is two
    one.words.append("not told to anybody")
    assert [(order.id, order.number, order.words) for order in await repository.find()] == [("x", 1, []), ("y", 2, [])]


@case("REPO-051")
async def counts_and_lists_all(backends: Backends) -> None:
    """find is by id; count counts."""
    repository = Orders(backends)
    assert (await repository.count(), await repository.find()) == (0, [])
    await repository.create_many(entities=[Order(id=id, number=1) for id in "cab"])
    assert await repository.count() == 3
    assert [order.id for order in await repository.find()] == ["a", "b", "c"]


@case("REPO-053")
async def updates_what_changed(backends: Backends) -> None:
    """An edit of a loaded object, at any depth, is stored, and its version goes up by one."""
    repository = Orders(backends)
    await repository.create_many(entities=orders())
    order = await repository.one("B")
    assert repository.version_of(order) == 1
    order.note = "changed"
    order.address = Address(city="Bonn")
    order.parcels[0].lines[0].price = 1.25
    order.parcels[1].lines.append(Line(number=2, sku="u"))
    order.marks.append(Mark(label="new"))
    await repository.update(entity=order)
    assert repository.version_of(order) == 2
    again = await repository.one("B")
    assert same(again, order), again
    assert repository.version_of(again) == 2
    again.address = None
    again.parcels.pop(0)
    await repository.update(entity=again)
    assert same(await repository.one("B"), again)
    assert await asking("find_by_address__city", ["city"])(backends).ask(city="Bonn") == [], "it went with its address"
    await repository.update(entity=again)
    assert repository.version_of(again) == 3, "nothing had changed"
    assert repository.version_of(await repository.one("B")) == 3


@case("REPO-053")
async def refuses_a_stale_update(backends: Backends) -> None:
    """The second of two writers of one version is told so, and changes nothing; a child's edit counts."""
    repository = Orders(backends)
    await repository.create(entity=Order(id="x", number=1, parcels=[Parcel(code="p")]))
    first, second = await repository.one("x"), await repository.one("x")
    first.parcels[0].fragile = True
    await repository.update(entity=first)
    second.number = 2
    error = await raises(ConcurrentModification, repository.update(entity=second))
    assert (error.entity, error.id, error.expected) == (Order, "x", 1)
    assert (await repository.one("x")).number == 1
    await raises(ConcurrentModification, repository.delete(entity=second))
    assert await repository.exists("x")


@case("REPO-054")
async def updates_a_built_object(backends: Backends) -> None:
    """An object that was not loaded replaces what is stored; a given version must be the stored one."""
    repository = Orders(backends)
    await repository.create_many(entities=orders())
    built = Order(id="B", number=5, parcels=[Parcel(code="p2"), Parcel(code="new")])
    await repository.update(entity=built)
    assert same(await repository.one("B"), built)
    assert repository.version_of(built) == 2
    error = await raises(PreconditionFailed, repository.update(entity=Order(id="B", number=6), expected_version=1))
    assert (error.expected, error.found) == (1, 2)
    await repository.update(entity=Order(id="B", number=6), expected_version=2)
    await raises(NotFound, repository.update(entity=Order(id="nope", number=1)))


@case("REPO-055")
async def upserts(backends: Backends) -> None:
    """upsert creates, or replaces the whole, and tells which."""
    repository = Orders(backends)
    assert await repository.upsert(entity=Order(id="x", number=1, words=["a"])) is True
    assert await repository.upsert(entity=Order(id="x", number=2)) is False
    assert same(await repository.one("x"), Order(id="x", number=2))


@case("REPO-056")
async def deletes_with_children(backends: Backends) -> None:
    """A deleted aggregate leaves nothing behind: its children's unique values are free."""
    repository = Orders(backends)
    await repository.create_many(entities=orders())
    await repository.delete(entity=await repository.one("B"))
    assert await repository.get("B") is None
    await repository.create(entity=Order(id="new", number=1, parcels=[Parcel(code="p1"), Parcel(code="p2")]))
    assert await repository.delete_by_id(id="new") is True
    assert await repository.delete_by_id(id="new") is False
    await raises(NotFound, repository.delete(entity=Order(id="new", number=1)))
    await repository.delete(entity=Order(id="c", number=0))
    left = await repository.count()
    assert await repository.delete_all() == left == 6
    await repository.create(entity=Order(id="new", number=1, parcels=[Parcel(code="p4")]))


@case("REPO-058")
async def keeps_ids_and_unique_fields_apart(backends: Backends) -> None:
    """A second id, and a second value of a unique field of a child in any aggregate, are refused by name."""
    repository = Orders(backends)
    await repository.create(entity=Order(id="x", number=1, parcels=[Parcel(code="p")]))
    error = await raises(AlreadyExists, repository.create(entity=Order(id="x", number=2)))
    assert (error.entity, error.field, error.value) == (Order, "id", "x")
    error = await raises(AlreadyExists, repository.create(entity=Order(id="y", number=2, parcels=[Parcel(code="p")])))
    assert (error.entity, error.field, error.value) == (Order, "parcels.code", "p")
    assert await repository.count() == 1
    other = await repository.create(entity=Order(id="y", number=2))
    other.parcels.append(Parcel(code="p"))
    await raises(AlreadyExists, repository.update(entity=other))
    assert (await repository.one("y")).parcels == []
    first = await repository.one("x")
    first.parcels[0] = Parcel(code="p", fragile=True)
    await repository.update(entity=first)
    assert (await repository.one("x")).parcels[0].fragile is True


@case("REPO-059")
async def refuses_values_that_no_store_keeps(backends: Backends) -> None:
    """A value of another type, out of range, or text with a NUL is refused with its path, before anything is stored."""
    repository = Orders(backends)
    wrong: list[dict[str, Any]] = [
        {"number": 2**63},
        {"number": True},
        {"number": "1"},
        {"note": "a\0b"},
        {"note": "\ud800"},
        {"weight": float("nan")},
        {"placed": datetime(2026, 1, 1, tzinfo=UTC)},
        {"at": datetime(2026, 1, 1)},
        {"parcels": [Parcel(code="p", due="2026-01-01")]},  # type: ignore[arg-type]  # the fault
    ]
    for values in wrong:
        await raises(InvalidValue, repository.create(entity=Order(**{"id": "x", "number": 1, **values})))
    assert await repository.count() == 0
    order = await repository.create(entity=Order(id="x", number=1))
    order.number = 2**63
    await raises(InvalidValue, repository.update(entity=order))
    assert (await repository.one("x")).number == 1


@case("REPO-061")
async def creates_all_or_none(backends: Backends) -> None:
    """create_many is one transaction."""
    repository = Orders(backends)
    await repository.create(entity=Order(id="b", number=1))
    await raises(AlreadyExists, repository.create_many(entities=[Order(id=id, number=1) for id in "abc"]))
    assert [order.id for order in await repository.find()] == ["b"]


@case("REPO-002")
async def verbs_agree(backends: Backends) -> None:
    """exists and count tell of what find finds, and delete takes just that away, with all its children."""
    await Orders(backends).create_many(entities=orders())
    for name, values, found in (
        ("parcels__lines__sku", {"parcels__lines__sku": "s"}, ["B", "_"]),
        ("number_gt_and_note_ne", {"number_gt": 1, "note_ne": None}, ["Z", "é", "😀"]),
        ("words", {"words": "nope"}, []),
    ):
        verbs = ("find", "count", "exists", "delete")
        ask = {verb: asking(f"{verb}_by_{name}", values)(backends).ask for verb in verbs}
        assert [order.id for order in await ask["find"](**values)] == found, name
        assert await ask["count"](**values) == len(found), name
        assert await ask["exists"](**values) is bool(found), name
        assert await ask["delete"](**values) == len(found), name
        assert (await ask["count"](**values), await ask["exists"](**values)) == (0, False), name
    assert [order.id for order in await Orders(backends).find()] == ["a", "c", "e\u0301"]
    await Orders(backends).create(entity=Order(id="new", number=1, parcels=[Parcel(code="p1"), Parcel(code="p4")]))


@case("REPO-041")
async def refuses_ids_of_another_type(backends: Backends) -> None:
    """An id is of the type of its field."""
    repository, readings = Orders(backends), Readings(backends)
    await raises(InvalidArgument, repository.get(1))  # type: ignore[arg-type]  # the fault
    await raises(InvalidArgument, repository.get("a\0"))
    await raises(InvalidArgument, readings.get("s"))  # type: ignore[arg-type]  # the fault
    await raises(InvalidArgument, readings.get(("s", True)))


@case("REPO-043")
async def values_never_change_the_meaning(backends: Backends) -> None:
    """What stands in a value is data, whatever it looks like in another language."""
    repository = Orders(backends)
    hostile = [
        "'; drop table orders; --",
        '"',
        "$where",
        "{'$gt': ''}",
        "%",
        "_",
        "\\",
        ":id",
        "?",
        "a{b}",
        "\u2028",
        "\n",
    ]
    for number, text in enumerate(hostile):
        await repository.create(entity=Order(id=text, number=number, note=text, words=[text]))
    for number, text in enumerate(hostile):
        found = await repository.one(text)
        assert (found.number, found.note, found.words) == (number, text, [text])
    assert await repository.count() == len(hostile)


@case("REPO-052")
async def set_based_deletes_count_aggregates(backends: Backends) -> None:
    """delete_all is one statement over roots and children; nothing of the children stays."""
    repository = Orders(backends)
    await repository.create_many(entities=orders())
    assert await repository.delete_all() == len(orders())
    assert await repository.delete_all() == 0
    await repository.create_many(entities=orders())
    assert await repository.count() == len(orders())


@case("REPO-057")
async def versions_are_told(backends: Backends) -> None:
    """version_of tells the version of what was created, loaded or updated, and None of what nobody knows."""
    repository = Orders(backends)
    order = Order(id="x", number=1, placed=date(2026, 1, 1))
    assert repository.version_of(order) is None
    await repository.create(entity=order)
    assert repository.version_of(order) == 1
    order.number = 2
    await repository.update(entity=order)
    assert repository.version_of(order) == 2
    assert repository.version_of(await repository.one("x")) == 2
    assert repository.version_of(Order(id="x", number=2)) is None
    assert info(Order).id_of(order) == "x"


CASES: Final = tuple(found for found in list(globals().values()) if isinstance(found, Case))
"""Every case of this module, in its order."""
