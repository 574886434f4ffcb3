"""The synthesised constructor, with and without a container."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from logging import Logger, getLogger
from typing import ClassVar, Protocol, dataclass_transform

import pytest

from wintry.ioc import Container, InjectionError, injectable, provider

pytestmark = pytest.mark.anyio


class Backends: ...


class Runtime: ...


class Special(Runtime): ...


class Sender(Protocol):
    channel: str

    def send(self) -> str: ...


class Repository:
    """Positional, as a repository's base is."""

    backends: Backends
    calls: int

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.calls = 0


class Unit:
    """Takes whatever it is given, as a unit of work's base does."""

    def __init__(self, **repositories: object) -> None:
        self.given = repositories
        for name, value in repositories.items():
            setattr(self, name, ("bound", value))


class Queue:
    """Has an optional keyword, as a message queue's base does."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self.runtime = runtime


@provider
class Products(Repository): ...


@provider
class Work(Unit):
    products: Products
    logger: Logger


@provider
class Bus(Queue):
    work: Work
    logger: Logger


@pytest.mark.contract("IOC-010")
def test_fields_become_required_keywords() -> None:
    @provider
    class Service:
        products: Products
        logger: Logger

    products = Products(Backends())
    service = Service(products=products, logger=getLogger("x"))
    assert service.products is products
    assert [each.kind for each in inspect.signature(Service).parameters.values()] == [
        inspect.Parameter.KEYWORD_ONLY
    ] * 2
    with pytest.raises(TypeError, match="logger"):
        Service(products=products)  # type: ignore[call-arg]  # the missing argument is what is tested
    with pytest.raises(TypeError, match="positional"):
        Service(products, getLogger("x"))  # type: ignore[misc]  # as above


@pytest.mark.contract("IOC-011")
async def test_a_written_constructor_wins() -> None:
    @provider
    class Service:
        bus: Bus
        runtime: Runtime

        def __init__(self, runtime: Runtime) -> None:
            self.runtime = runtime

    @provider
    @dataclass
    class Data:
        runtime: Runtime

    container = Container()
    for key in (Runtime, Service, Data):
        container.register(key)
    async with container:
        assert not hasattr(container.get(Service), "bus")
        assert container.get(Data) == Data(container.get(Runtime))


@pytest.mark.contract("IOC-012")
async def test_class_variables_and_defaulted_fields_are_left_alone() -> None:
    @injectable
    class Service:
        count: ClassVar[int] = 0
        total: ClassVar[int]
        retries: int = 3
        runtime: Runtime | None = None
        queue: Queue

    container = Container()
    for key in (Runtime, Queue, Service):
        container.register(key)
    async with container:
        service = container.get(Service)
        assert (service.retries, service.runtime) == (3, None)
        assert vars(service) == {"queue": container.get(Queue)}
    by_hand = Service(queue=Queue(), retries=5)
    assert (by_hand.retries, Service.retries) == (5, 3)


@pytest.mark.contract("IOC-013")
async def test_a_positional_base_keeps_its_shape() -> None:
    backends = Backends()
    assert Products(backends).backends is backends

    @provider
    class Audited(Repository):
        logger: Logger

    by_hand = Audited(backends, logger=getLogger("x"))
    assert by_hand.backends is backends
    container = Container()
    container.register_value(Backends, backends)
    container.register(Audited)
    async with container:
        assert container.get(Audited).backends is backends


@pytest.mark.contract("IOC-013")
async def test_every_kind_of_parameter_of_the_base_keeps_its_meaning() -> None:
    class Base:
        def __init__(self, first: Backends, /, second: Queue, third: int = 3, *rest: int, fourth: str = "4") -> None:
            self.all = (first, second, third, fourth)

    @provider
    class Service(Base):
        runtime: Runtime

    first, second, runtime = Backends(), Queue(), Runtime()
    assert Service(first, second, runtime=runtime).all == (first, second, 3, "4")
    assert Service(first, second=second, third=4, fourth="5", runtime=runtime).all == (first, second, 4, "5")
    with pytest.raises(TypeError, match="positional-only"):
        Service(first=first, second=second, runtime=runtime)  # type: ignore[call-arg]  # what is tested
    container = Container()
    for key in (Backends, Queue, Runtime, Service):
        container.register(key)
    async with container:
        assert container.get(Service).all == (container.get(Backends), container.get(Queue), 3, "4")
        assert container.get(Service).runtime is container.get(Runtime)


@pytest.mark.contract("IOC-013")
async def test_a_field_named_like_a_parameter_of_the_base_narrows_it() -> None:
    @provider
    class Narrow(Queue):
        runtime: Special

    container = Container()
    for key in (Runtime, Special, Narrow):
        container.register(key)
    async with container:
        assert container.get(Narrow).runtime is container.get(Special)
    lacking = Container()
    lacking.register(Narrow)
    assert "no provider for" in str(lacking.faults[0])
    with pytest.raises(TypeError, match="runtime"):
        Narrow()  # type: ignore[call-arg]  # what is tested


@pytest.mark.contract("IOC-014")
@pytest.mark.parametrize("provided", [True, False])
async def test_a_defaulted_keyword_of_the_base_is_filled_where_a_provider_exists(provided: bool) -> None:
    container = Container()
    for key in (Backends, Products, Work, Bus):
        container.register(key)
    if provided:
        container.register(Runtime)
    async with container:
        bus = container.get(Bus)
        assert bus.runtime is (container.get(Runtime) if provided else None)
        assert bus.work is container.get(Work)
    runtime = Runtime()
    work = Work(products=Products(Backends()), logger=getLogger("x"))
    assert Bus(work=work, logger=getLogger("x"), runtime=runtime).runtime is runtime


@pytest.mark.contract("IOC-015")
async def test_a_base_that_takes_anything_receives_the_fields() -> None:
    container = Container()
    for key in (Backends, Products, Work):
        container.register(key)
    async with container:
        work = container.get(Work)
        assert work.given == {"products": container.get(Products), "logger": getLogger(f"{__name__}.Work")}
        assert work.products == ("bound", container.get(Products))  # type: ignore[comparison-overlap]  # its own doing


@pytest.mark.contract("IOC-016")
async def test_constructors_chain_over_several_levels() -> None:
    @provider
    class Derived(Bus):
        backends: Backends

    @provider
    class Last(Derived):
        extra: Products

    container = Container()
    for key in (Backends, Products, Work, Runtime, Last):
        container.register(key)
    async with container:
        last = container.get(Last)
        assert last.runtime is container.get(Runtime)
        assert last.work is container.get(Work)
        assert last.backends is container.get(Backends)
        assert last.extra is container.get(Products)


@pytest.mark.contract("IOC-016")
async def test_fields_of_an_unmarked_base_and_of_a_second_base_are_injected() -> None:
    class Plain:
        backends: Backends

    class Mixin:
        runtime: Runtime

    @provider
    class Service(Plain): ...

    @provider
    class Both(Queue, Mixin): ...

    container = Container()
    for key in (Backends, Runtime, Service, Both):
        container.register(key)
    async with container:
        assert container.get(Service).backends is container.get(Backends)
        assert container.get(Both).runtime is container.get(Runtime)


@pytest.mark.contract("IOC-017")
async def test_the_members_of_a_protocol_are_no_fields() -> None:
    @provider(of=Sender)
    class Mail(Sender):
        channel = "mail"

        def send(self) -> str:
            return self.channel

    container = Container()
    container.register(Mail)
    async with container:
        assert container.get(Mail).send() == "mail"


@pytest.mark.contract("IOC-018")
async def test_the_logger_is_named_after_the_class_that_asks() -> None:
    container = Container()
    for key in (Backends, Products, Work, Bus):
        container.register(key)
    async with container:
        assert container.get(Bus).logger.name == f"{__name__}.Bus"
        assert container.get(Work).given["logger"] is getLogger(f"{__name__}.Work")


@pytest.mark.contract("IOC-018")
async def test_a_logger_of_ones_own_beats_the_built_in_one() -> None:
    own = getLogger("own")
    container = Container()
    container.register_value(Logger, own)
    for key in (Backends, Products, Work):
        container.register(key)
    async with container:
        assert container.get(Work).given["logger"] is own


@pytest.mark.contract("IOC-019")
def test_marking_twice_changes_nothing() -> None:
    init = Bus.__init__
    assert injectable(Bus) is Bus
    assert Bus.__init__ is init


@pytest.mark.contract("IOC-040")
def test_a_field_whose_hint_cannot_be_resolved_names_module_class_and_field() -> None:
    @provider
    class Service:
        gone: Nowhere  # type: ignore[name-defined]  # noqa: F821 - the unknown name is what is tested
        absent: Missing

    class Missing: ...

    container = Container()
    container.register(Service)
    with pytest.raises(InjectionError) as caught:
        container.validate()
    places = [fault.place for fault in caught.value.faults]  # type: ignore[attr-defined]  # all are Faults here
    assert places == [f"{Service.__module__}.{Service.__qualname__}.{name}" for name in ("gone", "absent")]
    assert "Nowhere" in str(caught.value)
    assert "Missing" in str(caught.value)
    assert "not only under TYPE_CHECKING" in str(caught.value)


@pytest.mark.contract("IOC-042")
def test_a_misspelled_hint_proposes_the_nearest_class() -> None:
    @provider
    class Service:
        backends: Backend  # type: ignore[name-defined]  # noqa: F821 - the unknown name is what is tested

    container = Container()
    container.register(Service)
    assert "did you mean Backends?" in str(container.faults[0])


@pytest.mark.contract("IOC-011")
async def test_a_class_whose_metaclass_makes_constructors_keeps_its_own() -> None:
    @dataclass_transform()
    class Fields(type):
        """Makes constructors of fields, as the metaclass of pydantic does."""

    class Record(metaclass=Fields):
        def __init__(self, **data: int) -> None:
            vars(self).update(data)

    @provider
    class Options(Record):
        size: int = 3

    assert Options.__init__ is Record.__init__
    assert vars(Options(size=5)) == {"size": 5}
    container = Container()
    container.register(Options)
    async with container:
        assert container.get(Options).size == 3


@pytest.mark.contract("IOC-010")
def test_slots_are_no_defaults() -> None:
    @provider
    class Service:
        __slots__ = ("runtime",)
        runtime: Runtime

    runtime = Runtime()
    assert Service(runtime=runtime).runtime is runtime
    with pytest.raises(TypeError, match="runtime"):
        Service()  # type: ignore[call-arg]  # left out on purpose
