"""What can go wrong, and how it is told.

    IoCError
    ├── DefinitionError      (TypeError)    a mark that cannot work; raised where it is written
    ├── InjectionError                      the report of every fault of a container
    ├── ScanError            (ImportError)  modules that could not be imported
    ├── NotProvided          (LookupError)  something was asked for that nothing provides
    ├── AsyncRequired        (RuntimeError) a synchronous caller asked for what only `await` can build
    ├── ScopeClosed          (RuntimeError) a scope was used before it began or after it ended
    ├── NoContainer          (RuntimeError) an injected function was called where no container is entered
    └── ContainerStateError  (RuntimeError) a container was changed after, or used before, it was entered

A `Fault` is one thing that is wrong with a definition: where it stands, why it is wrong, the path that leads to it
and the nearest good name. Definitions hand their faults to `report`, which raises at once unless the caller has a
`collecting()` open: then the fault joins that list, so that an application can show all of them together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_open_list: ContextVar[list[Fault] | None] = ContextVar("wintry.ioc.collecting", default=None)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a definition. `str()` draws it over several lines.

    `place` is a dotted name, `drawing` the lines of the path that leads to the fault (may be empty), `hint`
    a sentence that says what to do.
    """

    place: str
    reason: str
    drawing: tuple[str, ...] = ()
    hint: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.reason}", *(f"    {line}" for line in self.drawing)]
        if self.hint is not None:
            lines.append(f"  → {self.hint}")
        return "\n".join(lines)


class IoCError(Exception):
    """The base of every error of this library."""


class DefinitionError(IoCError, TypeError):
    """A mark was put on something that cannot be provided. `fault` says where and why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class InjectionError(IoCError):
    """Everything that is wrong with a container, in one report. `faults` holds them one by one.

    A fault of another library may be any object whose `str()` is the text to show.
    """

    def __init__(self, faults: Sequence[object]) -> None:
        super().__init__(draw(faults))
        self.faults = tuple(faults)


class ScanError(IoCError, ImportError):
    """Modules of a scanned package could not be imported; `faults` names each. All others were imported."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(draw(faults))
        self.faults = tuple(faults)


class NotProvided(IoCError, LookupError):
    """Something was asked for that nothing provides, or a context value that the scope was not given."""


class AsyncRequired(IoCError, RuntimeError):
    """What was asked for needs an `await` to be built; ask with `await scope.get(…)` or enter with `async with`."""


class ScopeClosed(IoCError, RuntimeError):
    """A scope was used before it was entered or after it ended."""


class NoContainer(IoCError, RuntimeError):
    """An injected function was called outside every scope and every entered container."""


class ContainerStateError(IoCError, RuntimeError):
    """A container was used before it was entered, or changed afterwards."""


def draw(faults: Sequence[object]) -> str:
    """The report: a count, then each fault numbered and indented."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    lines = [f"{count} found:"]
    for number, fault in enumerate(faults, 1):
        first, *rest = str(fault).splitlines() or [type(fault).__name__]
        lines.append(f"{number:>3}. {first}")
        lines.extend(f"     {line}" for line in rest)
    return "\n".join(lines)


@contextmanager
def collecting() -> Generator[list[Fault]]:
    """While open, faults of definitions join the yielded list instead of being raised.

    Only the current context is affected: other threads and tasks raise as before.
    """
    faults: list[Fault] = []
    token = _open_list.set(faults)
    try:
        yield faults
    finally:
        _open_list.reset(token)


def report(fault: Fault) -> None:
    """Hand over a fault of a definition: into the open list, else as `DefinitionError`."""
    faults = _open_list.get()
    if faults is None:
        raise DefinitionError(fault)
    faults.append(fault)
