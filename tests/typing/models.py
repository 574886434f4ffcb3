"""What checkers know of Models: constructors, specifiers as defaults, what `build` and `copy` return.

The ignores are expected errors: a checker that stops reporting one reports the ignore instead.
"""

from collections.abc import Iterator
from datetime import date
from typing import ClassVar, assert_type

from wintry.models import Array, AutoString, Field, Id, Model, RequiredId, Transient, info, same
from wintry.models.tracking import ChangeSet, Snapshot, diff, snapshot


class Money(Model, frozen=True):
    amount: int
    currency: str = "EUR"


class Line(Model):
    sku: str
    qty: int
    orderid: str = RequiredId()


class Batch(Model):
    LIMIT: ClassVar[int] = 10

    sku: str
    reference: str = RequiredId()
    lines: list[Line] = Array()
    codes: list[int] = Array()
    price: Money | None = None
    eta: date | None = None
    events: list[str] = Transient()
    note: str = Field(default="", index=True)
    ean: str = Field(unique=True)

    def __gt__(self, other: "Batch") -> bool:
        return self.sku > other.sku

    def drain(self) -> Iterator[Line]:
        while self.lines:
            yield self.lines.pop()


class Frozen(Batch):
    degrees: float = -18.0


class View(Model):
    id: str = Id(default_factory=AutoString)  # a default before fields without one
    orderid: str


# constructors
Line(sku="chair", qty=1, orderid="o1")
View(orderid="o1")
View(orderid="o1", id="v1")
batch = Batch(sku="chair", reference="b1", ean="4000")
Batch(sku="chair", reference="b1", ean="4000", lines=[], codes=[1], price=Money(amount=3), eta=date.today(), note="n")
Frozen(sku="peas", reference="b2", ean="4001", degrees=-20.0)
Line(sku="chair", qty=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line(sku="chair", orderid="o1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line(sku="chair", qyt=1, orderid="o1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line("chair", 1, "o1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line(sku="chair", qty="1", orderid="o1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Batch(sku="chair", reference="b1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
View()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Frozen(sku="peas", reference="b2", ean="4001", degree=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

# fields
assert_type(batch.reference, str)
assert_type(batch.lines, list[Line])
assert_type(batch.codes, list[int])
assert_type(batch.price, Money | None)
assert_type(batch.events, list[str])
assert_type(batch.note, str)
assert_type(View(orderid="o1").id, str)
assert_type(sorted([batch]), list[Batch])
batch.sku = "table"
batch.sku = 3  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
Money(amount=1).amount = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

# data in and out
assert_type(Batch.build({"sku": "chair"}), Batch)
assert_type(Frozen.build("{}", strict=True, forbid_extra=True), Frozen)
assert_type(Line.build_many([{}, b"{}"]), list[Line])
assert_type(batch.copy(sku="table"), Batch)
Line(**batch.to_dict(exclude={"lines"}))
assert_type(batch.to_json(), str)

# tracking
assert_type(snapshot(batch), Snapshot)
assert_type(diff(snapshot(batch), batch), ChangeSet)
assert_type(diff(batch, batch).apply_to(batch), Batch)
assert_type(same(batch, batch), bool)
assert_type(info(Batch).is_entity, bool)
