"""How queries run: through indexes, in one statement, or not at all."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wintry.models import Array, Model, RequiredId, info
from wintry.repository.backend import Insert
from wintry.repository.language.operators import Operator
from wintry.repository.plan import And, Compare, Expr, Not, Order, Parameter, QueryPlan, Some
from wintry.repository.sql import SqlBackend, open_backend
from wintry.repository.sql.compile import SqlQuery

pytestmark = pytest.mark.anyio


class Box(Model):
    code: str = RequiredId(unique=True)


class Shelf(Model):
    row: int = RequiredId()
    place: int = RequiredId()
    boxes: list[Box] = Array()


def compiled(backend: SqlBackend, model: Any, where: Expr, verb: Any = "find", limit: int | None = None) -> SqlQuery:
    order = (Order((info(model).identity[0],)),) if verb == "find" else ()
    query = backend.compile(QueryPlan("Products.made", model, verb, where, order, limit))
    assert isinstance(query, SqlQuery)
    return query


def reference(models: SimpleNamespace, operator: Operator = Operator.EQ) -> Expr:
    """`batches__reference`."""
    field = info(models.Batch).by_name["reference"]
    value = Parameter(0, "reference", str, many=operator.many)
    return Some((info(models.Product).by_name["batches"],), Compare((field,), operator, str, False, (value,)))


def sku(models: SimpleNamespace) -> Expr:
    field = info(models.Product).by_name["sku"]
    return Compare((field,), Operator.EQ, str, False, (Parameter(1, "sku", str),))


async def steps(store: Any, query: SqlQuery, *values: Any) -> list[str]:
    """What SQLite says of how it finds the rows of the query."""
    given = tuple(bind(values) for bind in query._binders)
    return [row[3] for row in await store.rows(f"EXPLAIN QUERY PLAN {query.text}", *given)]


@pytest.mark.contract("REPO-119")
async def test_a_childs_unique_value_is_found_through_its_index(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    said = await steps(store, compiled(backend, models.Product, reference(models)), "x")
    assert any("SEARCH batches_1 USING" in line and "ux_product_batches_reference" in line for line in said), said
    assert not any(line.startswith("SCAN") for line in said), said


@pytest.mark.contract("REPO-119")
async def test_a_root_found_by_its_id_looks_only_at_its_own_children(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    query = compiled(backend, models.Product, And((sku(models), reference(models))), "count")
    said = await steps(store, query, "x", "T")
    assert any("SEARCH products USING" in line for line in said), said
    assert any("CORRELATED SCALAR SUBQUERY" in line for line in said), said
    assert any("SEARCH batches_1 USING" in line for line in said), said


@pytest.mark.contract("REPO-119")
async def test_the_complement_is_exact(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    batch = models.Batch(sku="T", purchased_quantity=1, reference="x")
    await store.add(models.Product(sku="with", batches=[batch]), models.Product(sku="without"))
    execution = backend.execution(read_only=True)
    for where, expected in ((reference(models), ["with"]), (Not(reference(models)), ["without"])):
        found = await compiled(backend, models.Product, where).run(execution, ("x",))
        assert [product.sku for product, _ in found] == expected
    await execution.close()


@pytest.mark.contract("REPO-119")
async def test_a_child_leads_to_its_own_root_where_that_has_several_keys(file: Path, stack: AsyncExitStack) -> None:
    backend = open_backend("default", f"sqlite:///{file}", {})
    stack.push_async_callback(backend.close)
    boxes, code = info(Shelf).by_name["boxes"], info(Box).by_name["code"]
    where = Some((boxes,), Compare((code,), Operator.EQ, str, False, (Parameter(0, "code", str),)))
    query = compiled(backend, Shelf, where)
    await backend.open()
    await backend.create_schema()
    execution = backend.execution()
    shelves = [Shelf(row=1, place=place, boxes=[Box(code=code)]) for place, code in enumerate("abc")]
    await backend.write(execution, [Insert(shelf) for shelf in shelves])
    assert [(shelf.row, shelf.place) for shelf, _ in await query.run(execution, ("b",))] == [(1, 1)]
    await execution.close()


@pytest.mark.contract("REPO-119")
@pytest.mark.parametrize(("verb", "nothing"), [("find", []), ("count", 0), ("exists", False), ("delete", 0)])
async def test_in_with_nothing_is_answered_without_the_database(
    backend: SqlBackend, models: SimpleNamespace, verb: Any, nothing: object
) -> None:
    query = compiled(backend, models.Product, reference(models, Operator.IN), verb)
    execution = backend.execution()
    assert await query.run(execution, ((),)) == nothing
    assert not execution.begun
    await execution.close()


@pytest.mark.contract("REPO-119")
async def test_an_in_of_many_values_is_one_text(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    await store.add(
        *(
            models.Product(sku=str(n), batches=[models.Batch(sku="T", purchased_quantity=1, reference=f"r{n}")])
            for n in range(3)
        )
    )
    query = compiled(backend, models.Product, reference(models, Operator.IN))
    execution = backend.execution(read_only=True)
    found = await query.run(execution, (tuple(f"r{n}" for n in range(1, 50_000)),))
    await execution.close()
    assert [product.sku for product, _ in found] == ["1", "2"]


@pytest.mark.contract("REPO-119")
async def test_aggregates_load_in_one_statement(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    await store.add(*(models.Product(sku=str(n)) for n in range(20)))
    execution = backend.execution(read_only=True)
    await execution.begin()
    seen: list[str] = []
    await execution.driver.set_trace_callback(seen.append)
    assert len(await backend.load(execution, models.Product, [str(n) for n in range(30)])) == 20
    await execution.driver.set_trace_callback(None)
    await execution.close()
    assert len(seen) == 1


async def test_a_delete_may_be_limited(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    batches = [models.Batch(sku="T", purchased_quantity=1, reference=f"r{n}") for n in range(3)]
    await store.add(*(models.Product(sku=batch.reference, batches=[batch]) for batch in batches))
    query = compiled(backend, models.Product, reference(models, Operator.NE), "delete", limit=1)
    execution = backend.execution()
    assert await query.run(execution, ("r1",)) == 1
    await execution.commit()
    left = await store.rows("SELECT sku FROM products ORDER BY sku")
    assert left in ([("r0",), ("r1",)], [("r1",), ("r2",)])
    assert await store.rows("SELECT reference FROM product_batches ORDER BY reference") == left


async def test_a_statement_says_which_method_it_is_of(backend: SqlBackend, models: SimpleNamespace) -> None:
    assert compiled(backend, models.Product, reference(models)).text.endswith("/* Products.made */")
