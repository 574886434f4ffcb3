"""The session of a call outside any unit of work: one transaction, and nothing tracked beyond it.

A repository asks the same of this session as of a unit's. Here writes are kept until `finish`, which stores them in one
transaction and commits it; a call that reads needs no transaction, since its one statement is consistent by itself.
What a later `update` of a loaded object must know, its version and what it looked like, is remembered by the backend
beside the object (`remembered`); of what is written, once the commit has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from wintry.models import info
from wintry.models.tracking import Snapshot, snapshot

from .backend import UNKNOWN, Backend, Delete, Execution, Insert, Missing, Operation, Update
from .cancellation import raise_put_off
from .errors import RepositoryError

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import ChangeSet


class OneCall:
    """The session of a call outside any unit: a transaction of its own, committed by `finish`.

    Used with `async with`, which rolls back what was not finished. It has no identity map; what it loads and writes is
    remembered beside the objects, as they are when it is told of them: they may change while it waits for the store.
    """

    __slots__ = ("_execution", "_known", "_operations", "_read_only", "_removed", "_timeout", "backend", "tracking")

    def __init__(self, backend: Backend, *, read_only: bool = False, timeout: float | None = None) -> None:
        self.backend = backend
        self.tracking = True
        self._read_only = read_only
        self._timeout = timeout
        self._execution: Execution | None = None
        self._operations: list[Operation] = []
        self._known: list[tuple[Model, int, Snapshot]] = []
        self._removed: list[Model] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._execution is not None:
            await self._execution.close()

    async def begin(self) -> Execution:
        """The call's transaction."""
        if self._execution is None:
            # A call that reads makes one statement that is consistent by itself.
            isolation = "autocommit" if self._read_only else None
            self._execution = self.backend.execution(
                read_only=self._read_only, isolation=isolation, timeout=self._timeout
            )
        return self._execution

    async def before_read(self, models: frozenset[type[Model]]) -> None:
        """Nothing is waiting to be stored."""

    def known(self, model: type[Model], id: Any) -> Missing:
        """Nothing is known: there is no identity map outside a unit."""
        return UNKNOWN

    def loaded(self, object: Model, version: int, snapshot: Snapshot) -> Model:
        """Remember what `update` will need, and hand out the object as it is."""
        self.backend.remembered.put(object, version, snapshot)
        return object

    async def lock(self, model: type[Model], ids: Sequence[Any]) -> None:
        """Raises `RepositoryError`: nothing follows in this transaction that a lock could guard."""
        raise RepositoryError("a lock lasts as long as a unit of work, and this is a single call")

    def missed(self, model: type[Model], sought: Any) -> None:
        """Of no interest: nothing follows in this transaction."""

    def version(self, object: Model) -> int | None:
        """The version that `object` was last loaded or written at."""
        return self.backend.remembered.version(object)

    def added(self, object: Model) -> None:
        """`object` is inserted by `finish`."""
        self._operations.append(Insert(object))
        self._known.append((object, 1, snapshot(object)))

    def changed(self, object: Model, changes: ChangeSet, expected: int) -> None:
        """`changes` of `object` are stored by `finish`."""
        update = Update(object, changes, expected)
        self._operations.append(update)
        self._known.append((object, update.becomes, snapshot(object)))

    def removed(self, object: Model) -> None:
        """`object` is deleted by `finish`, guarded by its version where that is known."""
        model = type(object)
        self._operations.append(Delete(model, info(model).id_of(object), self.version(object)))
        self._removed.append(object)

    def guard(self, object: Model, stored: Model) -> None:
        """Raises `RepositoryError`: nothing is tracked here."""
        raise RepositoryError("a single call tracks nothing that another object could speak for")

    def merge(self, object: Model, stored: Model) -> None:
        """Raises `RepositoryError`: nothing is tracked here."""
        self.guard(object, stored)

    def writes(self) -> None:
        """The call may write."""

    def evict(self, model: type[Model]) -> None:
        """There is no identity map to empty."""

    async def finish(self) -> None:
        """Write what was added, changed and removed, commit, and remember the new versions."""
        if self._operations:
            await self.backend.write(await self.begin(), self._operations)
        if self._execution is not None:
            await self._execution.commit()
        self._remember()
        await raise_put_off()

    def _remember(self) -> None:
        remembered = self.backend.remembered
        for object, version, state in self._known:
            remembered.put(object, version, state)
        for object in self._removed:
            remembered.forget(object)
