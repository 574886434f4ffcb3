"""What annotations may say, and where their names are looked for."""

import gc
import importlib
import sys
import weakref
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import pytest
from annotated_types import Len
from pydantic import BaseModel, ValidationError

from wintry.models import Array, ArrayOf, DefinitionError, Leaf, Model, Nested, RequiredId, UnresolvedName, info

Sku = NewType("Sku", str)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Writes the modules of a package `hinted`, and imports one of them."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(first: str, **modules: str) -> Any:
        folder = tmp_path / "hinted"
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(f"hinted.{first}")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "hinted"]:
        del sys.modules[name]


class Value(Model):
    x: int


class Child(Model):
    id: str = RequiredId()


@pytest.mark.contract("MODELS-012")
@pytest.mark.parametrize(
    ("annotation", "kind", "optional"),
    [
        *((leaf, Leaf(leaf), False) for leaf in (str, int, float, bool, date, datetime)),
        (int | None, Leaf(int), True),
        (Optional[date], Leaf(date), True),  # noqa: UP045 - the older spelling works too
        (Value, Nested(Value), False),
        (Child | None, Nested(Child), True),
        (list[str], ArrayOf(Leaf(str)), False),
        (list[float] | None, ArrayOf(Leaf(float)), True),
        (list[Child], ArrayOf(Nested(Child)), False),
        (Annotated[str, Len(3, 3)], Leaf(str), False),
        (Annotated[str, Len(3, 3)] | None, Leaf(str), True),
        (list[Annotated[str, Len(3, 3)]], ArrayOf(Leaf(str)), False),
        (Annotated[list[int], Len(1, 2)], ArrayOf(Leaf(int)), False),
        (Sku, Leaf(str), False),
    ],
)
def test_supported_types(annotation: Any, kind: object, optional: bool) -> None:
    class Holder(Model):
        field: annotation

    field = info(Holder).by_name["field"]
    assert (field.kind, field.optional) == (kind, optional)


@pytest.mark.contract("MODELS-013")
@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (complex, "complex"),
        (UUID, "UUID"),
        (bytes, "bytes"),
        (dict[str, int], "dict[str, int]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (int | str, "int | str"),
        (Literal["a"], "typing.Literal['a']"),
        (Any, "Any"),
        (object, "object"),
        (Model, "Model"),
        (BaseModel, "BaseModel"),
        (list, "a list needs the type of its items"),
        (list[int | None], "int | None"),
        (list[list[int]], "a list of lists"),
        (list[complex], "complex"),
        (list[Child] | None, "a list of Models cannot be None"),
        (Annotated[Child, "note"], "a Model cannot be annotated further"),
        (Annotated[int | None, "note"], "None stands inside of what annotates the type"),
        (None, "None"),
    ],
)
def test_other_types_are_refused_by_class_field_and_type(annotation: Any, shown: str) -> None:
    with pytest.raises(DefinitionError) as caught:

        class Holder(Model):
            field: annotation

    assert caught.value.place.startswith(f"{__name__}.test_other_types")
    assert caught.value.place.endswith("Holder.field")
    assert shown in caught.value.reason
    assert caught.value.hint


@pytest.mark.contract("MODELS-012")
def test_constraints_are_validated() -> None:
    class Price(Model):
        currency: Annotated[str, Len(3, 3)]
        codes: Annotated[list[int], Len(0, 2)] = Array()

    assert Price.build({"currency": "EUR"}).currency == "EUR"
    with pytest.raises(ValidationError, match="currency"):
        Price.build({"currency": "EURO"})
    with pytest.raises(ValidationError, match="codes"):
        Price.build({"currency": "EUR", "codes": [1, 2, 3]})
    with pytest.raises(ValidationError, match="currency"):
        Price(currency="E").validate()


@pytest.mark.contract("MODELS-012")
def test_a_constrained_datetime_is_aware_too() -> None:
    class Event(Model):
        at: Annotated[datetime, "documented"]

    with pytest.raises(ValidationError, match="timezone"):
        Event.build({"at": "2024-01-01T00:00:00"})


@pytest.mark.contract("MODELS-015")
class TestLazyHints:
    def test_forward_and_self_references(self, package: Callable[..., Any]) -> None:
        module = package(
            "shop",
            shop=(
                "from wintry.models import Model, Array, RequiredId\n"
                "class Order(Model):\n"
                "    id: str = RequiredId()\n"
                "    lines: list['Line'] = Array()\n"
                "    origin: 'Order | None' = None\n"
                "class Line(Model):\n"
                "    id: str = RequiredId()\n"
            ),
        )
        fields = info(module.Order).by_name
        assert fields["lines"].model is module.Line
        assert fields["origin"].model is module.Order
        built = module.Order.build({"id": "1", "lines": [{"id": "a"}], "origin": {"id": "0"}})
        assert built.origin.id == "0"
        assert built.copy().origin is not built.origin

    def test_future_annotations_and_type_checking_imports(self, package: Callable[..., Any]) -> None:
        head = (
            "from __future__ import annotations\n"
            "from typing import TYPE_CHECKING\n"
            "from wintry.models import Model, Array, RequiredId\n"
        )
        module = package(
            "shop",
            shop=head
            + (
                "if TYPE_CHECKING:\n"
                "    from datetime import date as day\n"
                "    from hinted.lines import Line\n"
                "    from . import lines\n"
                "    import datetime\n"
                "    import hinted.lines as other\n"
                "class Order(Model):\n"
                "    id: str = RequiredId()\n"
                "    lines: list[Line] = Array()\n"
                "    when: day | None = None\n"
                "    last: lines.Line | None = None\n"
                "    at: datetime.datetime | None = None\n"
                "    first: other.Line | None = None\n"
            ),
            lines=head
            + (
                "if TYPE_CHECKING:\n"
                "    from hinted.shop import Order\n"
                "class Line(Model):\n"
                "    id: str = RequiredId()\n"
                "    order: Order | None = None\n"
            ),
        )
        assert "hinted.lines" not in sys.modules  # defining a class imports nothing
        fields = info(module.Order).by_name
        line = sys.modules["hinted.lines"].Line
        assert [fields[name].model for name in ("lines", "last", "first")] == [line] * 3
        assert [fields[name].leaf for name in ("when", "at")] == [date, datetime]
        assert info(line).by_name["order"].model is module.Order

    def test_a_field_named_like_its_type(self, package: Callable[..., Any]) -> None:
        module = package(
            "shop",
            shop=(
                "from __future__ import annotations\n"
                "from datetime import date\n"
                "from wintry.models import Model\n"
                "class Day(Model):\n"
                "    date: date | None = None\n"
                "    other: date | None = None\n"
            ),
        )
        assert [field.leaf for field in info(module.Day).fields] == [date, date]

    def test_classes_defined_in_a_function(self) -> None:
        class Order(Model):
            lines: "list[Line]" = Array()
            sku: "Code"

        class Line(Model):
            id: str = RequiredId()

        Code = str
        assert info(Order).by_name["lines"].model is Line
        assert info(Order).by_name["sku"].leaf is Code

    def test_a_functions_locals_are_let_go_when_hints_are_resolved(self) -> None:
        class Local:
            pass

        def define() -> tuple[type[Model], weakref.ref[Local]]:
            local = Local()

            class Order(Model):
                x: int

            return Order, weakref.ref(local)

        order, local = define()
        gc.collect()
        assert info(order)
        assert local() is None

    def test_inherited_hints_resolve_where_they_were_written(self, package: Callable[..., Any]) -> None:
        module = package(
            "shop",
            base=(
                "from __future__ import annotations\n"
                "from datetime import date as Day\n"
                "from wintry.models import Model\n"
                "class Dated(Model):\n"
                "    day: Day\n"
            ),
            shop="from hinted.base import Dated\nclass Order(Dated):\n    note: str = ''\n",
        )
        assert info(module.Order).by_name["day"].leaf is date


@pytest.mark.contract("MODELS-016")
def test_an_unknown_name_is_told_at_first_use(package: Callable[..., Any]) -> None:
    module = package(
        "shop",
        shop=(
            "from __future__ import annotations\n"
            "from wintry.models import Model\n"
            "class OrderLine(Model):\n    x: int\n"
            "class Order(Model):\n    line: OrderLin\n"
        ),
    )
    for use in (info, lambda cls: cls.build({}), lambda cls: cls(line=1).to_dict()):
        with pytest.raises(UnresolvedName) as caught:
            use(module.Order)
        assert str(caught.value) == (
            "hinted.shop.Order.line: the name 'OrderLin' of its annotation is not defined; did you mean 'OrderLine'?"
        )


@pytest.mark.contract("MODELS-016")
def test_an_annotation_that_cannot_be_evaluated() -> None:
    with pytest.raises(DefinitionError, match=r"Bad\.x: its annotation cannot be evaluated"):

        class Bad(Model):
            x: "str.missing"


@pytest.mark.contract("MODELS-018")
def test_two_models_of_one_name_do_not_meet(package: Callable[..., Any]) -> None:
    text = (
        "from wintry.models import Model, RequiredId\nclass Item(Model):\n    id: str = RequiredId()\n    {}: int = 0\n"
    )
    both = (
        "from wintry.models import Model\nimport hinted.one, hinted.two\n"
        "class Pair(Model):\n    one: hinted.one.Item\n    two: hinted.two.Item\n"
    )
    module = package("both", one=text.format("a"), two=text.format("b"), both=both)
    one, two = sys.modules["hinted.one"].Item, sys.modules["hinted.two"].Item
    assert info(one) is not info(two)
    assert one(id="1") != two(id="1")
    pair = module.Pair.build({"one": {"id": "1", "a": 1}, "two": {"id": "2", "b": 2}})
    assert (pair.one, pair.two) == (one(id="1"), two(id="2"))

    class Body(BaseModel):
        pair: module.Pair

    definitions = Body.model_json_schema()["$defs"]
    assert sorted("".join(sorted(found["properties"])) for found in definitions.values()) == ["aid", "bid", "onetwo"]
