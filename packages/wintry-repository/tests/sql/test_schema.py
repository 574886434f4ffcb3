"""What the tables look like: a contract, since databases outlive the code that made them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from wintry.models import Array, Field, Model, RequiredId
from wintry.repository.errors import DefinitionError, Unsupported
from wintry.repository.sql import SchemaMismatch, SqlBackend, metadata, open_backend, table

pytestmark = pytest.mark.anyio

ALLOCATION_DDL = """
CREATE TABLE product_batches (
 _product_sku TEXT NOT NULL,
 sku TEXT NOT NULL,
 purchased_quantity BIGINT NOT NULL,
 reference TEXT NOT NULL,
 eta DATE,
 _position BIGINT NOT NULL,
 PRIMARY KEY (_product_sku, reference),
 FOREIGN KEY(_product_sku) REFERENCES products (sku) ON DELETE CASCADE
) WITHOUT ROWID
CREATE TABLE product_batches_allocations (
 _product_sku TEXT NOT NULL,
 _batches_reference TEXT NOT NULL,
 sku TEXT NOT NULL,
 qty BIGINT NOT NULL,
 orderid TEXT NOT NULL,
 _position BIGINT NOT NULL,
 PRIMARY KEY (_product_sku, _batches_reference, sku, orderid),
 FOREIGN KEY(_product_sku, _batches_reference)
  REFERENCES product_batches (_product_sku, reference) ON DELETE CASCADE
) WITHOUT ROWID
CREATE TABLE products (
 sku TEXT NOT NULL,
 _version BIGINT NOT NULL,
 PRIMARY KEY (sku)
)
CREATE UNIQUE INDEX ux_product_batches_reference ON product_batches (reference)
"""


def ddl(file: Path, like: str) -> str:
    with sqlite3.connect(file) as connection:
        query = "SELECT sql FROM sqlite_master WHERE tbl_name LIKE ? AND sql IS NOT NULL ORDER BY type DESC, name"
        found = [row[0] for row in connection.execute(query, (like,))]
    connection.close()
    return squeezed("\n".join(found))


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.contract("REPO-100")
async def test_the_tables_of_the_allocation_service(backend: SqlBackend, file: Path) -> None:
    assert ddl(file, "product%") == squeezed(ALLOCATION_DDL)


@pytest.mark.contract("REPO-101")
async def test_nested_models_are_prefixed_columns_with_a_flag_where_they_may_be_none(
    backend: SqlBackend, models: SimpleNamespace
) -> None:
    columns = {column.name: column.nullable for column in table(models.Everything, backend).columns}
    assert [name for name in columns if "address" in name] == [
        "_address",
        "address_city",
        "_address_geo",
        "address_geo_lat",
        "address_geo_lon",
        "address_geo_tracks",
    ]
    assert columns["address_geo_lat"]
    assert "_home" not in columns
    assert {name for name in metadata(backend).tables if name.startswith("everything_")} == {
        "everything_address_notes",
        "everything_home_notes",
        "everything_notes",
        "everything_streets",
        "everything_streets_numbers",
    }


class Child(Model):
    id: str = RequiredId()


class Deeper(Model):
    id: str = RequiredId()
    a_list_whose_name_is_much_longer_than_anybody_would_like: list[Child] = Array()


class VeryLongNames(Model):
    id: str = RequiredId()
    a_list_whose_name_is_long: list[Deeper] = Array()


@pytest.mark.contract("REPO-102")
def test_long_names_are_cut_and_hashed_stably() -> None:
    backend = open_backend("default", "sqlite://", {})
    backend.bind(VeryLongNames)
    names = sorted(name for name in backend.metadata.tables if name.startswith("very_long_names_a"))
    assert names == [
        "very_long_names_a_list_whose_name_is_long",
        "very_long_names_a_list_whose_name_is_long_a_list_whose_68466a27",  # the first of the SHA-256 of the whole
    ]
    assert len(names[1]) == 63
    again = open_backend("other", "sqlite://", {})
    again.bind(VeryLongNames)
    assert set(again.metadata.tables) == set(backend.metadata.tables)


def named(name: str, **annotations: Any) -> type[Model]:
    namespace = {"__annotations__": {"id": str, **annotations}, "__module__": __name__, "id": RequiredId()}
    return type(Model)(name, (Model,), namespace)


@pytest.mark.contract("REPO-103")
def test_a_clash_of_tables_is_a_definition_error_and_leaves_nothing_behind() -> None:
    backend = open_backend("default", "sqlite://", {})
    backend.bind(named("Thing"))
    before = set(backend.metadata.tables)
    with pytest.raises(DefinitionError, match="things") as caught:
        backend.bind(named("Thing", children=list[Child]))
    assert "rename" in str(caught.value)
    assert set(backend.metadata.tables) == before


@pytest.mark.contract("REPO-103")
def test_a_root_whose_list_clashes_leaves_not_even_its_own_table() -> None:
    backend = open_backend("default", "sqlite://", {})
    backend.bind(named("ThingPart"))
    with pytest.raises(DefinitionError, match="thing_parts"):
        backend.bind(named("Thing", parts=list[Child]))
    assert set(backend.metadata.tables) == {"thing_parts"}


@pytest.mark.contract("REPO-103")
def test_a_clash_of_columns_is_a_definition_error() -> None:
    class Inner(Model):
        city: str

    class Outer(Model):
        id: str = RequiredId()
        address: Inner
        address_city: str

    with pytest.raises(DefinitionError, match="address_city"):
        open_backend("default", "sqlite://", {}).bind(Outer)


class Tree(Model):
    id: str = RequiredId()
    children: list[Tree] = Array()


def test_a_model_that_contains_itself_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"Tree\.children"):
        open_backend("default", "sqlite://", {}).bind(Tree)


def test_a_root_needs_an_identity(models: SimpleNamespace) -> None:
    with pytest.raises(DefinitionError, match="identity"):
        open_backend("default", "sqlite://", {}).bind(models.Note)


@pytest.mark.contract("REPO-104")
async def test_the_schema_is_made_once_and_never_altered(backend: SqlBackend, file: Path) -> None:
    before = ddl(file, "%")
    await backend.create_schema()
    assert ddl(file, "%") == before
    assert await backend.schema_diff() == []


@pytest.mark.contract("REPO-104")
async def test_a_missing_index_is_made_and_a_foreign_table_is_left_alone(backend: SqlBackend, file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP INDEX ux_product_batches_reference")
        connection.execute("CREATE TABLE somebody_elses (x)")
    connection.close()
    assert await backend.schema_diff() == ["index ux_product_batches_reference is missing"]
    await backend.create_schema()
    assert await backend.schema_diff() == []
    assert "somebody_elses" in ddl(file, "%")


@pytest.mark.contract("REPO-105")
@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("ALTER TABLE products DROP COLUMN _version", "column products._version does not exist"),
        ("ALTER TABLE products ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'", None),
        ("ALTER TABLE products ADD COLUMN extra TEXT", None),
        ("DROP TABLE products; CREATE TABLE products (sku TEXT, _version BIGINT)", "may be null"),
        ("DROP TABLE products; CREATE TABLE products (sku INTEGER, _version BIGINT NOT NULL)", "is INTEGER, not TEXT"),
        (
            "DROP TABLE products; CREATE TABLE products (sku TEXT PRIMARY KEY, _version BIGINT NOT NULL, x INT NOT NULL)",
            "column products.x belongs to no field",
        ),
    ],
)
async def test_a_table_that_differs_stops_the_start(
    backend: SqlBackend, file: Path, statement: str, difference: str | None
) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(statement)
    connection.close()
    if difference is None:
        await backend.create_schema()
        return
    with pytest.raises(SchemaMismatch) as caught:
        await backend.create_schema()
    assert difference in str(caught.value)
    assert any(difference in line for line in caught.value.differences)


@pytest.mark.contract("REPO-106")
async def test_tables_that_others_put_into_the_metadata_are_made_too(backend: SqlBackend, file: Path) -> None:
    journal = sa.Table("_journal", metadata(backend), sa.Column("id", sa.Integer, primary_key=True))
    await backend.create_schema()
    execution = backend.execution()
    await execution.begin()
    await execution.connection.execute(journal.insert().values(id=7))
    await execution.commit()
    assert "_journal" in ddl(file, "%")


@pytest.mark.contract("REPO-107")
async def test_tables_are_reached_by_model_and_path(backend: SqlBackend, models: SimpleNamespace) -> None:
    assert table(models.Product, backend).name == "products"
    assert table(models.Product, backend, "batches", "allocations").name == "product_batches_allocations"
    with pytest.raises(LookupError, match="nothing"):
        table(models.Product, backend, "nothing")


@pytest.mark.contract("REPO-107")
def test_a_backend_without_tables_says_so(models: SimpleNamespace) -> None:
    from wintry.repository import Backends

    with pytest.raises(TypeError, match="memory"):
        table(models.Product, Backends(default="memory://")["default"])


async def test_an_index_is_made_for_a_field_that_asks(backend: SqlBackend, models: SimpleNamespace) -> None:
    indexes = {index.name: index.unique for index in table(models.Everything, backend).indexes}
    assert indexes == {
        "ix_everythings_address_geo_lon": False,
        "ix_everythings_home_geo_lon": False,
        "ux_everythings_code": True,
    }


class WithUniqueKey(Model):
    id: str = RequiredId(unique=True)
    other: str = Field(unique=True)


def test_a_roots_own_id_needs_no_second_index() -> None:
    backend = open_backend("default", "sqlite://", {})
    assert [index.name for index in table(WithUniqueKey, backend).indexes] == ["ux_with_unique_keys_other"]
