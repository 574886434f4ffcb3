"""`memory://`: a backend without a server.

The URL may carry a name, `memory://views`, to tell two stores of one application apart. What is stored lives as long as
the backend object, also when it is closed and opened again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wintry.models import info

from ..backend import LOCKED, Operation, Options, refuse_subclass
from ..errors import ConfigurationError, DefinitionError, Unsupported
from ..remembered import Remembered
from .compile import MemoryQuery
from .load import hydrate, key_of
from .session import MemoryExecution
from .store import Store
from .write import write

if TYPE_CHECKING:
    from wintry.models import Model

    from ..plan import QueryPlan


class MemoryBackend:
    """Tables in this process, with snapshots and version conflicts like the others."""

    kind = "memory"

    def __init__(self, name: str) -> None:
        self.name = name
        self.store = Store()
        self.remembered = Remembered()

    def __repr__(self) -> str:
        return f"<MemoryBackend {self.name!r}>"

    def bind(self, model: type[Model]) -> None:
        """Any Model with an identity of its own can be stored. Raises `DefinitionError`, `Unsupported`."""
        if not info(model).is_entity:
            raise DefinitionError(model.__qualname__, "has no identity, and cannot be found again")
        refuse_subclass(model)

    def compile(self, plan: QueryPlan) -> MemoryQuery:
        """The plan as a function over rows."""
        return MemoryQuery(plan)

    def execution(
        self, *, read_only: bool = False, isolation: str | None = None, timeout: float | None = None
    ) -> MemoryExecution:
        """A transaction that sees one snapshot; nothing in it waits, so that `timeout` never ends it."""
        if isolation not in (None, "snapshot", "autocommit", LOCKED):
            raise Unsupported(f"backend '{self.name}'", f"a memory store isolates by snapshot, not by {isolation!r}")
        return MemoryExecution(self.store, read_only=read_only)

    async def lock(self, execution: MemoryExecution, model: type[Model], ids: Sequence[Any]) -> None:
        """Whoever shares this memory waits in the unit's own line."""

    async def load(
        self, execution: MemoryExecution, model: type[Model], ids: Sequence[Any]
    ) -> Sequence[tuple[Model, int]]:
        """The aggregates of these ids."""
        rows = execution.view(model).rows
        found = [rows[key] for key in map(key_of, ids) if key in rows]
        return [(hydrate(model, stored.row), stored.version) for stored in found]

    async def write(self, execution: MemoryExecution, operations: Sequence[Operation]) -> None:
        """Store the operations."""
        write(execution, operations)

    async def create_schema(self) -> None:
        """Rows need no tables."""

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """There is nothing to disconnect."""

    async def check(self) -> None:
        """Memory is always there."""


def open_backend(name: str, url: str, options: Options) -> MemoryBackend:
    """The factory of `memory://`. Raises `ConfigurationError` for an option, since there is none."""
    if options:
        raise ConfigurationError(f"backend '{name}': memory:// has no options, but got {', '.join(options)}")
    return MemoryBackend(name)
