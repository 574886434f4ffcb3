"""Objects from data, data from objects, and what a store accepts."""

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from wintry.models import (
    Array,
    ArrayOf,
    Field,
    InvalidValue,
    Leaf,
    Model,
    Nested,
    RequiredId,
    Transient,
    info,
    same,
)
from wintry.models.tracking import Key


class Money(Model, frozen=True):
    amount: int
    currency: str = "EUR"


class Line(Model):
    qty: int
    orderid: str = RequiredId()
    sku: str = RequiredId()


class Batch(Model):
    reference: str = RequiredId()
    price: Money | None = None
    lines: list[Line] = Array()
    eta: date | None = None


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


class Everything(Model):
    text: str
    number: int
    ratio: float
    flag: bool
    day: date
    moment: datetime
    maybe: int | None
    maybe_moment: datetime | None
    texts: list[str]
    days: list[date]
    ratios: list[float] | None
    money: Money
    maybe_money: Money | None
    moneys: list[Money]
    line: Line
    lines: list[Line]
    id: str = RequiredId()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(
    datetime(1, 1, 3),
    datetime(9999, 12, 29),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)
moneys = st.builds(Money, amount=integers, currency=texts)
lines = st.builds(Line, qty=integers, orderid=texts, sku=texts)
everything = st.builds(
    Everything,
    text=texts,
    number=integers,
    ratio=floats,
    flag=st.booleans(),
    day=st.dates(),
    moment=moments,
    maybe=st.none() | integers,
    maybe_moment=st.none() | moments,
    texts=st.lists(texts, max_size=3),
    days=st.lists(st.dates(), max_size=3),
    ratios=st.none() | st.lists(floats, max_size=3),
    money=moneys,
    maybe_money=st.none() | moneys,
    moneys=st.lists(moneys, max_size=3),
    line=lines,
    lines=st.lists(lines, max_size=3, unique_by=lambda line: (line.orderid, line.sku)),
    id=texts,
)


def product() -> Product:
    batch = Batch(reference="b1", price=Money(amount=5), lines=[Line(qty=1, orderid="o1", sku="chair")])
    return Product(sku="chair", batches=[batch, Batch(reference="b2", eta=date(2030, 1, 1))])


PLAIN: dict[str, Any] = {
    "sku": "chair",
    "batches": [
        {
            "reference": "b1",
            "price": {"amount": 5, "currency": "EUR"},
            "lines": [{"qty": 1, "orderid": "o1", "sku": "chair"}],
            "eta": None,
        },
        {"reference": "b2", "price": None, "lines": [], "eta": date(2030, 1, 1)},
    ],
}


def as_attributes(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_attributes(item) for key, item in value.items()})
    return [as_attributes(item) for item in value] if isinstance(value, list) else value


@dataclass
class LineDto:
    qty: int
    orderid: str
    sku: str
    note: str = ""


class BatchDto(BaseModel):
    reference: str
    price: dict[str, Any] | None = None
    lines: list[LineDto] = []
    eta: date | None = None


class ProductDto(BaseModel):
    sku: str
    batches: list[BatchDto]


@pytest.mark.contract("MODELS-019")
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: PLAIN, id="a dict"),
        pytest.param(lambda: MappingProxyType(PLAIN), id="another mapping"),
        pytest.param(lambda: json.dumps(PLAIN, default=str), id="JSON text"),
        pytest.param(lambda: json.dumps(PLAIN, default=str).encode(), id="JSON bytes"),
        pytest.param(lambda: as_attributes(PLAIN), id="attributes"),
        pytest.param(product, id="a Model"),
        pytest.param(lambda: ProductDto.model_validate(PLAIN), id="a pydantic model with a dataclass inside"),
        pytest.param(lambda: {"sku": "chair", "batches": product().batches}, id="Models in a dict"),
        pytest.param(
            lambda: {"sku": "chair", "batches": [as_attributes(PLAIN["batches"][0]), PLAIN["batches"][1]]},
            id="attributes in a dict",
        ),
    ],
)
def test_build_takes_anything(source: Callable[[], Any]) -> None:
    assert same(Product.build(source()), product())


@pytest.mark.contract("MODELS-020")
class TestValidation:
    def test_values_are_coerced(self) -> None:
        assert Line.build({"qty": "3", "orderid": "o", "sku": "s"}).qty == 3

    @pytest.mark.parametrize("form", [dict, as_attributes], ids=["mapping", "attributes"])
    def test_not_if_strict(self, form: Any) -> None:
        with pytest.raises(ValidationError, match="qty"):
            Line.build(form({"qty": "3", "orderid": "o", "sku": "s"}), strict=True)

    @pytest.mark.parametrize("form", [dict, as_attributes], ids=["mapping", "attributes"])
    def test_the_error_names_the_class(self, form: Any) -> None:
        with pytest.raises(ValidationError) as caught:
            Line.build(form({"qty": "many", "orderid": "o", "sku": "s"}))
        assert caught.value.title == "Line"

    def test_unknown_keys(self) -> None:
        plain = {"qty": 3, "orderid": "o", "sku": "s", "color": "red"}
        assert same(Line.build(plain), Line(qty=3, orderid="o", sku="s"))
        assert not hasattr(Line.build(plain), "color")
        for source in (plain, json.dumps(plain), {"reference": "b", "lines": [plain]}):
            with pytest.raises(ValidationError, match="color"):
                (Batch if isinstance(source, dict) and "lines" in source else Line).build(source, forbid_extra=True)

    @pytest.mark.parametrize("form", [dict, json.dumps, as_attributes], ids=["mapping", "JSON", "attributes"])
    def test_errors_have_the_full_path(self, form: Any) -> None:
        wrong = {"sku": "s", "batches": [{"reference": "b", "lines": [{"qty": "x", "orderid": "o", "sku": "s"}]}]}
        with pytest.raises(ValidationError) as caught:
            Product.build(form(wrong))
        assert [error["loc"] for error in caught.value.errors()] == [("batches", 0, "lines", 0, "qty")]

    def test_missing_keys_and_wrong_forms(self) -> None:
        for source in ({}, "{}", SimpleNamespace(), "[]", None, 5, [], {"sku": "s", "batches": 5}):
            with pytest.raises(ValidationError):
                Product.build(source)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_floats_are_finite(self, value: float) -> None:
        class Ratio(Model):
            ratio: float

        with pytest.raises(ValidationError, match="finite"):
            Ratio.build({"ratio": value})

    def test_datetimes_are_aware(self) -> None:
        class Event(Model):
            at: datetime

        with pytest.raises(ValidationError, match="timezone"):
            Event.build({"at": "2024-01-01T00:00:00"})


@pytest.mark.contract("MODELS-021")
def test_what_is_built_shares_nothing_with_its_source() -> None:
    source = product()
    for built in (Product.build(source), Product.build({"sku": "chair", "batches": source.batches})):
        assert built.batches is not source.batches
        assert built.batches[0] is not source.batches[0]
        assert built.batches[0].lines[0] is not source.batches[0].lines[0]


@pytest.mark.contract("MODELS-022")
def test_build_many() -> None:
    built = Line.build_many({"qty": number, "orderid": "o", "sku": "s"} for number in "12")
    assert [line.qty for line in built] == [1, 2]
    with pytest.raises(ValidationError):
        Line.build_many([{"qty": "1", "orderid": "o", "sku": "s"}], strict=True)
    with pytest.raises(ValidationError):
        Line.build_many([{"qty": 1, "orderid": "o", "sku": "s", "x": 1}], forbid_extra=True)


@pytest.mark.contract("MODELS-023")
class TestToDict:
    def test_gives_the_stored_fields(self) -> None:
        assert product().to_dict() == PLAIN

    def test_of_what_json_has(self) -> None:
        assert product().to_dict(mode="json") == json.loads(json.dumps(PLAIN, default=str))
        assert json.loads(product().to_json()) == product().to_dict(mode="json")

    def test_without_what_is_excluded(self) -> None:
        assert product().to_dict(exclude={"batches"}) == {"sku": "chair"}
        assert product().to_json(exclude={"batches"}) == '{"sku":"chair"}'
        nested = product().to_dict(exclude={"batches": {"__all__": {"price", "lines", "eta"}}})
        assert nested == {"sku": "chair", "batches": [{"reference": "b1"}, {"reference": "b2"}]}

    def test_values_of_a_wrong_type_come_out_as_they_are(self) -> None:
        assert Line(qty="x", orderid="o", sku="s").to_dict()["qty"] == "x"  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.contract("MODELS-024")
@given(everything)
def test_a_round_trip_changes_nothing(thing: Everything) -> None:
    info(Everything).check(thing)
    thing.validate()
    assert same(Everything.build(thing.to_dict()), thing)
    assert same(Everything.build(thing.to_dict(mode="json")), thing)
    assert same(Everything.build(thing.to_json()), thing)
    assert same(Everything.build(thing, strict=True), thing)
    assert same(thing.copy(), thing)


@pytest.mark.contract("MODELS-025")
class TestCopy:
    def test_is_deep(self) -> None:
        original = product()
        copy = original.copy()
        assert same(copy, original)
        copy.batches[0].lines[0].qty = 9
        copy.batches.pop()
        assert same(original, product())

    def test_with_other_values(self) -> None:
        copy = product().copy(sku="table", batches=[])
        assert same(copy, Product(sku="table"))
        assert product().batches[1].copy(reference="b3").eta == date(2030, 1, 1)

    def test_of_a_frozen_value(self) -> None:
        assert Money(amount=1).copy(amount=2) == Money(amount=2)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(TypeError, match="Money has no stored field 'amonut'; did you mean 'amount'"):
            Money(amount=1).copy(amonut=2)


@pytest.mark.contract("MODELS-026")
class TestValidate:
    def test_a_good_object(self) -> None:
        product().validate()

    @pytest.mark.parametrize("value", ["1", 1.5, None])
    def test_a_wrong_type_at_any_depth(self, value: Any) -> None:
        wrong = product()
        wrong.batches[0].lines[0].qty = value
        with pytest.raises(ValidationError) as caught:
            wrong.validate()
        assert [error["loc"] for error in caught.value.errors()] == [("batches", 0, "lines", 0, "qty")]
        assert wrong.batches[0].lines[0].qty is value

    def test_makes_no_object(self) -> None:
        made = []

        class Noisy(Model):
            x: int

            def __post_init__(self) -> None:
                made.append(self)

        noisy = Noisy(x=1)
        noisy.validate()
        assert len(made) == 1
        assert made[0] is noisy


@pytest.mark.contract("MODELS-027")
class TestPydantic:
    class Body(BaseModel):
        product: Product
        spare: list[Batch] = []

    def test_an_instance_passes_through(self) -> None:
        original = product()
        body = self.Body(product=original, spare=original.batches)
        assert body.product is original
        assert body.spare[0] is original.batches[0]

    def test_a_body_is_validated(self) -> None:
        body = self.Body.model_validate_json(json.dumps({"product": PLAIN}, default=str))
        assert same(body.product, product())
        with pytest.raises(ValidationError) as caught:
            self.Body.model_validate({"product": {"sku": 5}})
        assert caught.value.errors()[0]["loc"] == ("product", "sku")

    def test_an_answer_is_serialised(self) -> None:
        body = self.Body(product=product())
        assert body.model_dump()["product"] == PLAIN
        assert json.loads(body.model_dump_json())["product"] == json.loads(product().to_json())
        assert TypeAdapter(list[Money]).dump_json([Money(amount=1)]) == b'[{"amount":1,"currency":"EUR"}]'

    def test_post_init_and_transient_fields(self) -> None:
        class Cart(Model):
            id: str = RequiredId()
            events: list[str] = Transient()

            def __post_init__(self) -> None:
                self.events.append("made")

        adapter = TypeAdapter(Cart)
        cart = adapter.validate_python({"id": "a"})
        assert cart.events == ["made"]
        assert adapter.dump_python(cart) == {"id": "a"}
        assert list(adapter.json_schema()["properties"]) == ["id"]
        assert list(adapter.json_schema(mode="serialization")["properties"]) == ["id"]


@pytest.mark.contract("MODELS-028")
def test_json_schema_has_named_definitions() -> None:
    schema = TypeAdapter(Product).json_schema()
    assert set(schema["$defs"]) == {"Batch", "Line", "Money"}
    assert schema["required"] == ["sku"]
    batch = schema["$defs"]["Batch"]
    assert batch["properties"]["lines"]["items"] == {"$ref": "#/$defs/Line"}
    assert batch["properties"]["eta"]["anyOf"] == [{"type": "string", "format": "date"}, {"type": "null"}]
    assert "description" not in batch


@pytest.mark.contract("MODELS-028")
def test_json_schema_of_a_model_that_contains_itself() -> None:
    schema = TypeAdapter(Tree).json_schema()
    assert schema["$ref"] == "#/$defs/Tree"
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


class Tree(Model):
    id: str = RequiredId()
    children: "list[Tree]" = Array()


@pytest.mark.contract("MODELS-019", "MODELS-025")
def test_a_model_that_contains_itself_is_built_and_copied() -> None:
    plain = {"id": "a", "children": [{"id": "b", "children": [{"id": "c", "children": []}]}]}
    tree = Tree.build(plain)
    assert tree.to_dict() == plain
    assert same(Tree.build(as_attributes(plain)), tree)
    assert same(tree.copy(), tree)
    tree.validate()


@pytest.mark.contract("MODELS-029")
class TestInfo:
    def test_of_an_entity(self) -> None:
        found = info(Batch)
        assert found is info(Batch)
        assert (found.cls, found.name, found.root, found.is_entity, found.frozen) == (
            Batch,
            "Batch",
            Batch,
            True,
            False,
        )
        assert list(found.by_name) == ["reference", "price", "lines", "eta"]
        assert found.fields == tuple(found.by_name.values())
        assert [field.name for field in found.identity] == ["reference"]
        assert [field.name for field in found.arrays] == ["lines"]
        kinds = [field.kind for field in found.fields]
        assert kinds == [Leaf(str), Nested(Money), ArrayOf(Nested(Line)), Leaf(date)]
        assert [field.optional for field in found.fields] == [False, True, False, True]

    def test_of_a_value(self) -> None:
        found = info(Money)
        assert (found.is_entity, found.identity, found.frozen, found.immutable) == (False, (), True, True)
        currency = found.by_name["currency"]
        assert (currency.default, currency.default_factory, currency.leaf, currency.model) == (
            "EUR",
            MISSING,
            str,
            None,
        )
        assert found.by_name["amount"].default is MISSING

    def test_of_scalar_lists(self) -> None:
        found = info(Everything)
        assert [field.name for field in found.arrays] == ["moneys", "lines"]
        assert (found.by_name["days"].is_array, found.by_name["days"].leaf) == (True, date)

    def test_of_what_is_no_model(self) -> None:
        for other in (int, Model, product(), "Product"):
            with pytest.raises(TypeError, match="is not a Model class"):
                info(other)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.contract("MODELS-030")
def test_id_of() -> None:
    assert info(Batch).id_of(Batch(reference="b")) == "b"
    assert info(Line).id_of(Line(qty=1, orderid="o", sku="s")) == ("o", "s")
    with pytest.raises(TypeError, match="Money is a value object"):
        _ = info(Money).id_of


@pytest.mark.contract("MODELS-031")
class TestRestore:
    def test_takes_values_in_field_order_and_trusts_them(self) -> None:
        lines = [Line(qty=1, orderid="o", sku="s")]
        batch = info(Batch).restore("b", None, lines, date(2030, 1, 1))
        assert same(batch, Batch(reference="b", lines=lines, eta=date(2030, 1, 1)))
        assert batch.lines is lines
        assert info(Money).restore("x", 1).amount == "x"

    def test_runs_post_init_but_not_init(self) -> None:
        class Counted(Model):
            x: int

            def __init__(self, y: int) -> None:
                raise AssertionError

            def __post_init__(self) -> None:
                self.x += 1

        assert info(Counted).restore(1).x == 2

    def test_field_names_may_be_anything(self) -> None:
        class Odd(Model):
            self: str
            new: str
            Odd: str
            state: str = Field(default="s")
            restore: str = "r"

        odd = info(Odd).restore("a", "b", "c", "d", "e")
        assert odd.to_dict() == {"self": "a", "new": "b", "Odd": "c", "state": "d", "restore": "e"}
        assert same(odd.copy(), odd)


class Colour(StrEnum):
    RED = "red"


@pytest.mark.contract("MODELS-032")
class TestCheck:
    GOOD: ClassVar[dict[str, Any]] = dict(  # noqa: C408 - reads like the fields
        text="é\U0001f40d",
        number=2**63 - 1,
        ratio=-0.5,
        flag=True,
        day=date(2024, 2, 29),
        moment=datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        maybe=None,
        maybe_moment=None,
        texts=["a"],
        days=[date(1, 1, 1)],
        ratios=None,
        money=Money(amount=-(2**63)),
        maybe_money=None,
        moneys=[Money(amount=1)],
        line=Line(qty=1, orderid="o", sku="s"),
        lines=[Line(qty=1, orderid="o", sku="s")],
        id="1",
    )

    def test_accepts_what_a_store_can_keep(self) -> None:
        info(Everything).check(Everything(**self.GOOD))

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("text", 5, "text: expected str, got int"),
            ("text", None, "text: expected str, got None"),
            ("text", "a\0b", "text: text must not contain NUL"),
            ("text", "\ud800", "text: text must not contain lone surrogates"),
            ("text", Colour.RED, "text: expected str, got Colour"),
            ("number", True, "number: expected int, got bool"),
            ("number", 1.0, "number: expected int, got float"),
            ("number", 2**63, "number: 9223372036854775808 does not fit into 64 bits"),
            ("number", -(2**63) - 1, "number: -9223372036854775809 does not fit into 64 bits"),
            ("ratio", 1, "ratio: expected float, got int"),
            ("ratio", float("nan"), "ratio: expected a finite float, got nan"),
            ("ratio", float("-inf"), "ratio: expected a finite float, got -inf"),
            ("flag", 1, "flag: expected bool, got int"),
            ("day", datetime(2024, 1, 1), "day: expected date, got datetime"),
            ("moment", date(2024, 1, 1), "moment: expected datetime, got date"),
            ("moment", datetime(2024, 1, 1), "moment: expected an aware datetime, got a naive one"),
            ("moment", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "is out of range in UTC"),
            ("maybe", "1", "maybe: expected int, got str"),
            ("maybe_moment", datetime(2024, 1, 1), "maybe_moment: expected an aware datetime"),
            ("texts", None, "texts: expected list, got None"),
            ("texts", ("a",), "texts: expected list, got tuple"),
            ("texts", ["a", 1], r"texts\[1\]: expected str, got int"),
            ("ratios", [1.0, None], r"ratios\[1\]: expected float, got None"),
            ("money", None, "money: expected Money, got None"),
            ("money", Money(amount=True), r"money\.amount: expected int, got bool"),
            ("maybe_money", Money(amount=2**64), r"maybe_money\.amount: 18446744073709551616 does not fit"),
            ("moneys", [Money(amount=1), Money(amount="1")], r"moneys\[1\]\.amount: expected int"),  # type: ignore[arg-type]  # wrong on purpose
            ("moneys", [{"amount": 1}], r"moneys\[0\]: expected Money, got dict"),
            ("line", Money(amount=1), "line: expected Line, got Money"),
            ("lines", [Line(qty="x", orderid="o", sku="s")], r"lines\[\('o', 's'\)\]\.qty: expected int, got str"),  # type: ignore[arg-type]  # wrong on purpose
            ("lines", {}, "lines: expected list, got dict"),
        ],
    )
    def test_refuses_anything_else_with_the_path(self, name: str, value: Any, message: str) -> None:
        with pytest.raises(InvalidValue, match=f"^Everything.{message}" if message.startswith(name) else message):
            info(Everything).check(Everything(**{**self.GOOD, name: value}))

    def test_a_missing_attribute(self) -> None:
        thing = product()
        del thing.batches[0].lines[0].qty
        with pytest.raises(InvalidValue) as caught:
            info(Product).check(thing)
        assert caught.value.path == ("batches", Key("b1"), "lines", Key(("o1", "chair")), "qty")
        thing.batches[0].lines[0].qty = 1
        del thing.batches[0].lines[0].sku
        with pytest.raises(InvalidValue, match=r"lines\[0\]\.sku: the attribute is missing"):
            info(Product).check(thing)

    def test_a_subclass_in_the_place_of_its_base(self) -> None:
        class Special(Batch):
            pass

        with pytest.raises(InvalidValue, match=r"Product\.batches\['x'\]: expected Batch, got .*Special"):
            info(Product).check(Product(sku="s", batches=[Special(reference="x")]))


@pytest.mark.contract("MODELS-033")
class TestSame:
    def test_sees_what_equality_does_not(self) -> None:
        one, two = product(), product()
        two.batches[0].lines[0].qty = 2
        assert one == two
        assert not same(one, two)

    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            (1, True, False),
            (1, 1.0, False),
            (0.0, -0.0, False),
            (float("nan"), float("nan"), True),
            ([1, 2], [1, 2], True),
            ([1], [1, 2], False),
            ([1], (1,), False),
            ({"a": 1}, {"a": True}, False),
            ({"a": 1}, {"a": 1}, True),
            ({"a": 1}, {"b": 1}, False),
            (None, None, True),
            (None, 0, False),
            (date(2024, 1, 1), datetime(2024, 1, 1), False),
            (datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2024, 1, 1, tzinfo=UTC), True),
            (Money(amount=1), Money(amount=1), True),
            (Money(amount=1), Money(amount=True), False),
        ],
    )
    def test_is_exact(self, a: Any, b: Any, expected: bool) -> None:
        assert same(a, b) is expected
        assert same(b, a) is expected

    def test_classes_must_be_equal(self) -> None:
        class Special(Batch):
            pass

        assert not same(Batch(reference="b"), Special(reference="b"))
