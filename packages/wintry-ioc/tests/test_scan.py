"""Scanning packages: what is imported, said, collected and reported."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from wintry.ioc import Container, InjectionError, ScanError

pytestmark = pytest.mark.anyio
Package = Callable[[Mapping[str, str]], str]


@pytest.mark.contract("IOC-050")
def test_modules_are_imported_in_sorted_order_and_said(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    name = package(
        {"views": "", "commands": "", "__main__": "1/0", "tests.test_x": "1/0", "conftest": "1/0",
         "migrations.one": "1/0", "deep.b": "", "deep.a": ""}
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "wintry"):
        container = Container.scan(name)
    assert [(each.name, each.getMessage()) for each in caplog.records] == [
        ("wintry", f"Loading module {name}.{module}") for module in ("commands", "deep", "deep.a", "deep.b", "views")
    ]
    assert [each.__name__ for each in container.modules] == [
        name,
        *(f"{name}.{module}" for module in ("commands", "deep", "deep.a", "deep.b", "views")),
    ]


@pytest.mark.contract("IOC-051")
def test_what_exclude_names_is_not_imported(package: Package) -> None:
    name = package({"good": "", "old.one": "1/0", "legacy_x": "1/0", "sub.bad": "1/0"})
    Container.scan(name, exclude=("old", "legacy_*", f"{name}.sub.bad"))


@pytest.mark.contract("IOC-052")
async def test_marked_definitions_are_registered_once_and_where_they_are_defined(package: Package) -> None:
    name = package(
        {
            "services": """
                from typing import Protocol
                from wintry.ioc import provider

                class Port(Protocol):
                    def run(self) -> int: ...

                @provider(of=Port)
                class Adapter:
                    def run(self) -> int:
                        return 1

                @provider
                class Service:
                    port: Port

                class Plain(Service): ...

                @provider(lifetime="transient")
                def number(service: Service) -> int:
                    return service.port.run()
            """,
            "others": "from .services import Adapter, Service, number\nAlias = Service",
        }
    )
    container = Container.scan(name)
    container.collect()
    services: Any = sys.modules[f"{name}.services"]
    async with container, container.scope() as scope:
        assert await scope.get(int) == 1
        assert await scope.get(services.Port) is await scope.get(services.Adapter)
        assert await scope.get(list[services.Service]) == [await scope.get(services.Service)]
        assert container.subclasses(services.Service) == [services.Service]


@pytest.mark.contract("IOC-052")
def test_a_definition_of_a_module_that_was_not_loaded_is_not_registered(package: Package) -> None:
    marked = "from wintry.ioc import provider\n@provider\nclass Left: ..."
    library = package({"left": marked})
    name = package({"left": marked, "uses": f"from {library}.left import Left as Other\nfrom .left import Left"})
    assert Container.scan(name, exclude=("left",)).subclasses(object) == []


@pytest.mark.contract("IOC-053")
def test_an_import_error_is_raised_with_the_modules_name_after_all_others(package: Package) -> None:
    name = package({"a": "import nowhere_at_all", "b": "x = 1", "c": "raise ValueError('why')"})
    with pytest.raises(ScanError) as caught:
        Container.scan(name)
    assert f"{name}.b" in sys.modules
    assert [each.place for each in caught.value.faults] == [f"{name}.a", f"{name}.c"]
    assert f"{name}.c: cannot be imported: ValueError: why" in str(caught.value)
    assert "c.py:1" in str(caught.value)
    with pytest.raises(ScanError, match="scanned_no_such"):
        Container.scan("scanned_no_such")


@pytest.mark.contract("IOC-053")
async def test_loading_keeps_import_errors_for_the_report(package: Package) -> None:
    name = package(
        {"a": "raise ValueError('why')", "b": "from wintry.ioc import provider\n@provider\nclass B:\n x: int"}
    )
    container = Container()
    container.load(name)
    with pytest.raises(InjectionError) as caught:
        container.validate()
    assert "ValueError: why" in str(caught.value)
    assert "no provider for int" in str(caught.value)


@pytest.mark.contract("IOC-054")
def test_faults_of_definitions_of_all_libraries_stand_in_the_report(package: Package) -> None:
    name = package({"a": "from wintry.ioc import provider\n@provider(lifetime='forever')\nclass A: ..."})
    opened: list[str] = []

    @contextlib.contextmanager
    def other() -> Iterator[list[object]]:
        opened.append("open")
        yield ["a fault of another library"]
        opened.append("closed")

    container = Container.scan(name, collecting=[other])
    assert opened == ["open", "closed"]
    assert [str(each).splitlines()[0] for each in container.faults] == [
        f"{name}.a.A: has the unknown lifetime 'forever'",
        "a fault of another library",
    ]


@pytest.mark.contract("IOC-055")
async def test_the_module_that_is_being_imported_is_collected_later(
    package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    name = package(
        {
            "app": """
                from wintry.ioc import Container, provider

                container = Container()
                container.load(__spec__.parent)

                @provider
                class Late: ...
            """,
            "early": "from wintry.ioc import provider\n@provider\nclass Early: ...",
        }
    )
    with caplog.at_level(logging.INFO, "wintry"):
        app: Any = importlib.import_module(f"{name}.app")
    assert [each.getMessage() for each in caplog.records] == [f"Loading module {name}.early"]
    app.container.collect()
    async with app.container:
        assert isinstance(app.container.get(app.Late), app.Late)
        assert app.container.get(sys.modules[f"{name}.early"].Early)


@pytest.mark.contract("IOC-056")
def test_marking_leaves_no_trace_outside_the_marked_thing(package: Package) -> None:
    name = package({"a": "from wintry.ioc import provider\n@provider\nclass A: ..."})
    first, second = Container.scan(name), Container.scan(name)
    marked = sys.modules[f"{name}.a"].A
    assert first.subclasses(marked) == second.subclasses(marked) == [marked]
    assert Container().subclasses(object) == []


@pytest.mark.contract("IOC-046")
def test_injected_functions_of_a_scanned_module_are_checked_at_start(package: Package) -> None:
    name = package(
        {
            "jobs": """
                from wintry.ioc import inject, injected, provider

                class Absent: ...

                @provider(lifetime="scoped")
                async def number() -> int:
                    return 1

                @inject
                def plain(value: int = injected()) -> None: ...

                @inject
                async def nightly(absent: Absent = injected()) -> None: ...
            """
        }
    )
    reasons = [str(each).splitlines()[0] for each in Container.scan(name).faults]
    assert reasons == [
        f"{name}.jobs.nightly.absent: no provider for {name}.jobs.Absent",
        f"{name}.jobs.plain: is a plain function but needs {name}.jobs.number, which must be awaited",
    ]


@pytest.mark.contract("IOC-040")
def test_a_return_annotation_that_cannot_be_resolved_is_a_fault(package: Package) -> None:
    name = package({"a": "from wintry.ioc import provider\n@provider\ndef make() -> 'Nowhere': ..."})
    assert "return annotation cannot be resolved" in str(Container.scan(name).faults[0])


@pytest.mark.contract("IOC-053")
def test_a_script_that_ends_the_process_is_a_fault_too(package: Package) -> None:
    name = package({"a_script": "raise SystemExit(2)", "b": "x = 1"})
    with pytest.raises(ScanError, match=rf"{name}\.a_script: cannot be imported: SystemExit: 2"):
        Container.scan(name)
    assert f"{name}.b" in sys.modules
