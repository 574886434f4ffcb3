"""The Models and the data of the suite: every kind of field at every depth, with the values that stores disagree on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from wintry.models import Array, Model, RequiredId

from ..repository import Repository


class Autumn(tzinfo):
    """A zone whose clocks go back from 3:00 to 2:00 in the night of October 25th, 2026, needing no data of zones.

    What its clocks show between 2:00 and 3:00 they show twice; Python takes neither for equal to any time elsewhere.
    """

    def utcoffset(self, when: datetime | None) -> timedelta:
        """One hour, before the turn two."""
        turn = datetime(2026, 10, 25, 2 if when is not None and when.fold else 3)
        return timedelta(hours=2 if when is not None and when.replace(tzinfo=None, fold=0) < turn else 1)

    def dst(self, when: datetime | None) -> timedelta:
        """What is beyond one hour."""
        return self.utcoffset(when) - timedelta(hours=1)

    def tzname(self, when: datetime | None) -> str:
        """Of no meaning."""
        return "autumn"


TWICE = tuple(datetime(2026, 10, 25, 2, 30, tzinfo=Autumn(), fold=fold) for fold in (0, 1))
"""Two instants that one clock shows alike."""


class Address(Model):
    city: str
    zip: str | None = None


class Mark(Model):
    label: str
    weight: int | None = None


class Line(Model):
    number: int = RequiredId()
    sku: str = RequiredId()
    note: str | None = None
    price: float = 0.0


class Parcel(Model):
    code: str = RequiredId(unique=True)
    due: date | None = None
    fragile: bool = False
    lines: list[Line] = Array()


class Order(Model):
    """An aggregate with all that an aggregate can have. Some of its fields are called like words of the language."""

    id: str = RequiredId()
    number: int
    note: str | None = None
    weight: float = 0.0
    urgent: bool = False
    placed: date | None = None
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    address: Address | None = None
    parcels: list[Parcel] = Array()
    marks: list[Mark] = Array()
    words: list[str] = Array()
    tags: list[str] | None = None
    not_before: date | None = None
    order_by_date: int = 0
    terms_and_conditions: str | None = None
    opt_in: bool = False


class Reading(Model):
    """An aggregate with two id fields."""

    sensor: str = RequiredId()
    hour: int = RequiredId()
    value: float | None = None


class Orders(Repository[Order, str], entity=Order):
    """A repository without derived methods."""


class Readings(Repository[Reading, tuple[str, int]], entity=Reading):
    """A repository with a composite id."""


def orders() -> list[Order]:
    """The data of the query cases; fresh objects at each call."""
    plus_two = timezone(timedelta(hours=2))
    return [
        Order(id="a", number=1, note="plain", weight=1.5, placed=date(2026, 1, 1), words=["x", "y"], tags=["x"]),
        Order(
            id="B",
            number=2,
            urgent=True,
            address=Address(city="Köln", zip="50667"),
            parcels=[
                Parcel(code="p1", due=date(2026, 3, 1), lines=[Line(number=1, sku="s", price=9.5)]),
                Parcel(code="p2", due=date(2026, 5, 1), fragile=True, lines=[Line(number=1, sku="t", note="n")]),
            ],
            at=datetime(2026, 6, 1, 12, 30, 15, 123456, tzinfo=plus_two),
        ),
        Order(
            id="c",
            number=-3,
            note="",
            weight=-0.25,
            address=Address(city="Köln"),
            parcels=[Parcel(code="p3", fragile=True)],
            marks=[Mark(label="red", weight=1), Mark(label="red"), Mark(label="blue", weight=3)],
            words=["x", "x", ""],
            tags=[],
            not_before=date(2026, 2, 2),
            order_by_date=7,
        ),
        Order(id="é", number=2**63 - 1, note="100% _ \\ ' \" $where", placed=date(1, 1, 1), opt_in=True),
        Order(id="e\u0301", number=-(2**63), note="e\u0301", placed=date(9999, 12, 31), terms_and_conditions="yes"),
        Order(id="😀", number=2, note="Plain", weight=1e300, address=Address(city="", zip="")),
        Order(
            id="Z", number=10, note="plain\n", at=datetime(1970, 1, 1, tzinfo=UTC), marks=[Mark(label="x", weight=0)]
        ),
        Order(
            id="_",
            number=0,
            note="zz",
            weight=-0.0,
            parcels=[
                Parcel(
                    code="p4", due=date(2026, 3, 1), fragile=False, lines=[Line(number=2, sku="s", price=0.1 + 0.2)]
                ),
                Parcel(code="p5", fragile=True, lines=[Line(number=1, sku="s"), Line(number=2, sku="s", note="n")]),
            ],
        ),
    ]
