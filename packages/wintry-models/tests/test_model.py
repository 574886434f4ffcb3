"""The class: constructor, identity, equality, definition errors."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from typing import Any, ClassVar
from uuid import UUID

import pytest

from wintry.models import (
    Array,
    AutoString,
    AutoUUID,
    DefinitionError,
    Field,
    Id,
    Model,
    RequiredId,
    Transient,
    collecting,
    info,
    same,
)
from wintry.models.tracking import diff, snapshot


@dataclasses.dataclass
class Stamp:
    on: date


class Line(Model):
    qty: int
    orderid: str = RequiredId()
    sku: str = RequiredId()


class Batch(Model):
    sku: str
    quantity: int
    reference: str = RequiredId()
    lines: list[Line] = Array()
    eta: date | None = None
    limit: ClassVar[int] = 3
    kind = "batch"

    @property
    def available(self) -> int:
        return self.quantity - sum(line.qty for line in self.lines)

    def drain(self) -> Iterator[Line]:
        while self.lines:
            yield self.lines.pop()

    def __gt__(self, other: Batch) -> bool:
        return (self.eta or date.min) > (other.eta or date.min)


class View(Model):
    id: str = Id(default_factory=AutoString)
    orderid: str


class Money(Model, frozen=True):
    amount: int
    currency: str


class Point(Model):
    x: int
    y: int = 0


class SpecialBatch(Batch):
    note: str = ""


@pytest.mark.contract("MODELS-001")
class TestClass:
    def test_is_a_keyword_only_dataclass(self) -> None:
        batch = Batch(sku="chair", quantity=10, reference="b1")
        assert dataclasses.is_dataclass(batch)
        assert [field.name for field in dataclasses.fields(batch)] == ["sku", "quantity", "reference", "lines", "eta"]
        assert repr(batch) == "Batch(sku='chair', quantity=10, reference='b1', lines=[], eta=None)"
        with pytest.raises(TypeError):
            Batch("chair", 10, "b1")  # type: ignore[misc]  # positional on purpose

    def test_a_plain_dataclass_among_the_bases_gives_its_fields(self) -> None:
        class Noted(Stamp, Model):
            id: str = RequiredId()

        noted = Noted(id="1", on=date(2026, 1, 1))
        assert list(info(Noted).by_name) == ["on", "id"]
        assert same(Noted.build(noted.to_json()), noted)

    def test_a_default_may_stand_before_fields_without_one(self) -> None:
        assert len(View(orderid="o1").id) == 32
        with pytest.raises(TypeError, match="orderid"):
            View()  # type: ignore[call-arg]  # missing on purpose

    def test_methods_properties_generators_and_class_attributes_work(self) -> None:
        line = Line(qty=4, orderid="o1", sku="chair")
        batch = Batch(sku="chair", quantity=10, reference="b1", lines=[line])
        assert (batch.available, Batch.limit, Batch.kind) == (6, 3, "batch")
        assert list(batch.drain()) == [line]
        assert batch.available == 10

    def test_post_init_runs_and_inheritance_adds_fields(self) -> None:
        class Named(Model):
            name: str

            def __post_init__(self) -> None:
                self.name = self.name.strip()

        class Titled(Named):
            title: str = "Dr"

        titled = Titled(name=" Who ")
        assert (titled.name, titled.title) == ("Who", "Dr")
        assert [field.name for field in info(Titled).fields] == ["name", "title"]

    def test_the_docstring_stays_the_authors(self) -> None:
        assert Batch.__doc__ is None
        assert Model.__doc__ is not None

    def test_instances_can_be_pickled(self) -> None:
        batch = Batch(sku="chair", quantity=1, reference="b", lines=[Line(qty=1, orderid="o", sku="chair")])
        assert same(pickle.loads(pickle.dumps(batch)), batch)


@pytest.mark.contract("MODELS-002")
def test_the_constructor_validates_nothing() -> None:
    assert Point(x="not a number").x == "not a number"  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.contract("MODELS-003")
class TestIdentityFields:
    def test_a_required_id_must_be_given(self) -> None:
        with pytest.raises(TypeError, match="reference"):
            Batch(sku="chair", quantity=1)  # type: ignore[call-arg]  # missing on purpose

    def test_an_id_is_filled_where_it_is_not_given(self) -> None:
        assert View(orderid="o").id != View(orderid="o").id
        assert View(orderid="o", id="mine").id == "mine"

    def test_several_are_a_composite_identity_in_declared_order(self) -> None:
        assert [field.name for field in info(Line).identity] == ["orderid", "sku"]
        assert Line(qty=1, orderid="o", sku="a") == Line(qty=2, orderid="o", sku="a")
        assert Line(qty=1, orderid="o", sku="a") != Line(qty=1, orderid="a", sku="o")


@pytest.mark.contract("MODELS-004")
def test_an_array_is_the_objects_own_empty_list() -> None:
    first, second = (Batch(sku="chair", quantity=1, reference=key) for key in "ab")
    first.lines.append(Line(qty=1, orderid="o", sku="chair"))
    assert type(second.lines) is list
    assert second.lines == []


@pytest.mark.contract("MODELS-005")
class TestTransient:
    class Cart(Model):
        id: str = RequiredId()
        events: list[object] = Transient()
        cache: dict[str, Any] = Transient(default_factory=dict)
        seen: bool = Transient(default=False)

    def test_has_a_default_of_its_own(self) -> None:
        first, second = self.Cart(id="a"), self.Cart(id="b")
        first.events.append("added")
        assert (second.events, second.cache, second.seen) == ([], {}, False)

    def test_is_not_stored_compared_copied_or_serialised(self) -> None:
        cart = self.Cart(id="a", events=["added"], seen=True)
        assert [field.name for field in info(self.Cart).fields] == ["id"]
        assert same(cart, self.Cart(id="a"))
        assert cart.copy().events == []
        assert cart.to_dict() == {"id": "a"}
        assert cart.to_json() == '{"id":"a"}'
        assert repr(cart).endswith("Cart(id='a')")

    def test_is_there_in_what_is_built_or_restored(self) -> None:
        sources: list[Any] = [{"id": "a"}, '{"id": "a"}', self.Cart(id="a", seen=True)]
        carts = [*map(self.Cart.build, sources), info(self.Cart).restore("a")]
        for cart in carts:
            assert (cart.events, cart.cache, cart.seen) == ([], {}, False)
        assert carts[0].events is not carts[1].events


@pytest.mark.contract("MODELS-006")
def test_field_options_show_in_info() -> None:
    class Account(Model):
        number: str = RequiredId(unique=True)
        slot: str = Id(default_factory=AutoString, unique=True)
        mail: str = Field(unique=True)
        city: str = Field(default="Paris", index=True)
        tags: list[str] = Field(default_factory=lambda: ["new"])

    account = Account(number="1", mail="a@b")
    assert (account.city, account.tags) == ("Paris", ["new"])
    fields = info(Account).by_name
    assert [name for name, field in fields.items() if field.unique] == ["number", "slot", "mail"]
    assert [name for name, field in fields.items() if field.index] == ["city"]
    assert [name for name, field in fields.items() if field.is_id] == ["number", "slot"]
    with pytest.raises(TypeError, match="mail"):
        Account(number="1")  # type: ignore[call-arg]  # missing on purpose


@pytest.mark.contract("MODELS-007")
class TestGenerators:
    def test_uuids_are_of_version_7_and_ordered_by_time(self) -> None:
        made = []
        for _ in range(50):
            made.append(AutoUUID())
            start = time.time_ns()
            while time.time_ns() - start < 1_000:
                pass
        assert {(uuid.version, uuid.variant) for uuid in made} == {(7, "specified in RFC 4122")}
        assert made == sorted(made)
        assert abs((made[0].int >> 80) - time.time_ns() // 1_000_000) < 60_000

    def test_are_all_different(self) -> None:
        assert len({AutoString() for _ in range(10_000)}) == 10_000

    def test_strings_are_hexadecimal(self) -> None:
        assert UUID(AutoString()).version == 7

    def test_differ_between_processes(self) -> None:
        script = "from wintry.models import AutoString\nprint(AutoString())"
        lines = [
            subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
        assert lines[0] != lines[1]


@pytest.mark.contract("MODELS-008")
class TestEntityEquality:
    def test_is_by_id(self) -> None:
        one, two = (Batch(sku=sku, quantity=1, reference="b") for sku in ("chair", "table"))
        assert one == two
        assert hash(one) == hash(two)
        assert one != Batch(sku="chair", quantity=1, reference="c")
        assert one in [two]

    def test_holds_within_the_inheritance_tree(self) -> None:
        batch, special = (cls(sku="chair", quantity=1, reference="b") for cls in (Batch, SpecialBatch))
        assert batch == special
        assert special == batch
        assert len({batch, special}) == 1
        assert info(SpecialBatch).root is Batch

    def test_never_across_roots(self) -> None:
        class Other(Model):
            reference: str = RequiredId()

        assert Other(reference="b") != Batch(sku="chair", quantity=1, reference="b")
        assert Other(reference="b") != "b"

    def test_a_base_without_identity_is_no_root(self) -> None:
        class Dated(Model):
            created: int = 0

        class Cat(Dated):
            name: str = RequiredId()

        class Dog(Dated):
            name: str = RequiredId()

        assert Cat(name="Tom") != Dog(name="Tom")
        assert info(Cat).root is Cat


@pytest.mark.contract("MODELS-009")
class TestValueEquality:
    def test_is_field_by_field_within_the_class(self) -> None:
        class Vector(Model):
            x: int
            y: int = 0

        assert Point(x=1) == Point(x=1, y=0)
        assert Point(x=1) != Point(x=1, y=1)
        assert Point(x=1) != Vector(x=1)

    def test_a_frozen_one_is_hashable_another_is_not(self) -> None:
        assert len({Money(amount=1, currency="EUR"), Money(amount=1, currency="EUR")}) == 1
        with pytest.raises(TypeError, match="unhashable"):
            hash(Point(x=1))

    def test_a_subclass_compares_its_own_fields_too(self) -> None:
        class Point3(Point):
            z: int = 0

        assert Point3(x=1, z=1) != Point3(x=1, z=2)

    def test_a_class_without_fields(self) -> None:
        class Nothing(Model, frozen=True):
            pass

        assert Nothing() == Nothing()
        assert hash(Nothing()) == hash(Nothing())
        assert info(Nothing).restore() == Nothing.build({})
        assert Nothing().to_dict() == {}


@pytest.mark.contract("MODELS-010")
class TestOwnMethods:
    def test_no_ordering_is_generated(self) -> None:
        with pytest.raises(TypeError, match="not supported"):
            sorted([Point(x=2), Point(x=1)])  # type: ignore[type-var]  # unordered on purpose

    def test_the_authors_ordering_works(self) -> None:
        late, none = (Batch(sku="a", quantity=1, reference=str(eta), eta=eta) for eta in (date(2030, 1, 1), None))
        assert sorted([late, none]) == [none, late]

    def test_the_authors_equality_stays(self) -> None:
        class Loose(Model):
            id: str = RequiredId()

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Loose) and other.id.lower() == self.id.lower()

            def __hash__(self) -> int:
                return 7

        assert Loose(id="A") == Loose(id="a")
        assert hash(Loose(id="A")) == 7

    def test_the_authors_hash_of_a_value_stays(self) -> None:
        class Hashed(Model):
            x: int

            def __hash__(self) -> int:
                return 8

        assert hash(Hashed(x=1)) == 8
        assert Hashed(x=1) == Hashed(x=1)


@pytest.mark.contract("MODELS-011")
def test_frozen_instances_refuse_assignment() -> None:
    for money in (
        Money(amount=1, currency="EUR"),
        info(Money).restore(1, "EUR"),
        Money.build({"amount": 1, "currency": "EUR"}),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            money.amount = 2  # type: ignore[misc]  # frozen on purpose
        assert money.amount == 1


@pytest.mark.contract("MODELS-014")
class TestDefinitionErrors:
    def test_a_field_without_annotation(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.id: the field has no annotation"):

            class Bad(Model):
                id = RequiredId()

    def test_a_shared_mutable_default(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.tags: a list as default would be shared; write Array\(\)"):

            class Bad(Model):
                tags: list[str] = []  # noqa: RUF012 - that is the fault

    def test_an_array_that_is_no_list(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.tags: Array\(\) makes a list"):

            class Bad(Model):
                tags: str = Array()  # type: ignore[assignment]  # wrong on purpose

    def test_an_identity_that_may_be_none(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.id: an identity is one scalar and never None"):

            class Bad(Model):
                id: str | None = RequiredId()

    def test_an_identity_that_is_no_scalar(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.id: an identity is one scalar"):

            class Bad(Model):
                id: Money = RequiredId()

    def test_a_field_that_is_no_parameter(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.x: a field must be a parameter"):

            class Bad(Model):
                x: int = dataclasses.field(init=False, default=1)

    def test_a_subclass_that_changes_the_identity(self) -> None:
        with pytest.raises(DefinitionError, match="the identity is inherited from Batch: reference"):

            class Bad(Batch):
                other: str = RequiredId()

    def test_a_parameter_that_is_no_field(self) -> None:
        with pytest.raises(DefinitionError, match=r"Bad\.x: an InitVar would be missing .*; make it a field"):

            class Bad(Model):
                x: dataclasses.InitVar[int] = 0

    def test_whatever_a_dataclass_refuses(self) -> None:
        with pytest.raises(DefinitionError, match="cannot inherit non-frozen dataclass"):

            class Bad(Money):
                note: str = ""


@pytest.mark.contract("MODELS-049")
class TestNames:
    """Generated code calls built-ins and has names of its own: those of users must not hide them."""

    class Named(Model):
        type: str = RequiredId()
        self: int = 0
        other: int = 0
        isinstance: int = 0
        hash: int = 0
        object: int = 0
        enumerate: int = 0
        len: int = 0
        map: int = 0
        next: int = 0
        out: int = 0
        new: int = 0
        root: int = 0
        at: int = 0
        run: int = 0
        refuse: int = 0
        set: list[int] = Array()
        items: list[Line] = Array()

    def test_of_fields(self) -> None:
        named = self.Named(type="a", items=[Line(qty=1, orderid="o", sku="s")])
        assert (named == self.Named(type="a"), hash(named) == hash(self.Named(type="a"))) == (True, True)
        before, old = named.copy(), snapshot(named)
        named.set.append(1)
        named.next = 2
        named.items[0].qty = 5
        info(self.Named).check(named)
        assert same(diff(old, named).apply_to(before), named)
        assert same(self.Named.build(named.to_dict()), named)

    @pytest.mark.parametrize("name", ["self", "other", "isinstance", "hash", "type", "list", "source"])
    def test_of_classes(self, name: str) -> None:
        made = type(name, (Model,), {"__annotations__": {"id": str}, "id": RequiredId(), "__module__": __name__})
        one, two = made(id="1"), made(id="1")  # type: ignore[call-arg]  # a class made at run time
        assert (one == two, hash(one) == hash(two), one == 1) == (True, True, False)
        info(made).check(one)


@pytest.mark.contract("MODELS-017")
class TestCollecting:
    def test_gathers_faults_and_leaves_the_classes_importable(self) -> None:
        with collecting() as faults:

            class First(Model):
                price: complex

            class Second(Model):
                id = RequiredId()

            class Third(Model):
                other: Missing  # type: ignore[name-defined]  # noqa: F821 - missing on purpose

            class Good(Model):
                x: int

        assert [fault.place.rpartition("<locals>.")[2] for fault in faults] == [
            "First.price",
            "Second.id",
            "Third.other",
        ]
        assert faults[0].reason == "complex is not a type that a field can have"
        assert all(
            str(fault) == f"{fault.place}: {fault.reason}" + (f"; {fault.hint}" if fault.hint else "")
            for fault in faults
        )
        assert Good(x=1).x == 1
        for broken in (First, Second, Third):
            with pytest.raises(DefinitionError):
                info(broken)
            with pytest.raises(DefinitionError):
                broken.build({})

    def test_outside_they_are_raised_again(self) -> None:
        with collecting():
            pass
        with pytest.raises(DefinitionError):

            class Bad(Model):
                price: complex
