"""Faults of definitions: found when the class is made, all in one report, each with its place and what to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from wintry.bus import (
    Command,
    DefinitionError,
    Event,
    MessageQueue,
    Runtime,
    collecting,
    command_handler,
    event_handler,
)
from wintry.bus.component import BusComponent


class Go(Command):
    x: int = 0


class Went(Event):
    x: int = 0


@pytest.mark.contract("BUS-030")
def test_all_faults_of_a_class_come_in_one_report() -> None:
    with pytest.raises(DefinitionError) as caught:

        class Wrong(MessageQueue):
            @command_handler
            async def one(self, command: Go) -> None: ...
            @command_handler
            async def two(self, command: Go) -> None: ...
            @command_handler
            async def bare(self, command) -> None: ...  # type: ignore[no-untyped-def]  # the fault
            @event_handler
            async def nothing(self) -> None: ...  # type: ignore[type-var]  # the fault
            @event_handler
            async def more(self, event: Went, extra: int) -> None: ...  # type: ignore[type-var]  # the fault
            @event_handler
            async def crossed(self, event: Go) -> None: ...
            @event_handler
            async def no_message(self, event: int) -> None: ...
            @event_handler(id="one")
            async def same_id(self, event: Went) -> None: ...
            @event_handler
            async def generator(self, event: Went):  # type: ignore[no-untyped-def]  # the fault
                yield

    text = str(caught.value)
    assert len(caught.value.faults) == 8
    for name, reason in {
        "two": "Go is handled by 'one' already: a command has exactly one handler",
        "bare": "the parameter 'command' has no annotation",
        "nothing": "it takes no event",
        "more": "unknown parameter 'extra'",
        "crossed": "Go is not an event: mark it with command_handler",
        "no_message": "<class 'int'> is not a message",
        "same_id": "the id 'Wrong.one' is that of 'one' already",
        "generator": "it is a generator",
    }.items():
        assert f"Wrong.{name}: {reason}" in text


@pytest.mark.contract("BUS-031")
def test_while_collecting_classes_stay_importable_and_unusable() -> None:
    with collecting() as faults:

        class Wrong(MessageQueue):
            @command_handler
            async def one(self, command: Go) -> None: ...
            @command_handler
            async def two(self, command: Go) -> None: ...

        class Keyed(Event, key="skuu"):
            sku: str

    assert [fault.place.rpartition(".")[2] for fault in faults] == ["two", "Keyed"]
    assert faults[1].hint == "did you mean 'sku'?"
    assert str(faults[1]).endswith("key='skuu' is not one of its fields: did you mean 'sku'?")
    with pytest.raises(DefinitionError, match="handled by 'one' already"):
        Runtime().add(Wrong)


@pytest.mark.contract("BUS-030")
def test_faults_of_messages() -> None:
    with pytest.raises(DefinitionError, match="key='nope' is not one of its fields"):

        class Keyed(Event, key="nope"):
            sku: str

    with pytest.raises(DefinitionError) as caught:

        class Versioned(Event, version=0, alias=" "):
            sku: str

    assert len(caught.value.faults) == 2


@pytest.mark.contract("BUS-032")
def test_an_annotation_that_does_not_exist_yet_is_looked_up_at_first_use() -> None:
    class Early(MessageQueue):
        @command_handler
        async def go(self, command: Later) -> None: ...

    Runtime().add(Early)

    class Never(MessageQueue):
        @command_handler
        async def go(self, command: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # the fault

    with pytest.raises(DefinitionError, match=r"Never\.go: its annotation 'Nowhere' names nothing that exists"):
        Runtime().add(Never)


class Later(Command):
    pass


@pytest.mark.contract("BUS-032")
def test_messages_of_the_enclosing_function_are_found() -> None:
    class Inner(Command):
        pass

    class Local(MessageQueue):
        @command_handler
        async def go(self, command: Inner) -> None: ...

    assert Inner in Runtime().add(Local).commands


@pytest.mark.contract("BUS-033")
def test_two_messages_of_one_alias_are_a_fault() -> None:
    class Renamed(Event, alias="Went"):
        pass

    with pytest.raises(DefinitionError, match="the alias 'Went' is that of .*Went and .*Renamed"):

        class Clash(MessageQueue):
            @event_handler
            async def one(self, event: Went) -> None: ...
            @event_handler
            async def two(self, event: Renamed) -> None: ...


@pytest.mark.contract("BUS-033")
def test_two_queues_of_one_name_are_a_fault_of_the_runtime() -> None:
    def make() -> type[MessageQueue]:
        class Twin(MessageQueue):
            @command_handler
            async def go(self, command: Go) -> None: ...

        return Twin

    first, second = make(), make()
    (fault,) = BusComponent().faults(SimpleNamespace(subclasses=lambda base: [first, second]))
    assert "another queue is called Twin too" in str(fault)
    runtime = Runtime()
    runtime.add(make())
    with pytest.raises(DefinitionError, match="another queue is called Twin too"):
        runtime.add(make())
