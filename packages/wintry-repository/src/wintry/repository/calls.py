"""What happens when a derived method is called: the only place where a query meets a session.

A call runs on the session that its repository is bound to, else on that of the unit of work that runs in this context,
else on a `OneCall` of its own. Inside a unit the changes that the query would read are stored first, and what it loads
goes through the unit's identity map.

A query that asks for one id is no query: it goes through the identity map and the backend's load by id. One that asks
for a unique value and finds nothing tells the session so: if that value turns out to be taken when the unit is stored,
another transaction was faster, which is a `Conflict` and no mistake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from wintry.models import Model, info
from wintry.models.tracking import snapshot

from .backend import DELETED, Session
from .errors import Conflict, MultipleFound, NotFound, RepositoryError
from .language.operators import Operator
from .language.signature import Result
from .language.tree import Path
from .one_call import OneCall
from .plan import And, Compare, Expr, QueryPlan, Some, settled

if TYPE_CHECKING:
    from .backend import Backend, CompiledQuery
    from .connections import Backends

Values: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = "Sequence[tuple[Model, int]]"


class Caller(Protocol):
    """What a call needs of its repository."""

    @property
    def backend(self) -> Backend: ...
    @property
    def queries(self) -> Sequence[CompiledQuery]: ...

    def joined(self) -> Session | None:
        """The session that the call belongs to; None outside any unit."""
        ...

    @property
    def backends(self) -> Backends: ...


Runner: TypeAlias = Callable[[Caller, Values], Awaitable[Any]]


class Call:
    """One derived method: its plan, what it gives back, and its place among the queries of its class."""

    __slots__ = ("_has_lists", "_id_places", "_models", "_unique", "index", "plan", "result")

    def __init__(self, plan: QueryPlan, result: Result, index: int) -> None:
        self.plan = plan
        self.result = result
        self.index = index
        self._models = frozenset({plan.model})
        self._has_lists = any(parameter.many for parameter in plan.parameters)
        self._id_places = _id_places(plan)
        self._unique = _unique(plan.where)

    def runner(self) -> Runner:
        """The coroutine function that the generated method awaits, with the repository and the values."""
        match self.plan.verb, self.result:
            case "find", Result.LIST:
                return self._list
            case "find", Result.TUPLE:
                return self._tuple
            case "find", Result.ONE:
                return self._one
            case "find", _:
                return self._optional
            case "delete", Result.NOTHING:
                return self._discard
            case "delete", _:
                return self._delete
            case _:
                return self._measure

    async def _list(self, caller: Caller, values: Values) -> list[Model]:
        if caller.backends.unready:
            await caller.backends.ready(caller.backend)
        if self._has_lists and self.plan.where is not None and settled(self.plan.where, values) is False:
            return []
        session = caller.joined()
        if self.plan.locked:
            return await self._locked(caller, locking(session, self.plan.label), values)
        if session is not None:
            return await self._objects(caller, session, values)
        async with OneCall(caller.backend, read_only=True) as session:
            return await self._objects(caller, session, values)

    async def _locked(self, caller: Caller, session: Session, values: Values) -> list[Model]:
        """Lock what fits, then load it: what is loaded is what the last holder of the locks has left."""
        model = self.plan.model
        if self._id_places is not None:
            if None in values:  # which no id holds
                return []
            await session.lock(model, (self._id(self._id_places, values),))
            return await self._objects(caller, session, values)
        id_of = info(model).id_of
        async with OneCall(caller.backend, read_only=True) as call:
            rows: Rows = await caller.queries[self.index].run(await call.begin(), values)
        ids = {id_of(object) for object, _ in rows}
        await session.lock(model, tuple(ids))
        found = await self._objects(caller, session, values)
        if not ids.issuperset(id_of(object) for object in found):
            raise Conflict(
                f"{self._shown(values)}: what fits changed while the locks were waited for: run the unit again"
            )
        return found

    async def _tuple(self, caller: Caller, values: Values) -> tuple[Model, ...]:
        return tuple(await self._list(caller, values))

    async def _optional(self, caller: Caller, values: Values) -> Model | None:
        found = await self._list(caller, values)
        if len(found) > 1:
            raise MultipleFound(f"{self._shown(values)}: more than one {self.plan.model.__name__} fits")
        return found[0] if found else None

    async def _one(self, caller: Caller, values: Values) -> Model:
        found = await self._optional(caller, values)
        if found is None:
            raise NotFound(f"{self._shown(values)}: no {self.plan.model.__name__} fits")
        return found

    async def _measure(self, caller: Caller, values: Values) -> int | bool:
        if caller.backends.unready:
            await caller.backends.ready(caller.backend)
        session = caller.joined()
        if session is not None:
            return await self._measured(caller, session, values)
        async with OneCall(caller.backend, read_only=True) as session:
            return await self._measured(caller, session, values)

    async def _delete(self, caller: Caller, values: Values) -> int:
        if caller.backends.unready:
            await caller.backends.ready(caller.backend)
        session = caller.joined()
        if session is not None:
            return await self._deleted(caller, session, values)
        async with OneCall(caller.backend) as call:
            count = await self._deleted(caller, call, values)
            await call.finish()
            return count

    async def _discard(self, caller: Caller, values: Values) -> None:
        await self._delete(caller, values)

    async def _objects(self, caller: Caller, session: Session, values: Values) -> list[Model]:
        model = self.plan.model
        if self._id_places is not None:
            if None in values:
                return []
            found = await fetch(session, model, self._id(self._id_places, values))
            return [] if found is None else [found]
        await session.before_read(self._models)
        rows = await caller.queries[self.index].run(await session.begin(), values)
        if self._unique is not None and not rows:
            session.missed(model, {self._unique: values[0]})
        return handed_out(session, rows)

    async def _measured(self, caller: Caller, session: Session, values: Values) -> int | bool:
        await session.before_read(self._models)
        result: int | bool = await caller.queries[self.index].run(await session.begin(), values)
        if self._unique is not None and not result:
            session.missed(self.plan.model, {self._unique: values[0]})
        return result

    async def _deleted(self, caller: Caller, session: Session, values: Values) -> int:
        session.writes()
        await session.before_read(self._models)
        count: int = await caller.queries[self.index].run(await session.begin(), values)
        session.evict(self.plan.model)
        return count

    @staticmethod
    def _id(places: tuple[int, ...], values: Values) -> Any:
        return values[places[0]] if len(places) == 1 else tuple([values[place] for place in places])

    def _shown(self, values: Values) -> str:
        arguments = [
            f"{parameter.name}={value!r}" for parameter, value in zip(self.plan.parameters, values, strict=True)
        ]
        return f"{self.plan.label}({', '.join(arguments)})"


def locking(session: Session | None, what: str) -> Session:
    """`session`, for a locked load called `what`. Raises `RepositoryError` outside a unit."""
    if session is None:
        raise RepositoryError(f"{what}: a lock lasts as long as a unit of work, and none runs here; enter one first")
    return session


async def fetch(session: Session, model: type[Model], id: Any) -> Model | None:
    """The aggregate of this id as `session` knows it, else as it is stored."""
    known = session.known(model, id)
    if known is DELETED:
        return None
    if isinstance(known, Model):
        return known
    rows = await session.backend.load(await session.begin(), model, (id,))
    if not rows:
        session.missed(model, id)
        return None
    found = handed_out(session, rows)
    return found[0] if found else None


def handed_out(session: Session, rows: Rows) -> list[Model]:
    """The objects that the session makes of loaded rows."""
    if not session.tracking:
        return [object for object, _ in rows]
    take = session.loaded
    given = [take(object, version, snapshot(object)) for object, version in rows]
    return [object for object in given if object is not None]


def _id_places(plan: QueryPlan) -> tuple[int, ...] | None:
    """Where the values of the whole identity stand, where the plan asks for exactly one and nothing else."""
    if plan.verb != "find" or plan.where is None:
        return None
    items = plan.where.items if isinstance(plan.where, And) else (plan.where,)
    places: dict[str, int] = {}
    for item in items:
        if not (isinstance(item, Compare) and item.operator is Operator.EQ and len(item.path) == 1):
            return None
        places[item.path[0].name] = item.parameters[0].index
    names = [field.name for field in info(plan.model).identity]
    if len(places) != len(items) or set(places) != set(names):
        return None
    return tuple(places[name] for name in names)


def _unique(where: Expr | None) -> str | None:
    """The dotted name of the unique field that the plan compares with its only value; None for any other plan."""
    path: Path = ()
    while isinstance(where, Some):
        path += where.path
        where = where.where
    if not (isinstance(where, Compare) and where.operator is Operator.EQ):
        return None
    path += where.path
    return ".".join(field.name for field in path) if path[-1].unique else None
