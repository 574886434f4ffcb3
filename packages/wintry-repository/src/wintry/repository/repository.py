"""`Repository`: the class hook, and what every repository can do without a query.

The hook hands the class to `Definition`, which compiles its marked methods. An instance joins a class to a backend of a
`Backends`: it binds the Model there and holds the compiled queries. It holds nothing of any call, so that one instance
serves every task: which session a call belongs to is asked at each call (`joined`). A unit of work hands out clones
that are bound to its session.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, cast

from typing_extensions import TypeVar, dataclass_transform

from wintry.models import Model, info
from wintry.models.tracking import diff, snapshot

from .backend import DELETED, UNKNOWN, Session, resource, running
from .calls import Call, fetch, handed_out, locking
from .connections import Backends  # a container reads this hint at run time
from .definition import COUNT, DELETE_ALL, DELETE_BY_ID, EXISTS, FIND, Definition, entity_of
from .errors import (
    ConcurrentModification,
    DefinitionError,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    RepositoryError,
    Unsupported,
    report,
)
from .language import arguments
from .one_call import OneCall

if TYPE_CHECKING:
    from wintry.models.tracking import ChangeSet

    from .backend import Backend, CompiledQuery

T = TypeVar("T", default=Any)
Id = TypeVar("Id", default=Any)


@dataclass_transform(kw_only_default=False)
class _Fields:
    """Makes type checkers read the annotations of its subclasses as parameters of a constructor."""


class Connected(_Fields):
    """The constructor of every repository, `(backends)`, where type checkers look for it.

    A decorator that makes constructors, such as a container's `provider`, would hide that of `Repository` from them.
    """

    backends: Backends


class Repository(Connected, Generic[T, Id]):
    """A collection of the aggregates of one Model.

    A subclass names its Model with `entity=` (or as the first argument of `Repository[…]`) and its backend with
    `for_backend=`; its methods marked `@query` are compiled from their names. Raises `DefinitionError` for all that is
    wrong with the class at once.

    Every method joins the unit of work that runs in the calling task, if it covers the backend; outside one, each call
    is a transaction of its own. All of them raise `Unreachable` and the other errors of the store.
    """

    model: ClassVar[type[Model]]
    backend_name: ClassVar[str] = "default"
    _definition: ClassVar[Definition | None] = None

    def __init_subclass__(
        cls, *, entity: type[Model] | None = None, for_backend: str | None = None, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        if for_backend is not None:
            cls.backend_name = for_backend
        try:
            model = entity_of(cls, entity) or (cls._definition.model if cls._definition else None)
        except DefinitionError as fault:
            report(fault.place, [fault])
            cls._definition = None
            return
        if model is not None:
            cls.model = model
            cls._definition = Definition(cls, model, cls.backend_name, sys._getframe(1).f_locals)
            cls._definition.define()

    def __init__(self, backends: Backends) -> None:
        definition, self.backend = self._connected(backends)
        self.backends = backends
        self.queries: Sequence[CompiledQuery] = definition.queries(self.backend)
        self.bound_session: Session | None = None
        self._calls: Sequence[Call] = definition.calls

    @classmethod
    def connect(cls, backends: Backends) -> None:
        """Say that there will be repositories of this class: the tables of its Model belong to the schema.

        Making a repository says the same. Raises `DefinitionError` for a class with faults, `ConfigurationError` for
        the name of its backend, `Unsupported` for what that backend cannot do.
        """
        definition, backend = cls._connected(backends)
        definition.queries(backend)

    @classmethod
    def _connected(cls, backends: Backends) -> tuple[Definition, Backend]:
        definition = cls._definition
        if definition is None:
            name = cls.__qualname__
            raise DefinitionError(name, "has no Model", f"write class {name}(Repository, entity=…)")
        definition.usable()
        return definition, backends.bind(definition.model, definition.backend_name, cls.__qualname__)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} of {self.model.__name__} on {self.backend_name!r}>"

    def bind(self, session: Session) -> Self:
        """A clone whose calls belong to `session`."""
        clone = copy.copy(self)
        clone.bound_session = session
        return clone

    def joined(self) -> Session | None:
        """The session that a call made now would belong to; None outside any unit."""
        session = self.bound_session
        return session if session is not None else running(self.backend)

    # Reading

    async def get(self, id: Id, *, lock: bool = False) -> T | None:
        """The aggregate of this id (a tuple for a composite one), or None.

        With `lock` nobody else who locks it can have it until the unit ends: those who come at the same time wait for
        their turn, in place of being refused when they store. It must be the first call of a unit. Raises `LockTooLate`
        where it is not, and `RepositoryError` outside a unit.
        """
        key = self._key(id)
        if self.backends.unready:
            await self.backends.ready(self.backend)
        session = self.joined()
        if lock:
            await locking(session, f"{type(self).__qualname__}.get(lock=True)").lock(self.model, (key,))
        if session is not None:
            return cast("T | None", await fetch(session, self.model, key))
        async with OneCall(self.backend, read_only=True) as call:
            return cast("T | None", await fetch(call, self.model, key))

    async def get_by_id(self, *, id: Id) -> T | None:
        """The aggregate of this id, or None."""
        return await self.get(id)

    async def one(self, id: Id, *, lock: bool = False) -> T:
        """The aggregate of this id; `lock` as in `get`. Raises `NotFound`."""
        found = await self.get(id, lock=lock)
        if found is None:
            raise self._not_found(id)
        return found

    async def find(self) -> list[T]:
        """All aggregates, by id."""
        return cast("list[T]", await self._call(FIND))

    async def find_many(self, ids: Iterable[Id]) -> list[T]:
        """The aggregates of these ids, in this order; ids that are not there are left out."""
        keys = [self._key(id) for id in ids]
        if self.backends.unready:
            await self.backends.ready(self.backend)
        session = self.joined()
        if session is not None:
            return await self._many(session, keys)
        async with OneCall(self.backend, read_only=True) as call:
            return await self._many(call, keys)

    async def exists(self, id: Id) -> bool:
        """Whether an aggregate of this id is there."""
        key = self._key(id)
        session = self.joined()
        known = None if session is None else session.known(self.model, key)
        if isinstance(known, Model) or known is DELETED:
            return known is not DELETED
        return cast("bool", await self._call(EXISTS, self._values(key)))

    async def count(self) -> int:
        """How many aggregates there are."""
        return cast("int", await self._call(COUNT))

    # Writing

    async def create(self, *, entity: T) -> T:
        """Store a new aggregate, and give it back. Raises `AlreadyExists`, `InvalidValue`.

        Inside a unit it is stored with the unit's other changes, and later edits of it are stored too.
        """
        await self._create([entity])
        return entity

    async def create_many(self, *, entities: Iterable[T]) -> list[T]:
        """Store new aggregates in one transaction, and give them back. Raises `AlreadyExists`, `InvalidValue`."""
        created = list(entities)
        await self._create(created)
        return created

    async def update(self, *, entity: T, expected_version: int | None = None) -> T:
        """Store what changed in `entity`, and give back the object that stands for it now.

        Of an object that was loaded or stored through a repository, what changed since then is written if nobody else
        changed it: else `ConcurrentModification`, also where nothing is to be written. Any other is compared with what
        is stored. Inside a unit the changes are stored with the unit. Raises `NotFound`, `PreconditionFailed` for
        another version than `expected_version`, `InvalidValue`.
        """
        stored, _ = await self._put(entity, expected_version, create=False)
        return stored

    async def upsert(self, *, entity: T) -> bool:
        """Create the aggregate, or replace the whole of what is stored now; True where it was created."""
        _, created = await self._put(entity, None, create=True)
        return created

    async def delete(self, *, entity: T) -> None:
        """Delete the aggregate with all its children.

        Raises `NotFound`; `ConcurrentModification` where it was loaded and has changed since.
        """
        object = self._own(entity)
        key = info(self.model).id_of(object)
        if self.backends.unready:
            await self.backends.ready(self.backend)
        session = self.joined()
        if session is not None:
            stored = await fetch(session, self.model, key)
            if stored is None:
                raise self._not_found(key)
            if stored is not object:
                session.guard(object, stored)
            session.removed(stored)
        elif self.backend.remembered.version(object) is not None:
            async with OneCall(self.backend) as call:
                call.removed(object)
                await call.finish()
        elif not await self.delete_by_id(id=key):
            raise self._not_found(key)

    async def delete_by_id(self, *, id: Id) -> bool:
        """Delete the aggregate of this id with all its children; False where there is none."""
        key = self._key(id)
        session = self.joined()
        known = None if session is None else session.known(self.model, key)
        if known is DELETED:
            return False
        if session is not None and isinstance(known, Model):
            session.removed(known)
            return True
        return cast("int", await self._call(DELETE_BY_ID, self._values(key))) > 0

    async def delete_all(self) -> int:
        """Delete every aggregate with its children, in one statement; gives their number."""
        return cast("int", await self._call(DELETE_ALL))

    def version_of(self, entity: T) -> int | None:
        """The version at which `entity` was loaded or stored, as an ETag wants it; None where nothing is known of it."""
        object = self._own(entity)
        session = self.joined()
        version = None if session is None else session.version(object)
        if version is not None:
            return version
        return self.backend.remembered.version(object)

    async def session(self) -> Any:
        """SQL: the `AsyncSession` in the transaction of the running unit, with the unit's changes already sent.

        What is written through it counts as a write of the unit. Raises `RepositoryError` outside a unit, and
        `Unsupported` on a backend that has none.
        """
        session = self.joined()
        if session is None:
            raise RepositoryError(f"{type(self).__qualname__}.session(): no unit of work runs here; enter one first")
        if self.backends.unready:
            await self.backends.ready(self.backend)
        await session.before_read(frozenset({self.model}))
        session.writes()
        found = await resource(await session.begin(), "session")
        if found is None:
            place = f"{type(self).__qualname__}.session"
            raise Unsupported(place, f"the backend '{self.backend.name}' ({self.backend.kind}) has no SQL session")
        return found

    # Inside

    async def _call(self, index: int, values: tuple[Any, ...] = ()) -> Any:
        return await self._calls[index].runner()(self, values)

    async def _many(self, session: Session, keys: list[Any]) -> list[T]:
        model = self.model
        known = {key: session.known(model, key) for key in keys}
        unknown = [key for key, found in known.items() if found is UNKNOWN]
        if unknown:
            rows = await self.backend.load(await session.begin(), model, unknown)
            id_of = info(model).id_of
            known.update({id_of(object): object for object in handed_out(session, rows)})
        return [cast("T", known[key]) for key in keys if isinstance(known[key], Model)]

    async def _create(self, entities: Sequence[T]) -> None:
        objects = [self._own(entity) for entity in entities]
        if self.backends.unready:
            await self.backends.ready(self.backend)
        session = self.joined()
        if session is not None:
            for object in objects:
                session.added(object)
        else:
            async with OneCall(self.backend) as call:
                for object in objects:
                    call.added(object)
                await call.finish()

    async def _put(self, entity: T, expected: int | None, *, create: bool) -> tuple[T, bool]:
        """Update, or create where nothing is stored and `create` allows; gives the stored object and whether it is new."""
        object = self._own(entity)
        if self.backends.unready:
            await self.backends.ready(self.backend)
        session = self.joined()
        if session is None:
            return entity, await self._put_alone(object, expected, create=create)
        key = info(self.model).id_of(object)
        if create:
            session.writes()  # so that it is looked at in the transaction that replaces it
        stored = await fetch(session, self.model, key)
        if stored is None:
            if not create:
                raise self._not_found(key)
            session.added(object)
            return entity, True
        self._expect(key, expected, session.version(stored))
        if stored is not object:
            if create:
                diff(stored, object).apply_to(stored)
            else:
                session.merge(object, stored)
        return cast("T", stored), False

    async def _put_alone(self, object: Model, expected: int | None, *, create: bool) -> bool:
        """The same outside a unit, in a transaction of its own."""
        key = info(self.model).id_of(object)
        remembered = self.backend.remembered.get(object)
        if remembered is not None:
            version, before = remembered
            changes: ChangeSet = diff(before, object)
            if not create:
                self._expect(key, expected, version)
                await self._edit(object, changes, version)
                return False
        async with OneCall(self.backend) as call:
            rows = await self.backend.load(await call.begin(), self.model, (key,))
            if not rows:
                if not create:
                    raise self._not_found(key)
                call.added(object)
                await call.finish()
                return True
            stored, version = rows[0]
            self._expect(key, expected, version)
            changes, state = diff(stored, object), snapshot(object)
            if changes:
                call.changed(object, changes, version)
            await call.finish()
        if not changes:
            self.backend.remembered.put(object, version, state)
        return False

    async def _edit(self, object: Model, changes: ChangeSet, version: int) -> None:
        """Store `changes` of an object that is stored at `version`; of none, ask whether it is."""
        async with OneCall(self.backend, read_only=not changes) as call:
            if changes:
                call.changed(object, changes, version)
                await call.finish()
                return
            key = info(self.model).id_of(object)
            rows = await self.backend.load(await call.begin(), self.model, (key,))
        found = rows[0][1] if rows else None
        if found != version:
            raise ConcurrentModification(self.model, key, version, found)

    def _expect(self, key: Any, expected: int | None, found: int | None) -> None:
        if expected is not None and found != expected:
            raise PreconditionFailed(self.model, key, expected, found)

    def _own(self, entity: T) -> Model:
        """`entity`, if it is an object of this repository's Model."""
        if type(entity) is not self.model:
            name = type(self).__qualname__
            raise InvalidArgument(
                f"{name} holds {self.model.__name__} objects, not {type(entity).__name__}: {entity!r}"
            )
        return cast("Model", entity)

    def _key(self, id: Id) -> Any:
        """The id in its exact form. Raises `InvalidArgument`."""
        identity = info(self.model).identity
        given = (id,) if len(identity) == 1 else id
        if not isinstance(given, (tuple, list)) or len(given) != len(identity):
            names = ", ".join(field.name for field in identity)
            raise InvalidArgument(f"the id of {self.model.__name__} is a tuple ({names}), not {id!r}")
        place = f"{type(self).__qualname__}: id of {self.model.__name__}"
        values = [
            arguments.one(value, field.leaf or object, place, optional=False)
            for value, field in zip(given, identity, strict=True)
        ]
        return values[0] if len(identity) == 1 else tuple(values)

    def _values(self, key: Any) -> tuple[Any, ...]:
        return (key,) if len(info(self.model).identity) == 1 else key

    def _not_found(self, id: object) -> NotFound:
        return NotFound(f"{type(self).__qualname__}: no {self.model.__name__} has the id {id!r}")
