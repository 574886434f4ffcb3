"""Collections, indexes, and what a URL says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import pytest

from wintry.models import Array, Field, Model, RequiredId
from wintry.repository import Backends, Repository, Unsupported, query
from wintry.repository.errors import ConfigurationError, DefinitionError
from wintry.repository.mongo import MongoBackend, collection, open_backend

pytestmark = pytest.mark.anyio

Open = Callable[..., Awaitable[MongoBackend]]


class Batch(Model):
    reference: str = RequiredId(unique=True)
    eta: date | None = Field(default=None, index=True)


class Product(Model):
    sku: str = RequiredId()
    code: str | None = Field(default=None, unique=True)
    batches: list[Batch] = Array()


class Products(Repository[Product, str], entity=Product):
    @query
    async def get_by_batches__reference_and_batches__eta_null(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def get_by_code(self, *, code: str) -> Product | None: ...


@pytest.mark.contract("REPO-310")
async def test_collections_and_indexes_are_made_once(open_on: Open) -> None:
    backend = await open_on(Product)
    await backend.create_schema()

    found = await collection(Product, backend).index_information()

    assert backend.documents(Product).name == "products"
    assert found["ux_products_batches_reference"]["partialFilterExpression"] == {"batches.reference": {"$exists": True}}
    assert found["ux_products_code"]["unique"]
    assert not found["ix_products_batches_eta"].get("unique")
    assert len(found) == 4


@pytest.mark.contract("REPO-311")
@pytest.mark.parametrize(
    ("call", "value", "index"), [(0, "b", "ux_products_batches_reference"), (1, "c", "ux_products_code")]
)
async def test_an_equality_on_a_unique_field_uses_its_index(
    mongodb_url: str, call: int, value: str, index: str
) -> None:
    async with Backends(default=mongodb_url) as backends:
        products = Products(backends)
        await products.create(entity=Product(sku="T", code="c", batches=[Batch(reference="b")]))
        backend: Any = backends["default"]
        commands: list[dict[str, Any]] = []
        original = backend.collection

        class Spy:
            def __init__(self, name: str) -> None:
                self._inner = original(name)

            def find(self, query: dict[str, Any], **options: Any) -> Any:
                commands.append(query)
                return self._inner.find(query, **options)

        backend.collection = Spy
        method = (products.get_by_batches__reference_and_batches__eta_null, products.get_by_code)[call]
        found = await method(**{("batches__reference", "code")[call]: value})
        assert found is not None

        plan = await original("products").find(commands[0]).explain()

    considered = [plan["queryPlanner"]["winningPlan"], *plan["queryPlanner"]["rejectedPlans"]]
    assert f"'indexName': '{index}'" in str(considered)


@pytest.mark.contract("REPO-310")
async def test_an_index_that_is_there_and_differs_stops_the_start(open_on: Open) -> None:
    backend = await open_on(Product)
    raw = collection(Product, backend)
    await raw.drop_index("ux_products_code")
    await raw.create_index("code", name="ux_products_code")

    with pytest.raises(ConfigurationError, match="an index of products cannot be made, migrate it first"):
        await backend.create_schema()


@pytest.mark.contract("REPO-312")
async def test_unique_where_elements_may_lack_the_field_is_unsupported() -> None:
    class Part(Model):
        id: int = RequiredId()
        serial: str | None = Field(default=None, unique=True)

    class Machine(Model):
        id: int = RequiredId()
        parts: list[Part] = Array()

    class Line(Model):
        id: int = RequiredId(unique=True)

    class Pallet(Model):
        id: int = RequiredId()
        lines: list[Line] = Array()

    class Truck(Model):
        id: int = RequiredId()
        pallets: list[Pallet] = Array()

    backend = open_backend("default", "mongodb://localhost/shop", {})
    for model, place in ((Machine, "Machine.parts.serial"), (Truck, "Truck.pallets.lines.id")):
        with pytest.raises(Unsupported, match=place):
            backend.bind(model)


@pytest.mark.contract("REPO-313")
async def test_names_that_clash_are_told_by_the_definition() -> None:
    class Versioned(Model):
        id: int = RequiredId()
        _version: int = 0

    class Value(Model):
        text: str

    backend = open_backend("default", "mongodb://localhost/shop", {})
    with pytest.raises(DefinitionError, match="has no identity"):
        backend.bind(Value)
    with pytest.raises(DefinitionError, match="a document has a _version of its own"):
        backend.bind(Versioned)
    first = type("Thing", (Model,), {"__annotations__": {"id": int}, "id": RequiredId()})
    second = type("Thing", (Model,), {"__annotations__": {"id": int}, "id": RequiredId()})
    backend.bind(first)
    with pytest.raises(DefinitionError, match="needs the collection 'things'"):
        backend.bind(second)


@pytest.mark.contract("REPO-314")
@pytest.mark.parametrize(
    ("url", "options", "name"),
    [
        ("mongodb://localhost/shop", {"database": "other"}, "shop"),
        ("mongodb://localhost", {"database": "other"}, "other"),
        ("mongodb://localhost/?appName=allocation", {}, "allocation"),
        ("mongodb://localhost", {}, "wintry"),
        ("mongodb+srv://db.example.com/shop", {}, "shop"),
    ],
)
async def test_the_database_is_the_url_s_or_the_option_s_or_the_application_s(
    url: str, options: dict[str, Any], name: str
) -> None:
    assert open_backend("default", url, options).client.database_name == name


@pytest.mark.contract("REPO-314")
async def test_a_wrong_url_or_option_is_told_without_the_password() -> None:
    for url, options, reason in (
        ("mongodb://localhost", {"poolsize": 3}, "no option is called 'poolsize'"),
        ("mongodb://localhost", {"client": "mongoengine"}, "one of pymongo, motor"),
        ("mongodb://ann:secret@localhost:port", {}, "cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            open_backend("default", url, options)
        assert "secret" not in str(caught.value)


async def test_another_kind_of_backend_has_no_collections() -> None:
    with pytest.raises(TypeError, match="it has no collections"):
        collection(Product, Backends(default="memory://")["default"])
