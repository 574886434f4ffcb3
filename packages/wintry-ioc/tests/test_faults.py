"""What is wrong with a graph or a mark, and how it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

from wintry.ioc import (
    AsyncRequired,
    Container,
    DefinitionError,
    Fault,
    InjectionError,
    NotProvided,
    collecting,
    inject,
    injectable,
    injected,
    provider,
)

pytestmark = pytest.mark.anyio


class Publisher(Protocol):
    def send(self) -> None: ...


class Settings: ...


class Memory:
    def send(self) -> None: ...


class Redis:
    def send(self) -> None: ...


@injectable
class Session:
    settings: Settings


@injectable
class Cache:
    session: Session


@injectable
class Bus:
    sender: Publisher
    cache: Cache


@injectable
class Hen:
    egg: Egg


@injectable
class Egg:
    hen: Hen


@injectable
class Farm:
    hen: Hen


def only(container: Container) -> Fault:
    (fault,) = container.faults
    assert isinstance(fault, Fault)
    return fault


@pytest.mark.contract("IOC-041")
def test_a_missing_provider_is_drawn_as_the_path_that_asks_for_it() -> None:
    container = Container()
    for key in (Settings, Session, Cache, Bus):
        container.register(key)
    fault = only(container)
    assert str(fault) == (
        f"{__name__}.Bus.sender: no provider for {__name__}.Publisher\n"
        f"    {__name__}.Bus\n"
        f"    └─ sender: {__name__}.Publisher   ← nothing provides it\n"
        "  → mark Publisher or what implements it with @provider, in a module that is scanned"
    )


@pytest.mark.contract("IOC-041")
def test_the_path_begins_at_what_nobody_asks_for() -> None:
    container = Container()
    container.register(Cache)
    container.register(Session)
    assert only(container).drawing == (
        f"{__name__}.Cache",
        f"└─ session: {__name__}.Session",
        f"   └─ settings: {__name__}.Settings   ← nothing provides it",
    )


@pytest.mark.contract("IOC-042")
async def test_the_nearest_good_name_is_proposed() -> None:
    class Sessions: ...

    class Mine(Session): ...

    class Wants:
        def __init__(self, count: int) -> None: ...

    container = Container()
    container.register(Sessions)
    container.register(Cache)
    assert only(container).hint == f"did you mean {Sessions.__module__}.{Sessions.__qualname__}?"
    container = Container()
    container.register(Mine)
    container.register(Settings)
    container.register(Cache)
    assert only(container).hint == f"{Mine.__module__}.{Mine.__qualname__} is one: mark it @provider(of=Session)"
    container = Container()
    container.register(Wants)
    assert "plain value" in str(only(container).hint)
    async with Container() as empty, empty.scope() as scope:
        with pytest.raises(NotProvided, match="nothing provides"):
            await scope.get(Settings)


@pytest.mark.contract("IOC-043")
def test_a_cycle_is_drawn_once_as_a_loop() -> None:
    container = Container()
    for key in (Hen, Egg, Farm):
        container.register(key)
    fault = only(container)
    assert fault.reason == "needs itself: a cycle"
    hen, egg, back = fault.drawing
    assert hen.startswith(f"{__name__}.Hen ◄─")
    assert hen.endswith("─╮")
    assert egg.startswith(f"└─ egg: {__name__}.Egg ")
    assert egg.endswith(" │")
    assert back.startswith(f"   └─ hen: {__name__}.Hen ─")
    assert back.endswith("─╯")
    assert len({len(line) for line in fault.drawing}) == 1


@pytest.mark.contract("IOC-044")
def test_a_stated_singleton_that_holds_something_scoped_through_any_depth_is_told() -> None:
    container = Container()
    container.register(Settings, lifetime="scoped")
    container.register(Session)
    container.register(Cache, lifetime="singleton")
    fault = only(container)
    assert fault.place == f"{__name__}.Cache"
    assert "ends before it" in fault.reason
    assert fault.drawing == (
        f"{__name__}.Cache (singleton)",
        f"└─ session: {__name__}.Session",
        f"   └─ settings: {__name__}.Settings (scoped)",
    )


@pytest.mark.contract("IOC-044")
def test_a_singleton_may_hold_a_transient_but_not_what_that_holds() -> None:
    container = Container()
    container.register(Settings)
    container.register(Session, lifetime="transient")
    container.register(Cache, lifetime="singleton")
    assert container.faults == []
    container = Container()
    container.register_context(Settings)
    container.register(Session, lifetime="transient")
    container.register(Cache, lifetime="singleton")
    assert "a context value" in only(container).reason


@pytest.mark.contract("IOC-045")
def test_two_providers_where_one_is_wanted() -> None:
    container = Container()
    for key in (Settings, Settings, Session):
        container.register(key)
    fault = only(container)
    assert fault.reason == f"2 providers for {__name__}.Settings, and one is wanted"
    assert "list[Settings]" in str(fault.hint)
    assert fault.drawing == (
        f"{__name__}.Session",
        f"└─ settings: {__name__}.Settings",
        f"   · {__name__}.Settings",
        f"   · {__name__}.Settings",
    )


@pytest.mark.contract("IOC-045")
async def test_several_providers_of_what_was_compiled_stand_in_the_report_and_nothing_is_built() -> None:
    log: list[str] = []

    def pool() -> Iterator[Settings]:
        log.append("made")
        try:
            yield Settings()
        finally:
            log.append("ended")

    container = Container()
    container.register(Settings, pool)
    container.register(Publisher, Memory)
    container.register(Publisher, Redis)
    container.compile(Publisher)
    with pytest.raises(InjectionError) as caught:
        await container.__aenter__()
    (fault,) = caught.value.faults
    assert str(fault).splitlines() == [
        f"{__name__}.Publisher: 2 providers for {__name__}.Publisher, and one is wanted",
        f"    · {__name__}.Memory",
        f"    · {__name__}.Redis",
        '  → ask for list[Publisher], or tell them apart by name= and Annotated[…, Named("…")]',
    ]
    assert log == []


@pytest.mark.contract("IOC-100")
@pytest.mark.parametrize("overridden", [None, "with", "async with"])
async def test_a_start_that_fails_behind_its_singletons_finishes_them(
    overridden: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    def pool(publisher: Publisher) -> Iterator[Settings]:
        log.append("made")
        try:
            yield Settings()
        finally:
            log.append("ended")

    def refuse(*_: object) -> None:
        raise RuntimeError("cannot be compiled")

    container = Container()
    container.register(Settings, pool)
    container.register(Publisher, Memory)
    container.compile(Settings)
    if overridden is None:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cannot be compiled"):
            patch.setattr("wintry.ioc.program.compile_root", refuse)
            await container.__aenter__()
        assert log == ["made", "ended"]
    async with container, container.scope() as scope:
        if overridden is not None:
            override = container.override({Publisher: Redis()})
            with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cannot be compiled"):
                patch.setattr("wintry.ioc.program.compile_root", refuse)
                if overridden == "with":
                    override.__enter__()
                else:
                    await override.__aenter__()
            assert log == ["made", "made", "ended"]
        assert isinstance(scope.get_nowait(Settings), Settings)
        assert isinstance(container.get(Publisher), Memory)
    assert log == ["made", "ended"] * 2 if overridden is None else ["made", "made", "ended", "ended"]


@pytest.mark.contract("IOC-046")
async def test_a_plain_function_cannot_be_given_what_must_be_awaited() -> None:
    async def settings() -> AsyncIterator[Settings]:
        yield Settings()

    @inject
    def report(cache: Cache = injected()) -> None: ...

    container = Container()
    container.register(Settings, settings, lifetime="scoped")
    container.register(Session)
    container.register(Cache)
    async with container, container.scope():
        with pytest.raises(AsyncRequired) as caught:
            report()
    assert "is a plain function but needs" in str(caught.value)
    assert "└─ cache:" in str(caught.value)


@pytest.mark.contract("IOC-047")
async def test_all_faults_stand_in_one_report_and_nothing_is_built() -> None:
    built: list[object] = []

    class Eager:
        def __init__(self) -> None:
            built.append(self)

    container = Container()
    for key in (Eager, Hen, Egg, Bus, Session, Cache):
        container.register(key)
    container.add_faults([ValueError("from another library\nin two lines")])
    with pytest.raises(InjectionError) as caught:
        async with container:
            pytest.fail("it was entered")
    assert len(caught.value.faults) == 4
    text = str(caught.value)
    assert text.startswith("4 faults found:\n  1. from another library\n     in two lines\n  2. ")
    for part in ("Bus.sender: no provider", "Session.settings: no provider", "a cycle"):
        assert part in text
    assert built == []


@pytest.mark.contract("IOC-047")
def test_what_was_compiled_and_is_not_provided_stands_in_the_report() -> None:
    container = Container()
    container.compile(Settings)
    assert "is asked for, and nothing provides it" in only(container).reason


class Abstract(ABC):
    @abstractmethod
    def run(self) -> None: ...


def no_return():  # type: ignore[no-untyped-def]  # the missing annotation is what is tested
    return 1


def of_nothing() -> None: ...


@pytest.mark.contract("IOC-048")
@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        (lambda: provider(lifetime="forever")(type("A", (), {})), "unknown lifetime 'forever'"),
        (lambda: provider(of=Settings)(type("A", (), {})), "which it is not"),
        (lambda: provider(of=Publisher)(type("A", (), {})), r"lacks send\(\)"),
        (lambda: provider(Publisher), "is a protocol"),
        (lambda: provider(Abstract), "is abstract"),
        (lambda: provider(no_return), "does not say what it provides"),
        (lambda: provider(of_nothing), "does not say what it provides"),
        (lambda: provider(3), "neither a class nor a function"),
        (lambda: inject(of_nothing), "has no parameter to fill"),
    ],
    ids=["lifetime", "base", "shape", "protocol", "abstract", "unannotated", "none", "value", "unfilled"],
)
def test_a_mark_that_cannot_work_is_told_at_once_or_collected(mark: object, reason: str) -> None:
    assert callable(mark)
    with pytest.raises(DefinitionError, match=reason) as caught:
        mark()
    with collecting() as faults:
        mark()
    assert [str(each) for each in faults] == [str(caught.value)]
    with pytest.raises(DefinitionError):
        mark()


@pytest.mark.contract("IOC-048")
def test_an_injected_generator_is_refused() -> None:
    async def stream(settings: Settings = injected()) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(DefinitionError, match="generator"):
        inject(stream)
