"""What keeps a store from losing anything without a word: what it refuses, and what a write is guarded by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from wintry.models import Array, IdentityChanged, Model, RequiredId, same

from ..errors import AlreadyExists, ConcurrentModification, InvalidArgument, NotFound, Unsupported
from ..query import query
from ..repository import Repository
from .contract import Case, case, raises
from .models import TWICE, Line, Order, Orders, Parcel, Reading
from .queries import asking

if TYPE_CHECKING:
    from ..connections import Backends


class Gift(Order):
    """An aggregate of a class that another stored class begins."""

    wrapping: str = "paper"


class Dated(Model):
    """What several aggregates have, without an identity."""

    made: date = date(2026, 1, 1)
    tags: list[str] = Array()


class Note(Dated):
    """An aggregate that begins with another Model's fields."""

    id: str = RequiredId()
    text: str = ""


class Notes(Repository[Note, str], entity=Note):
    """A repository of an aggregate that inherits fields and no identity."""


class Measured(Repository[Reading, tuple[str, int]], entity=Reading):
    """A repository that asks for a composite id by its fields."""

    @query
    async def get_by_sensor_and_hour(self, *, sensor: str | None, hour: int | None) -> Reading | None:
        """The reading of these two."""
        raise NotImplementedError


class Event(Model):
    """An aggregate whose id is a time."""

    at: datetime = RequiredId()
    name: str = ""


class Events(Repository[Event, datetime], entity=Event):
    """A repository of what happened."""

    @query
    async def get_by_at(self, *, at: datetime | None) -> Event | None:
        """The event of this instant."""
        raise NotImplementedError

    @query
    async def find_by_at_in(self, *, at: list[datetime]) -> list[Event]:
        """The events of these instants."""
        raise NotImplementedError


class Gifts(Repository[Gift, str], entity=Gift):
    """A repository of what cannot be stored whole."""


@case("REPO-084")
async def refuses_a_part_of_an_inheritance_tree(backends: Backends) -> None:
    """A Model that inherits its identity is refused, since its own fields would have no place; the root is stored."""
    backend = backends["default"]
    for attempt in (lambda: Gifts(backends), lambda: backend.bind(Gift)):
        error = refused(attempt)
        assert "Gift" in error.place, error
        assert "Order" in error.reason, error
        assert error.hint is not None, error
    backend.bind(Order)


@case("REPO-084")
async def stores_fields_that_are_inherited(backends: Backends) -> None:
    """A Model may have fields from one without an identity."""
    repository, note = Notes(backends), Note(id="x", made=date(2026, 2, 2), tags=["a"], text="t")
    await repository.create(entity=note)
    assert same(await repository.one("x"), note)


@case("REPO-030")
async def finds_nothing_where_a_part_of_the_id_is_none(backends: Backends) -> None:
    """No row has None in its id."""
    repository = Measured(backends)
    await repository.create(entity=Reading(sensor="s", hour=1))
    assert await repository.get_by_sensor_and_hour(sensor="s", hour=1) is not None
    for sensor, hour in ((None, 1), ("s", None), (None, None)):
        assert await repository.get_by_sensor_and_hour(sensor=sensor, hour=hour) is None


@case("REPO-041")
async def refuses_numbers_beyond_all_bounds(backends: Backends) -> None:
    """A number that no float and no int of 64 bits can be is a wrong argument, however long it is."""
    for name in ("number", "weight"):
        ask = asking(f"find_by_{name}", [name])(backends).ask
        among = asking(f"find_by_{name}_in", [name])(backends).ask
        for value in (10**400, -(10**400), 10**5000):
            await raises(InvalidArgument, ask(**{name: value}))
            await raises(InvalidArgument, among(**{name: [value]}))
    await raises(InvalidArgument, asking("find_by_weight", ["weight"])(backends).ask(weight="1"))
    await raises(InvalidArgument, asking("find_by_note", ["note"])(backends).ask(note=10**5000))


@case("REPO-045")
async def tells_apart_what_a_clock_shows_twice(backends: Backends) -> None:
    """Times are instants, also as ids and where a clock that is put back shows two of them alike."""
    repository = Events(backends)
    first, second = [await repository.create(entity=Event(at=at, name=str(at.fold))) for at in TWICE]
    for event in (first, second):
        for at in (event.at, event.at.astimezone(UTC)):
            for found in (
                await repository.get(at),
                await repository.get_by_at(at=at),
                *await repository.find_many([at]),
            ):
                assert found is not None, at
                assert (found.name, found.at) == (event.name, at.astimezone(UTC)), at
            assert await repository.exists(at), at
    assert [event.name for event in await repository.find_many([second.at, first.at])] == ["1", "0"]
    assert len(await repository.find_by_at_in(at=[*TWICE, TWICE[0].astimezone(UTC)])) == 2
    assert await repository.get_by_at(at=None) is None
    await raises(AlreadyExists, repository.create(entity=Event(at=second.at.astimezone(UTC))))
    second.name = "edited"
    await repository.update(entity=second)
    assert (await repository.one(second.at.astimezone(UTC))).name == "edited"
    await repository.delete(entity=first)
    assert await repository.delete_by_id(id=second.at) is True
    assert await repository.count() == 0


@case("REPO-055")
async def upserts_what_was_deleted(backends: Backends) -> None:
    """What is remembered of an object ends with its row: it can be created again, and not be updated."""
    repository = Orders(backends)
    order = await repository.create(entity=Order(id="x", number=1, parcels=[Parcel(code="p")]))
    await repository.delete(entity=order)
    assert repository.version_of(order) is None
    await raises(NotFound, repository.update(entity=order))
    assert await repository.upsert(entity=order) is True
    assert same(await repository.one("x"), order)
    assert repository.version_of(order) == 1
    await repository.delete_by_id(id="x")
    assert await repository.upsert(entity=order) is True, "though it was remembered"
    assert same(await repository.one("x"), order)


@case("REPO-055")
async def upserts_over_what_others_stored(backends: Backends) -> None:
    """An upsert replaces the whole of what is stored, whatever that is, also where its object is as it was loaded."""
    repository = Orders(backends)
    await repository.create(entity=Order(id="x", number=1, parcels=[Parcel(code="p")]))
    mine, theirs = await repository.one("x"), await repository.one("x")
    theirs.number, theirs.parcels = 2, [Parcel(code="q")]
    await repository.update(entity=theirs)
    assert await repository.upsert(entity=mine) is False
    assert same(await repository.one("x"), mine)
    assert repository.version_of(mine) == 3
    assert await repository.upsert(entity=mine) is False
    assert repository.version_of(await repository.one("x")) == 3, "nothing had changed"
    mine.number = 5
    await repository.update(entity=mine)
    assert (await repository.one("x")).number == 5
    mine.id = "y"
    await raises(IdentityChanged, repository.upsert(entity=mine))


@case("REPO-068")
async def an_update_of_nothing_is_guarded_too(backends: Backends) -> None:
    """An update without changes writes nothing, and still tells that the row has moved or gone."""
    repository = Orders(backends)
    order = await repository.create(entity=Order(id="x", number=1))
    assert await repository.update(entity=order) is order
    assert repository.version_of(await repository.one("x")) == 1
    theirs = await repository.one("x")
    theirs.number = 2
    await repository.update(entity=theirs)
    error = await raises(ConcurrentModification, repository.update(entity=order))
    assert (error.id, error.expected, error.found) == ("x", 1, 2)
    await repository.delete_by_id(id="x")
    error = await raises(ConcurrentModification, repository.update(entity=theirs))
    assert (error.expected, error.found) == (2, None)


@case("REPO-069")
async def keeps_edits_made_while_a_call_waits(backends: Backends) -> None:
    """What is changed in an object while it is being stored, and is not stored with it, is stored by the next update."""
    repository = Orders(backends)
    await repository.create(entity=Order(id="first", number=1))
    for steps in range(8):
        between, line = Parcel(code=f"{steps}-new"), Line(number=1, sku="s")
        order = Order(id=f"o{steps}", number=1, parcels=[Parcel(code=f"{steps}-{name}") for name in "ab"])
        await _meanwhile(repository.create(entity=order), steps, partial(order.words.append, "a"))
        await repository.update(entity=order)
        assert same(await repository.one(order.id), order), steps
        order.note = "edited"
        await _meanwhile(repository.update(entity=order), steps, partial(setattr, order, "number", 2))
        await repository.update(entity=order)
        assert same(await repository.one(order.id), order), steps
        order.parcels.insert(1, between)
        await _meanwhile(repository.update(entity=order), steps, partial(between.lines.append, line))
        await repository.update(entity=order)
        assert same(await repository.one(order.id), order), steps


async def _meanwhile(call: Coroutine[Any, Any, object], steps: int, edit: Callable[[], object]) -> None:
    """Await `call`, and `edit` after some steps of the event loop, unless it ended before."""
    task = asyncio.ensure_future(call)
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    edit()
    await task


def refused(attempt: Callable[[], object]) -> Unsupported:
    """The `Unsupported` that `attempt` raises; AssertionError where it raises none."""
    try:
        attempt()
    except Unsupported as error:
        return error
    raise AssertionError("Unsupported expected")


CASES: Final = tuple(found for found in list(globals().values()) if isinstance(found, Case))
"""Every case of this module, in its order."""
