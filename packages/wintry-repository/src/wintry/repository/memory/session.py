"""One transaction in memory.

It begins at its first statement by taking a reference to the committed tables; the first write to a table forks it.
After a failed statement nothing more runs but a rollback, as on a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import StoreError, UnitAborted
from .store import Store, Stored, Table, Touched

if TYPE_CHECKING:
    from wintry.models import Model


class MemoryExecution:
    """A transaction over the tables of `store`."""

    def __init__(self, store: Store, *, read_only: bool = False) -> None:
        self.store = store
        self.read_only = read_only
        self._base: Mapping[type[Model], Table] | None = None
        self._forks: dict[type[Model], Table] = {}
        self._touched: Touched = {}
        self._closed = False
        self._failure: Exception | None = None

    @property
    def begun(self) -> bool:
        """Whether the first statement has fixed what it sees."""
        return self._base is not None

    def view(self, model: type[Model]) -> Table:
        """The rows of `model` as this transaction sees them. Raises `UnitAborted`, `StoreError` after its end."""
        if self._closed:
            raise StoreError("this transaction is over")
        if self._failure is not None:
            raise UnitAborted(f"nothing more can run after a failed statement: {self._failure}") from self._failure
        if self._base is None:
            self._base = self.store.tables
        table = self._forks.get(model) or self._base.get(model)
        return Table(model) if table is None else table

    def put(self, model: type[Model], id: Any, stored: Stored) -> None:
        """Write a row. Raises `AlreadyExists` for a unique value that is taken."""
        self._writable(model, id).put(id, stored)

    def vacate(self, model: type[Model], id: Any) -> None:
        """Let other rows have the unique values of one that is about to be written."""
        self._writable(model, id).vacate(id)

    def remove(self, model: type[Model], id: Any) -> None:
        """Remove a row."""
        self._writable(model, id).remove(id)

    def fail(self, failure: Exception) -> None:
        """A statement failed: only a rollback is possible now."""
        self._failure = failure

    async def commit(self) -> None:
        """Make the writes the committed state. Raises `ConcurrentModification`, `AlreadyExists`, `UnitAborted`."""
        if self._closed:
            raise StoreError("this transaction is over")
        if self._failure is not None:
            raise UnitAborted(f"cannot commit after a failed statement: {self._failure}") from self._failure
        self._closed = True
        if self._forks:
            self.store.commit(self._base or {}, self._forks, self._touched)

    async def rollback(self) -> None:
        """Forget the writes and close."""
        self._closed = True
        self._forks = {}

    async def close(self) -> None:
        """Roll back what was not committed."""
        await self.rollback()

    def _writable(self, model: type[Model], id: Any) -> Table:
        if self.read_only:
            raise StoreError("this transaction may only read")
        fork = self._forks.get(model)
        if fork is None:
            fork = self._forks[model] = self.view(model).fork()
        self._touched.setdefault(model, {})[id] = None
        return fork
