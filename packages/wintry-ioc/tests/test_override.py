"""Overrides, and what compiled plans see of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from wintry.ioc import (
    AsyncRequired,
    Container,
    ContainerStateError,
    InjectionError,
    NotProvided,
    inject,
    injectable,
    injected,
)

pytestmark = pytest.mark.anyio


class Sender(Protocol):
    def name(self) -> str: ...


class Mail:
    def name(self) -> str:
        return "mail"


class Fake:
    def name(self) -> str:
        return "fake"


class Settings: ...


@injectable
class Bus:
    sender: Sender


@injectable
class Controller:
    bus: Bus
    settings: Settings


@inject
def who(bus: Bus = injected()) -> str:
    return bus.sender.name()


@pytest.fixture
def container() -> Container:
    container = Container()
    container.register(Sender, Mail)
    for key in (Bus, Settings, Controller):
        container.register(key)
    return container


@pytest.mark.contract("IOC-070")
async def test_a_compiled_plan_sees_the_override_and_its_end(container: Container) -> None:
    plan = container.compile(Controller)
    async with container, container.scope() as scope:
        before = plan.make(scope)
        settings = container.get(Settings)
        with container.override({Sender: (fake := Fake())}):
            inside = plan.make(scope)
            assert inside.bus.sender is fake
            assert (await scope.get(Controller)) is inside is container.get(Controller)
            assert inside.settings is settings
            assert who() == "fake"
        assert plan.make(scope) is before
        assert who() == "mail"


@pytest.mark.contract("IOC-070")
async def test_scoped_things_are_overridden_too(container: Container) -> None:
    scoped = Container()
    scoped.register(Sender, Mail, lifetime="scoped")
    scoped.register(Bus)
    async with scoped:
        async with scoped.scope() as scope:
            assert (await scope.get(Bus)).sender.name() == "mail"
        with scoped.override({Sender: Fake()}):
            async with scoped.scope() as scope:
                assert (await scope.get(Bus)).sender.name() == "fake"
                assert [each.name() for each in await scope.get(list[Sender])] == ["fake"]
        async with scoped.scope() as scope:
            assert (await scope.get(Bus)).sender.name() == "mail"


@pytest.mark.contract("IOC-071")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_singletons_that_reach_a_replaced_key_are_built_anew_and_finished(asynchronous: bool) -> None:
    log: list[str] = []

    def bus(sender: Sender) -> Iterator[Bus]:
        log.append(f"open {sender.name()}")
        yield Bus(sender=sender)
        log.append(f"close {sender.name()}")

    async def bus_async(sender: Sender) -> AsyncIterator[Bus]:
        for each in bus(sender):
            yield each

    container = Container()
    container.register(Sender, Mail)
    container.register(Bus, bus_async if asynchronous else bus)
    container.register(Settings)
    container.register(Controller)
    async with container:
        settings = container.get(Settings)
        if asynchronous:
            with pytest.raises(AsyncRequired, match="async with"), container.override({Sender: Fake()}):
                pytest.fail("it was entered")
            with container.override({Settings: settings}):
                assert container.get(Bus).sender.name() == "mail"
            async with container.override({Sender: Fake()}):
                assert container.get(Controller).bus.sender.name() == "fake"
        else:
            with container.override({Sender: Fake()}):
                assert container.get(Controller).bus.sender.name() == "fake"
        assert container.get(Settings) is settings
        assert log == ["open mail", "open fake", "close fake"]
    assert log[3:] == ["close mail"]


@pytest.mark.contract("IOC-071")
async def test_an_override_that_cannot_start_leaves_nothing_behind() -> None:
    async def bus(sender: Sender) -> Bus:
        if sender.name() == "fake":
            raise ValueError("no fakes")
        return Bus(sender=sender)

    container = Container()
    container.register(Sender, Mail)
    container.register(Bus, bus)
    container.register(Settings)
    async with container:
        with pytest.raises(ValueError, match="no fakes"):
            async with container.override({Sender: Fake()}):
                pytest.fail("it was entered")
        async with container.override({Settings: Settings()}):
            assert container.get(Bus).sender.name() == "mail"


@pytest.mark.contract("IOC-072")
async def test_overrides_nest(container: Container) -> None:
    async with container:
        with container.override({Sender: Fake()}):
            with container.override({Settings: (mine := Settings())}):
                assert (container.get(Controller).settings, who()) == (mine, "fake")
            assert container.get(Controller).settings is not mine
            assert who() == "fake"
        assert who() == "mail"


@pytest.mark.contract("IOC-073")
async def test_an_override_before_the_start_stands_in_for_what_is_missing() -> None:
    container = Container()
    container.register(Bus)
    with container.override({Sender: Fake()}):
        async with container:
            assert who() == "fake"
    with pytest.raises(InjectionError):
        container.validate()


@pytest.mark.contract("IOC-074")
async def test_an_override_of_what_nothing_knows_is_refused(container: Container) -> None:
    with pytest.raises(NotProvided, match="override"), container.override({Fake: Fake()}):
        pytest.fail("it was entered")


@pytest.mark.contract("IOC-072")
async def test_an_override_is_entered_once(container: Container) -> None:
    async with container:
        override = container.override({Sender: Fake()})
        with override, pytest.raises(ContainerStateError, match="the override is entered already"):
            override.__enter__()
        assert who() == "mail"


@pytest.mark.contract("IOC-075")
@pytest.mark.parametrize("entered", [True, False])
async def test_overrides_that_cross_are_told_and_leave_nothing_behind(container: Container, entered: bool) -> None:
    async with container if entered else AsyncExitStack():
        mine = Settings()
        first, second = container.override({Sender: Fake()}), container.override({Settings: mine})
        first.__enter__()
        second.__enter__()
        with pytest.raises(ContainerStateError, match=r"Sender ended before that of .*Settings"):
            first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        if entered:
            assert (who(), container.get(Settings) is mine) == ("mail", False)
    if not entered:
        async with container:
            assert (who(), container.get(Settings) is mine) == ("mail", False)
