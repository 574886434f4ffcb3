"""Stores operations on aggregates: from objects and change sets to few statements in an order that always fits.

All operations on one collection are one ordered batch: what goes, what changes, what comes. Each deleted or changed
aggregate is guarded by the version that is expected; where one of them did not match, nobody asks the batch which: the
transaction is ended, and the stored versions are read beside it. Where several updates of a collection touch unique
fields, their values are taken out of the way first, so that they may pass between aggregates.

How the change set of one aggregate becomes one update is told in `changes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError, WriteError

from wintry.models import FieldInfo, Model, info

from ..backend import Delete, Insert, Operation, Update
from ..errors import AlreadyExists, ConcurrentModification, StoreError
from .changes import graft, planned, touched
from .codec import ENCODERS
from .documents import ID, VERSION, Documents, decoded, encoded

if TYPE_CHECKING:
    from .backend import MongoBackend
    from .schema import Index
    from .session import MongoExecution

DUPLICATE = 11000
_int = ENCODERS[int]


@dataclass(slots=True)
class _Guard:
    """A statement that must find its document."""

    model: type[Model]
    id: Any
    expected: int


@dataclass(slots=True)
class _Batch:
    """The statements on one collection, with what each is about."""

    documents: Documents
    indexes: Sequence[Index]
    gone: list[DeleteOne] = field(default_factory=list)
    deletes: list[tuple[DeleteOne, Any]] = field(default_factory=list)
    updates: list[tuple[Update, dict[str, Any]]] = field(default_factory=list)
    inserts: list[tuple[dict[str, Any], Any]] = field(default_factory=list)
    guards: list[_Guard] = field(default_factory=list)
    rewritten: list[tuple[Any, str, FieldInfo, Any]] = field(default_factory=list)
    """What is set as a whole: the id, the place in its document, the field there, the value."""


class Flush:
    """One `write`: a batch for each collection, filled operation by operation."""

    def __init__(self, backend: MongoBackend, execution: MongoExecution) -> None:
        self._backend = backend
        self._execution = execution
        self._batches: dict[str, _Batch] = {}

    def add(self, operation: Operation) -> None:
        """Add `operation`. Raises `InvalidValue`, `SharedChild`, `DuplicateChild`."""
        match operation:
            case Insert(obj):
                about = info(type(obj))
                about.check(obj)
                batch = self._batch(type(obj))
                self._keep_apart(batch, obj)
                batch.inserts.append((batch.documents.encode(obj, 1), about.id_of(obj)))
            case Update(obj, changes, expected):
                changes.check()
                batch, id = self._batch(type(obj)), info(type(obj)).id_of(obj)
                if changes:
                    self._keep_apart(batch, obj)
                update, lists = planned(obj, changes)
                batch.updates.append((operation, update))
                batch.rewritten += [(id, dotted, each, update["$set"][dotted]) for dotted, each in lists.items()]
                batch.guards.append(_Guard(info(type(obj)).root, id, expected))
            case Delete(model, id, expected):
                batch = self._batch(model)
                if expected is None:
                    batch.gone.append(DeleteOne({ID: {"$eq": batch.documents.id(id)}}))
                else:
                    batch.deletes.append((DeleteOne(_guarded(batch.documents.id(id), expected)), id))
                    batch.guards.append(_Guard(model, id, expected))
            case _:
                assert_never(operation)

    def _batch(self, model: type[Model]) -> _Batch:
        documents = self._backend.documents(model)
        batch = self._batches.get(documents.name)
        if batch is None:
            batch = self._batches[documents.name] = _Batch(documents, self._backend.indexes(model))
        return batch

    @staticmethod
    def _keep_apart(batch: _Batch, obj: Model) -> None:
        """Two elements of one document may share what is unique, for all the index knows: refuse that here."""
        for index in batch.indexes:
            if index.unique and index.in_array:
                seen = set[Any]()
                for value in _values(obj, [each.name for each in index.path]):
                    if value in seen:
                        raise AlreadyExists(batch.documents.model, index.dotted, value)
                    seen.add(value)

    async def run(self) -> None:
        """Send everything. Raises `ConcurrentModification`, `AlreadyExists`."""
        self._execution.writing()
        # All of them are made before the first is sent: the objects may change while the store is waited for.
        made = [(batch, *self._requests(batch)) for batch in self._batches.values()]
        for batch, _, _ in made:
            if batch.rewritten:
                await self._graft(batch)
        for batch, requests, subjects in made:
            await self._send(batch, requests, subjects)

    async def _graft(self, batch: _Batch) -> None:
        """Keep what the stored documents have beyond the fields of Models in what is set as a whole."""
        documents = batch.documents
        keys = {repr(id): documents.id(id) for id, *_ in batch.rewritten}
        among = {ID: {"$in": list(keys.values())}}
        rows = await self._execution.find(documents.name, among, f"{documents.info.name} before a list is rewritten")
        stored = {repr(row[ID]): row for row in rows}
        for id, dotted, about, value in batch.rewritten:
            graft(about, _at(stored.get(repr(keys[repr(id)])), dotted), value)

    async def _send(self, batch: _Batch, requests: list[Any], subjects: list[Any]) -> None:
        execution, name = self._execution, batch.documents.name
        collection, comment = execution.collection(name), f"{batch.documents.info.name} flush"
        if batch.gone:
            await execution.run(lambda session: collection.bulk_write(batch.gone, session=session, comment=comment))
        if not requests:
            return
        guards = len(requests) - len(batch.inserts)

        def meaning(error: PyMongoError) -> Exception | None:
            return _taken(batch, subjects, error)

        # The usual cases, in which a batch costs more than what is in it.
        if len(requests) == len(batch.inserts) == 1:
            document, _ = batch.inserts[0]
            await execution.run(
                lambda session: collection.insert_one(document, session=session, comment=comment), meaning
            )
            held = 0
        elif len(requests) == len(batch.updates) == 1:
            update = _update(batch.documents, *batch.updates[0])
            done = await execution.run(
                lambda session: collection.update_one(*update, session=session, comment=comment), meaning
            )
            held = done.matched_count
        else:
            done = await execution.run(
                lambda session: collection.bulk_write(requests, ordered=True, session=session, comment=comment), meaning
            )
            held = done.matched_count + done.deleted_count
        if held < guards:
            error = await self._modified(batch)
            execution.abort(error)
            raise error
        execution.written.update((name, repr(id)) for id in subjects)

    def _requests(self, batch: _Batch) -> tuple[list[Any], list[Any]]:
        """What is sent, in order, and the ids that it is about."""
        released = self._released(batch)
        requests: list[Any] = [request for request, _ in (*batch.deletes, *released)]
        subjects: list[Any] = [id for _, id in (*batch.deletes, *released)]
        for update, changes in batch.updates:
            requests.append(UpdateOne(*_update(batch.documents, update, changes)))
            subjects.append(info(type(update.object)).id_of(update.object))
        requests += [InsertOne(document) for document, _ in batch.inserts]
        subjects += [id for _, id in batch.inserts]
        return requests, subjects

    def _released(self, batch: _Batch) -> list[tuple[UpdateOne, Any]]:
        """Where several updates touch unique fields: updates that take their values out of the way.

        The fields at the top that hold them are then written as a whole.
        """
        unique = [index for index in batch.indexes if index.unique]
        claims: list[tuple[int, set[str]]] = []
        for place, (update, _) in enumerate(batch.updates):
            tops = {index.path[0].name for index in unique if touched(update.changes, index.path)}
            if tops:
                claims.append((place, tops))
        if len(claims) < 2:
            return []
        found: list[tuple[UpdateOne, Any]] = []
        by_name = batch.documents.info.by_name
        for place, tops in claims:
            update, changes = batch.updates[place]
            id = info(type(update.object)).id_of(update.object)
            key = batch.documents.id(id)
            empty: dict[str, Any] = {name: [] if by_name[name].is_array else None for name in tops}
            found.append((UpdateOne(_guarded(key, update.expected), {"$set": empty}), id))
            whole = {name: encoded(by_name[name], getattr(update.object, name)) for name in tops}
            batch.updates[place] = (update, _replaced(changes, whole))
            batch.rewritten += [(id, name, by_name[name], value) for name, value in whole.items()]
        return found

    async def _modified(self, batch: _Batch) -> Exception:
        """The error for the guard that did not hold."""
        execution, documents = self._execution, batch.documents
        await execution.end()
        fresh = self._backend.execution(read_only=True, isolation="autocommit")
        for guard in batch.guards:
            if (documents.name, repr(guard.id)) in execution.written:
                continue
            found = await fresh.one(documents.name, {ID: {"$eq": documents.id(guard.id)}}, "the version that is stored")
            version = None if found is None else int(found.get(VERSION, 0))
            if version != guard.expected:
                return ConcurrentModification(guard.model, guard.id, guard.expected, version)
        first = batch.guards[0]
        return ConcurrentModification(first.model, first.id, first.expected, None)


def _at(document: Any, dotted: str) -> Any:
    """What stands at a place of a document; None where nothing does."""
    for part in dotted.split("."):
        if isinstance(document, list):
            document = document[int(part)] if int(part) < len(document) else None
        elif isinstance(document, dict):
            document = document.get(part)
        else:
            return None
    return document


def _guarded(key: Any, expected: int) -> dict[str, Any]:
    return {ID: {"$eq": key}, VERSION: {"$eq": _int(expected)}}


def _update(documents: Documents, update: Update, changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one statement for an aggregate: what it must find, and what it does."""
    key = documents.id(info(type(update.object)).id_of(update.object))
    sets = {**changes.get("$set", {}), VERSION: _int(update.becomes)}
    return _guarded(key, update.expected), {**changes, "$set": sets}


def _replaced(changes: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """`changes` with some fields at the top set as a whole."""
    kept = {
        operator: {path: value for path, value in fields.items() if path.partition(".")[0] not in whole}
        for operator, fields in changes.items()
    }
    kept["$set"] = {**kept.get("$set", {}), **whole}
    return {operator: fields for operator, fields in kept.items() if fields}


def _taken(batch: _Batch, subjects: Sequence[Any], error: PyMongoError) -> Exception | None:
    """The error for an id or a unique value that is taken; None where it is about something else."""
    if not isinstance(error, BulkWriteError | WriteError):
        return None
    details: Any = error.details or {}
    first: dict[str, Any] = (
        details if isinstance(error, WriteError) else next(iter(details.get("writeErrors") or ()), {})
    )
    if first.get("code") != DUPLICATE:
        return StoreError(f"{batch.documents.name}: {first.get('errmsg', error)}") if first else None
    (dotted,) = first["keyPattern"]
    model = batch.documents.model
    if dotted == ID:
        return AlreadyExists(model, ", ".join(batch.documents.info.identity_names), subjects[first.get("index", 0)])
    for index in batch.indexes:
        if index.dotted == dotted:
            return AlreadyExists(model, dotted, decoded(index.path[-1], first["keyValue"][dotted]))
    return StoreError(f"{batch.documents.name}: {dotted} must be unique: {first['keyValue']}")


def _values(obj: Any, names: Sequence[str]) -> Iterator[Any]:
    """The values at the end of a path that leads through lists."""
    if obj is None:
        return
    if not names:
        yield obj
        return
    value = getattr(obj, names[0])
    for item in value if isinstance(value, list | tuple) else (value,):
        yield from _values(item, names[1:])
