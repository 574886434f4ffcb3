"""The component: settings by shape, opening, state, closing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wintry.models import DuplicateChild, IdentityChanged, InvalidValue, Model, RequiredId, SharedChild
from wintry.repository import (
    AlreadyExists,
    Backends,
    ConcurrentModification,
    ConfigurationError,
    Conflict,
    DefinitionError,
    InvalidArgument,
    MultipleFound,
    NotFound,
    Repository,
    Unreachable,
    query,
)
from wintry.repository.component import RepositoryComponent
from wintry.repository.memory.backend import MemoryBackend

pytestmark = pytest.mark.anyio


class Product(Model):
    sku: str = RequiredId()


class Products(Repository[Product, str], entity=Product): ...


class Views(Repository[Product, str], entity=Product, for_backend="views"): ...


class Container:
    """What the component asks of a container."""

    def __init__(self, *classes: type) -> None:
        self._classes = classes

    def subclasses(self, base: type, /) -> Iterable[Any]:
        return [one for one in self._classes if issubclass(one, base)]


def entry(name: str, url: str | None = None, driver: str | None = None, **options: Any) -> Any:
    return SimpleNamespace(name=name, driver=driver, connection_options=SimpleNamespace(url=url, **options))


def settings(*entries: Any) -> Any:
    return SimpleNamespace(backends=list(entries))


@pytest.mark.contract("REPO-076")
async def test_it_opens_what_the_settings_list(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    async def create_schema(self: MemoryBackend) -> None:
        made.append(self.name)

    monkeypatch.setattr(MemoryBackend, "create_schema", create_schema)
    component = RepositoryComponent()
    providers = component.providers(
        settings(entry("default", "memory://", timeout=None), entry("views", "memory://v", "wintry.drivers.memory"))
    )
    backends = providers[Backends]()
    assert isinstance(backends, Backends)

    await component.start(Container(Products, Views, str))
    assert made == ["default", "views"]
    assert await Products(backends).count() == 0
    assert await component.check() == {
        "default": {"status": "ok", "detail": "memory"},
        "views": {"status": "ok", "detail": "memory"},
    }
    await component.drain(1.0)
    await component.stop()
    with pytest.raises(ConfigurationError):
        await Products(backends).count()


@pytest.mark.contract("REPO-076")
async def test_it_is_nothing_without_backends() -> None:
    component = RepositoryComponent()

    assert component.providers(SimpleNamespace(backends=[])) == {}
    assert component.providers(SimpleNamespace()) == {}
    await component.start(Container())
    assert await component.check() == {}
    await component.stop()


@pytest.mark.contract("REPO-076")
async def test_a_store_that_does_not_answer_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(self: MemoryBackend) -> None:
        raise Unreachable("no answer")

    monkeypatch.setattr(MemoryBackend, "check", check)
    component = RepositoryComponent()
    component.providers(settings(entry("default", "memory://")))
    await component.start(Container())

    assert await component.check() == {"default": {"status": "down", "detail": "no answer"}}
    await component.stop()


@pytest.mark.contract("REPO-076")
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (entry("default"), "backend 'default': connection_options.url is missing"),
        (entry("default", "memory://", "wintry.drivers.pgg"), "no driver is called 'wintry.drivers.pgg'"),
        (
            entry("default", "memory://", "wintry.drivers.pg"),
            "'wintry.drivers.pg' wants a URL that begins with postgresql",
        ),
        (entry("default", "memory://", pool_size=3), "memory:// has no options, but got pool_size"),
    ],
)
def test_settings_that_cannot_work(given: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RepositoryComponent().providers(settings(given))

    assert reason in str(caught.value)


@pytest.mark.contract("REPO-076")
def test_all_that_is_wrong_with_the_settings_is_told_together() -> None:
    broken = settings(
        entry("a"), entry("b", "nosuch://host"), entry("c", "sqlite:///x.db", pool=1), entry("d", "memory://", "pgg")
    )

    with pytest.raises(ConfigurationError) as caught:
        RepositoryComponent().providers(broken)

    assert str(caught.value).count("\n") == 3
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [f"backend '{name}'" for name in "adbc"]


@pytest.mark.contract("REPO-076")
@pytest.mark.parametrize("driver", ["memory", "wintry.drivers.memory"])
def test_a_driver_by_its_short_name_or_the_long_one(driver: str) -> None:
    (provide,) = RepositoryComponent().providers(settings(entry("default", "memory://", driver))).values()

    assert provide()["default"].kind == "memory"


@pytest.mark.contract("REPO-076")
def test_an_option_may_be_text_as_it_is_in_the_environment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    (provide,) = RepositoryComponent().providers(settings(entry("default", url, pool_size="3"))).values()

    assert provide()["default"].dialect._options.pool_size == 3
    with pytest.raises(ConfigurationError, match="backend 'default': pool_size is a number of at least 1, not '3x'"):
        RepositoryComponent().providers(settings(entry("default", url, pool_size="3x")))


@pytest.mark.contract("REPO-076")
def test_it_tells_all_that_is_wrong_with_the_repositories_on_its_backends() -> None:
    class Other(Model):
        id: str = RequiredId()

    class Elsewhere(Repository[Other, str], entity=Other, for_backend="elsewhere"):
        pass

    class Nowhere(Repository[Other, str], entity=Other, for_backend="nowhere"):
        pass

    component = RepositoryComponent()
    component.providers(settings(entry("default", "memory://")))

    told = [str(fault) for fault in component.faults(Container(Elsewhere, Nowhere, Products))]

    assert len(told) == 2
    assert "Elsewhere is for_backend='elsewhere', but there is no backend 'elsewhere'" in told[0]
    assert "Nowhere is for_backend='nowhere'" in told[1]


@pytest.mark.contract("REPO-076")
def test_its_errors_have_a_status() -> None:
    component = RepositoryComponent()

    def status(kind: type[Exception]) -> int | None:
        return next((component.errors[base] for base in kind.__mro__ if base in component.errors), None)

    wanted = {
        NotFound: 404,
        MultipleFound: 409,
        AlreadyExists: 409,
        ConcurrentModification: 409,
        Conflict: 503,
        InvalidArgument: 422,
        InvalidValue: 422,
        SharedChild: 422,
        DuplicateChild: 422,
        IdentityChanged: 422,
        Unreachable: 503,
    }
    assert {kind: status(kind) for kind in wanted} == wanted


@pytest.mark.contract("REPO-017", "REPO-076")
def test_it_collects_the_faults_of_models_and_repositories() -> None:
    with RepositoryComponent().collecting() as faults:

        class _Broken(Model):
            id: str = RequiredId()
            value: object

        class _Others(Repository[Product, str], entity=Product):
            @query
            async def get_by_skuu(self, *, skuu: str) -> Product | None: ...

        class _Brokens(Repository[_Broken, str], entity=_Broken): ...

    assert any("_Broken.value" in str(fault) for fault in faults)
    assert any(isinstance(fault, DefinitionError) and "skuu" in fault.reason for fault in faults)
