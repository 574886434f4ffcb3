"""What can go wrong, and how it is told.

    BusError
    ├── DefinitionError   (TypeError)     message or queue classes that cannot work; `faults` names each fault
    ├── SettingsError     (ValueError)    settings that no bus can run on; `faults` names each fault
    ├── NoHandler         (LookupError)   a command that nothing handles
    ├── NotInHandler      (RuntimeError)  something that is legal inside a handler of that bus only
    │   └── LateRegister                  a message registered after its handler had returned
    ├── HandleInsideUnit  (RuntimeError)  `handle` while the caller's own transaction is open
    ├── TwoStores         (RuntimeError)  one delivery wrote to two databases
    ├── HandlerTimeout    (TimeoutError)  a handler ran longer than its timeout; transient
    ├── CapabilityError   (RuntimeError)  a transport cannot do what a listener needs
    ├── Undecodable       (ValueError)    a body that does not fit its message's contract
    ├── UnknownDeadLetter (LookupError)   no dead letter has that id
    ├── LeaseLost         (RuntimeError)  another process has taken a delivery over
    ├── ResultUnknown                     a command was handled before, and its result is not stored; transient
    ├── AlreadyHandled                    the inbox shows that a delivery's effect is stored
    ├── Park                              raised by a handler: put this delivery among the dead letters
    └── Discard                           raised by a handler: this delivery is done, without effect

A `Fault` is one thing that is wrong with a definition. Classes hand theirs to `report`, which raises all of a class
at once unless the caller has a `collecting()` open: then they join that list, and the class stays importable.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from traceback import format_exception

_open_list: ContextVar[list[Fault] | None] = ContextVar("wintry.bus.collecting", default=None)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a definition: the dotted name where it stands, the reason, and what to do about it."""

    place: str
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.hint is None else f"{self.place}: {self.reason}: {self.hint}"


class BusError(Exception):
    """The base of every error of this library."""


class DefinitionError(BusError, TypeError):
    """A message or queue class cannot work. `faults` holds every reason, `str()` shows them line by line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class SettingsError(BusError, ValueError):
    """Settings that no bus can run on. `faults` holds every reason, `str()` shows them line by line."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class NoHandler(BusError, LookupError):
    """A command was handled or registered on a queue that has no handler for it."""


class NotInHandler(BusError, RuntimeError):
    """`register` or `current` was called where no handler of that bus runs."""


class LateRegister(NotInHandler):
    """`register` was called by something that outlived its handler, a task for example."""


class HandleInsideUnit(BusError, RuntimeError):
    """`handle` was called while a transaction of the calling task is open: waiting for its end would hang."""


class TwoStores(BusError, RuntimeError):
    """One delivery wrote to two databases, which no single transaction covers: make it two handlers."""


class HandlerTimeout(BusError, TimeoutError):
    """A handler ran longer than its timeout. Transient: the delivery is tried again."""

    retryable = True


class CapabilityError(BusError, RuntimeError):
    """A transport was asked for something that it cannot do."""


class Undecodable(BusError, ValueError):
    """A stored or received body does not fit the contract of its message."""


class UnknownDeadLetter(BusError, LookupError):
    """No dead letter has the id that was given; it may have been redriven or discarded meanwhile."""


class LeaseLost(BusError, RuntimeError):
    """The lease of a delivery ended and another process took it over: nothing of this attempt may be stored."""


class ResultUnknown(BusError):
    """A delivery came again, and the result of a command that it handled the first time is not stored.

    The command's effect is. Transient: whoever handles the same delivery at this moment may be about to store it.
    """

    retryable = True


class AlreadyHandled(BusError):
    """The inbox holds the record of this delivery: its effect is stored, and it must not be made again."""


class Park(BusError):
    """Raised by a handler: give up on this delivery and keep it among the dead letters with this reason."""


class Discard(BusError):
    """Raised by a handler: this delivery needs nothing; what it did is undone and it counts as done."""


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


def report(faults: Sequence[Fault]) -> None:
    """Hand over the faults of one class: into the open list, else all at once as `DefinitionError`."""
    if not faults:
        return
    collected = _open_list.get()
    if collected is None:
        raise DefinitionError(faults)
    collected.extend(faults)


def reason_of(error: BaseException) -> str:
    """Why a message is given up, for a person to read."""
    return storable(str(error) if isinstance(error, Park) else "".join(format_exception(error)))


def storable(text: str) -> str:
    """Text that every store takes: what is said of NUL and surrogates stands for them."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def nearest(name: str, good: Sequence[str]) -> str | None:
    """A hint: the name most like `name`, or all there are if none is like it."""
    close = get_close_matches(name, good, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(map(repr, good))}" if good else None
