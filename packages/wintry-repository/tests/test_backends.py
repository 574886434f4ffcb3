"""`Backends`: names, URLs, opening, and what a backend refuses to hold."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from wintry.models import Array, Model, RequiredId
from wintry.repository import (
    Backends,
    ConfigurationError,
    DefinitionError,
    Repository,
    RepositoryError,
    Unreachable,
    Unsupported,
    query,
)
from wintry.repository.errors import redacted
from wintry.repository.memory.backend import MemoryBackend

pytestmark = pytest.mark.anyio


class Batch(Model):
    reference: str = RequiredId()


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


class Products(Repository[Product, str], entity=Product): ...


class Views(Repository[Product, str], entity=Product, for_backend="views"): ...


@pytest.mark.contract("REPO-070")
async def test_several_backends_by_name() -> None:
    async with Backends(default="memory://", views="memory://views") as backends:
        products, views = Products(backends), Views(backends)
        await products.create(entity=Product(sku="a"))

        assert backends.names == ("default", "views")
        assert await views.count() == 0
        assert products.backend is backends["default"]
        assert views.backend is backends["views"]
        assert [backend.name for backend in backends] == ["default", "views"]


@pytest.mark.contract("REPO-070")
async def test_two_names_of_one_url_are_one_backend() -> None:
    backends = Backends(default="memory://x", views={"url": "memory://x"}, other="memory://y")

    assert backends["default"] is backends["views"]
    assert backends["default"] is not backends["other"]
    assert len(list(backends)) == 2


@pytest.mark.contract("REPO-070")
def test_two_spellings_of_one_file_are_one_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spellings = ("x.db", "./x.db", f"{tmp_path}/x.db", f"{tmp_path}/../{tmp_path.name}/x.db")
    backends = Backends.of({str(number): f"sqlite:///{path}" for number, path in enumerate(spellings)})

    assert len(list(backends)) == 1


@pytest.mark.contract("REPO-071")
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"default": "memoria://x"}, "no installed backend serves 'memoria://'"),
        ({"default": "shop.db"}, "a URL such as sqlite:///file.db is wanted, not 'shop.db'"),
        ({"default": {"pool": 3}}, "a URL such as sqlite:///file.db is wanted, not None"),
        ({"default": {"url": "memory://", "pool": 3}}, "memory:// has no options, but got pool"),
        ({}, "no backend is given"),
    ],
)
def test_what_is_no_backend(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Backends(**given)

    assert reason in str(caught.value)


@pytest.mark.contract("REPO-071")
def test_a_name_that_is_not_there() -> None:
    backends = Backends(default="memory://", view="memory://v")

    with pytest.raises(ConfigurationError, match="there is no backend 'views'; did you mean 'view'?"):
        backends["views"]
    with pytest.raises(ConfigurationError, match=r"Views is for_backend='views', but there is no backend 'views'"):
        Views(backends)


@pytest.mark.contract("REPO-074")
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://ada:sesame@localhost/shop",
        "memoria://ada:sesame@h1,h2:27017/shop?replicaSet=x",
        "memoria://host/db?user=x&password=sesame",
        "memoria://ada:p@sesame@host/db",
    ],
)
def test_errors_never_show_a_password(url: str) -> None:
    assert "sesame" not in redacted(f"cannot reach {url}")
    with pytest.raises(ConfigurationError) as caught:
        Backends(default=url.replace("postgresql+asyncpg", "memoria"))

    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(Backends(default="memory://sesame"))


@pytest.mark.contract("REPO-072")
async def test_nothing_runs_before_opening_or_after_closing() -> None:
    backends = Backends(default="memory://")
    products = Products(backends)

    with pytest.raises(ConfigurationError, match="'default' is not open: use `async with backends`"):
        await products.count()
    async with backends:
        await products.create(entity=Product(sku="a"))
    with pytest.raises(ConfigurationError, match="not open"):
        await products.get("a")
    async with backends:
        assert await products.count() == 1


@pytest.mark.contract("REPO-072")
async def test_the_schema_is_made_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    async def create_schema(self: MemoryBackend) -> None:
        await asyncio.sleep(0)
        made.append(self.name)

    monkeypatch.setattr(MemoryBackend, "create_schema", create_schema)
    backends = Backends(default="memory://")
    Products(backends)
    async with backends:
        assert made == ["default"]

        class Batches(Repository[Batch, str], entity=Batch): ...

        other = Backends(default="memory://")
        async with other:
            batches = Batches(other)
            await asyncio.gather(*(batches.count() for _ in range(5)))
            assert made == ["default", "default"]
        await Products(backends).count()
    assert made == ["default", "default"]


@pytest.mark.contract("REPO-072")
async def test_no_schema_is_made_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_schema(self: MemoryBackend) -> None:
        raise AssertionError

    monkeypatch.setattr(MemoryBackend, "create_schema", create_schema)
    async with Backends(default="memory://", create_schema=False) as backends:
        assert await Products(backends).count() == 0


@pytest.mark.contract("REPO-073")
def test_an_owned_child_has_no_repository_of_its_own() -> None:
    class Batches(Repository[Batch, str], entity=Batch): ...

    reason = r"Batch belongs to Product, which owns it at Product\.batches"
    backends = Backends(default="memory://", views="memory://v")
    Products(backends)
    with pytest.raises(DefinitionError, match=reason):
        Batches(backends)
    backends = Backends(default="memory://", views="memory://v")
    Batches(backends)
    Views(backends)  # on another backend it may be stored as an aggregate
    with pytest.raises(DefinitionError, match=reason):
        Products(backends)


@pytest.mark.contract("REPO-075")
async def test_all_are_closed_also_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    async def close(self: MemoryBackend) -> None:
        closed.append(self.name)
        if self.name == "default":
            raise RepositoryError("cannot")

    monkeypatch.setattr(MemoryBackend, "close", close)
    backends = Backends(default="memory://", views="memory://v")
    await backends.open()

    with pytest.raises(RepositoryError, match="cannot"):
        await backends.close()
    assert closed == ["default", "views"]


@pytest.mark.contract("REPO-075")
async def test_what_was_opened_is_closed_where_the_next_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    async def open(self: MemoryBackend) -> None:
        if self.name == "views":
            raise Unreachable("views")

    async def close(self: MemoryBackend) -> None:
        closed.append(self.name)

    monkeypatch.setattr(MemoryBackend, "open", open)
    monkeypatch.setattr(MemoryBackend, "close", close)

    with pytest.raises(Unreachable):
        await Backends(default="memory://", views="memory://v").open()
    assert closed == ["default"]


@pytest.mark.contract("REPO-075")
async def test_check_tells_the_state_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(self: MemoryBackend) -> None:
        if self.name == "views":
            raise Unreachable("no answer from pg://ada:sesame@host")

    monkeypatch.setattr(MemoryBackend, "check", check)
    async with Backends(default="memory://", views="memory://v") as backends:
        assert await backends.check() == {"default": None, "views": "no answer from pg://***@host"}


@pytest.mark.contract("REPO-063")
def test_a_store_without_tables_has_no_metadata() -> None:
    with pytest.raises(Unsupported, match="a backend of kind memory has no tables"):
        Backends(default="memory://").metadata("default")


async def test_bound_twice_is_bound_once(backends: Backends) -> None:
    class Others(Repository[Product, str], entity=Product):
        @query
        async def find_by_sku(self, *, sku: str) -> list[Product]: ...

    await Products(backends).create(entity=Product(sku="a"))

    assert [product.sku for product in await Others(backends).find_by_sku(sku="a")] == ["a"]
