"""What takes part in a unit's commit and rollback from outside.

A hook is given to the units that are entered inside `use_hooks`, in this task or in tasks started there; the context
variable holds a tuple, so that two contexts never share a list. `before_commit` may still read, write and refuse;
what comes after a commit or a rollback cannot change it, so an error there is logged and not raised: a caller who saw
it would run a unit again that is already stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from wintry.repository.cancellation import held_off

if TYPE_CHECKING:
    from wintry.repository.backend import Operation

    from .unit import Unit

log = logging.getLogger("wintry.uow")

_hooks: ContextVar[tuple[UnitHook, ...]] = ContextVar("wintry.uow.hooks", default=())


class UnitHook(Protocol):
    """A participant of units of work. A class that inherits from it overrides what it needs."""

    async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
        """All changes are stored, and the transaction is still open; raising rolls it back.

        `changes` is what the unit has stored since it began or last committed. Objects edited here are stored too, and
        `unit.execution(backend)` runs statements of the hook in the same transaction.
        """

    async def after_commit(self, unit: Unit) -> None:
        """The transaction is durable. An error is logged."""

    async def after_rollback(self, unit: Unit) -> None:
        """The transaction was rolled back, whatever the reason. An error is logged."""


@contextmanager
def use_hooks(*hooks: UnitHook) -> Iterator[None]:
    """Give `hooks` to every unit that is entered inside, after those that are given already."""
    token = _hooks.set((*_hooks.get(), *hooks))
    try:
        yield
    finally:
        _hooks.reset(token)


def hooks_in_use() -> tuple[UnitHook, ...]:
    """The hooks of this context."""
    return _hooks.get()


async def tell(steps: Sequence[Callable[[Unit], Awaitable[None]]], unit: Unit) -> None:
    """Take each step; an error in one is logged and keeps no other from running.

    A cancellation that comes meanwhile ends the step that it meets, and is raised when all were taken; so is one that a
    commit has put off, which meets none.
    """
    cancelled = await held_off()
    for step in steps:
        try:
            await step(unit)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            log.exception("A hook failed after its unit of work had ended: %r", step)
    if cancelled:
        raise asyncio.CancelledError
