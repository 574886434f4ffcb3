"""A unit's session on one backend: what repositories talk to while the unit runs.

It owns the unit's transaction there (an `Execution`, begun by its first statement), the identity map of that backend,
and the flush. Before a query it stores only what changed of the roots that the query reads. What the unit may do at
all, and from which task, it asks the unit at each step that reaches the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wintry.models import info
from wintry.models.tracking import diff
from wintry.repository.backend import LOCKED, UNKNOWN, Backend, Execution, Missing, Operation
from wintry.repository.cancellation import to_its_end
from wintry.repository.errors import AlreadyExists, ConcurrentModification, UnitTimeout

from .errors import ForeignObject
from .flush import collect, settle
from .identity import IdentityMap, held_elsewhere, named
from .locks import Held
from .versions import Sought

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import Snapshot

    from .unit import Unit

log = logging.getLogger("wintry.uow")


class UnitSession:
    """One unit on one backend; implements `wintry.repository.backend.Session`."""

    __slots__ = (
        "_unit",
        "backend",
        "execution",
        "held",
        "map",
        "operations",
        "sought",
        "statements",
        "tracking",
        "written",
    )

    def __init__(self, unit: Unit, backend: Backend, *, tracking: bool) -> None:
        self._unit = unit
        self.backend = backend
        self.tracking = tracking
        self.execution: Execution | None = None
        self.held = Held(backend)
        self.map = IdentityMap()
        self.sought = Sought()
        self.operations: list[Operation] = []
        self.statements = 0  # set-based ones of this transaction, which leave no operation
        self.written = False

    # What repositories call.

    async def begin(self) -> Execution:
        """The unit's transaction on this backend. Raises the errors of misuse, and `UnitAborted`."""
        self._unit.check()
        return self.open()

    async def before_read(self, models: frozenset[type[Model]]) -> None:
        """Store what changed of `models`, so that the query sees it."""
        if self.tracking and self._unit.options.flush == "query":
            self._unit.check()
            await self.flush(models)

    def known(self, model: type[Model], id: Any) -> Model | Missing:
        """What the unit holds of an id, without asking the store."""
        self._unit.check()
        return self.map.known(model, id) if self.tracking else UNKNOWN

    def loaded(self, object: Model, version: int, snapshot: Snapshot) -> Model | None:
        """The object to hand out for a row that was loaded as `object`."""
        return self.map.meet(object, version, snapshot)

    async def lock(self, model: type[Model], ids: Sequence[Any]) -> None:
        """Wait for a turn with these aggregates, and begin the transaction that has them for itself."""
        self._unit.check()
        root = info(model).root
        places = [(root, id) for id in dict.fromkeys(ids)]
        if self.held and all(place in self.held for place in places):
            return
        self._unit.claim_lock(f"{model.__name__} {', '.join(map(repr, ids))}")
        self.claim()
        execution = self.open(LOCKED)
        try:
            async with asyncio.timeout(self._unit.options.timeout):
                await self.held.take(places)
        except TimeoutError as error:
            late = UnitTimeout(f"{model.__name__}: no turn within the {self._unit.options.timeout:g} s of the unit")
            self._unit.abort("its time was over", late)
            raise late from error
        except BaseException:
            self.execution = None  # nothing has begun: the caller may try once more
            raise
        await self.backend.lock(execution, model, ids)

    def missed(self, model: type[Model], sought: Any) -> None:
        """The unit acts on the absence of `sought` from now on."""
        self.sought.miss(model, sought)

    def version(self, object: Model) -> int | None:
        """The version of an object that the unit holds, None for others and for one that is not stored yet."""
        entry = self.map.entry(object)
        return None if entry is None or entry.new else entry.version

    def added(self, object: Model) -> None:
        """Track a new object; it is stored at the next flush, as it is then."""
        self._unit.check()
        self.claim()
        if held_elsewhere(object, self.map):
            raise ForeignObject(f"{named(object)} belongs to another running unit: create a copy")
        if self.map.add(object) is None:
            described = info(type(object))
            field = ", ".join(field.name for field in described.identity)
            raise AlreadyExists(described.root, field, described.id_of(object))

    def removed(self, object: Model) -> None:
        """Delete an object that the unit holds."""
        self._unit.check()
        entry = self.map.entry(object)
        if entry is None:
            raise ForeignObject(f"this unit does not hold {named(object)}: load it in this unit to delete it")
        self.claim()
        self.map.remove(entry)

    def guard(self, object: Model, stored: Model) -> None:
        """Refuse `object` where it was loaded outside of this unit, and its row has moved other than by this unit."""
        if not self.tracking:
            self.claim()  # which refuses it
        entry, version = self.map.entry(stored), self.backend.remembered.version(object)
        if entry is not None and version is not None and version not in (entry.loaded, entry.version):
            raise ConcurrentModification(type(object), entry.id, version, entry.version)

    def merge(self, object: Model, stored: Model) -> None:
        """Put what changed in `object`, which this unit does not track, into `stored`, which it does."""
        self.guard(object, stored)
        entry, outside = self.map.entry(stored), self.backend.remembered.get(object)
        if entry is None or outside is None:
            diff(stored, object).apply_to(stored)
        else:
            entry.merge(object, *outside)

    def writes(self) -> None:
        """A set-based statement is about to run here."""
        self.claim()

    def evict(self, model: type[Model]) -> None:
        """A set-based statement has run: rows of `model` are read again before they count."""
        self.statements += 1
        self.map.evict(model)

    # What the unit calls.

    def open(self, isolation: str | None = None) -> Execution:
        """The execution of this transaction, made at the first call; `isolation` in place of the unit's."""
        if self.execution is None:
            options = self._unit.options
            self.execution = self.backend.execution(
                read_only=not self.tracking, isolation=isolation or options.isolation, timeout=options.timeout
            )
        return self.execution

    def claim(self) -> None:
        """Ask the unit before the first write of a transaction."""
        if not self.written:
            self._unit.claim_write(self.backend)
            self.written = True

    async def flush(self, models: frozenset[type[Model]] | None = None) -> None:
        """Store what changed, of the roots of `models` or of all; an error of the store aborts the unit."""
        changes = collect(self.map, models)
        if not changes:
            return
        self.claim()
        operations = [change.operation for change in changes]
        try:
            await self.backend.write(self.open(), operations)
        except BaseException as error:
            self._refused(error)
            raise
        settle(self.map, changes)
        self.operations += operations

    def pending(self) -> list[Operation]:
        """What the next flush would store."""
        return [change.operation for change in collect(self.map)]

    async def commit(self) -> None:
        """Make the transaction durable, if one was opened."""
        if self.execution is not None:
            try:
                await self.execution.commit()
            except BaseException as error:
                self._refused(error)
                raise

    async def rollback(self) -> None:
        """Undo the transaction, give the connection back, and let go of all objects.

        A store that fails at it has closed the transaction anyway: that is logged.
        """
        execution = self.execution
        self.map.clear()
        self.turn()
        self.written = False
        try:
            if execution is not None:
                await self._close(execution)
        finally:
            self.held.release()

    async def _close(self, execution: Execution) -> None:
        try:
            await execution.close()
        except asyncio.CancelledError:
            await to_its_end(execution.close())
            raise
        except Exception:
            log.exception("A rollback on the backend %r failed", self.backend.name)

    def turn(self) -> None:
        """A transaction ended: the next one knows nothing of what it stored or missed."""
        self.execution = None
        self.map.turn()
        self.sought.clear()
        self.operations = []
        self.statements = 0

    def _refused(self, error: BaseException) -> None:
        """Abort the unit by `error`, or by the conflict that it means here, which is raised in its place."""
        conflict = self.sought.judge(error) if isinstance(error, AlreadyExists) else None
        self._unit.abort("the store refused what it was to store", conflict or error)
        if conflict is not None:
            raise conflict from error
