"""`UnitOfWork`: the object that is injected, and the scopes that it opens.

The injected object never changes: entering it makes another object of the same class whose repositories are bound to
the sessions of a unit, and leaving finds that unit through the context, so that any number of tasks can be inside of
one injected object at once. A scope holds the unit it runs in and its part there: the unit itself, or a `Joined` where
one was running already that covers the same backends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from wintry.repository import Repository
from wintry.repository.backend import Backend, current
from wintry.repository.errors import DefinitionError, report

from .errors import NotEntered, UnitError
from .retry import attempts
from .unit import DEFAULTS, Joined, Options, Unit, current_unit, running_unit_over, take_part

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.repository.backend import Operation

T = TypeVar("T")
R = TypeVar("R")


class UnitOfWork:
    """Repositories that commit together.

    A subclass names its repositories, by annotations or in an `__init__` that hands them to this one; without a
    subclass they are the keywords. `async with` opens a unit and gives the object to use inside:

        async with self.uow as uow:
            product = await uow.products.get(sku)
            product.allocate(line)
            await uow.commit()

    Values that are no repositories are attributes like any other.
    """

    _template: ClassVar[UnitOfWork | None] = None
    _part: ClassVar[Unit | Joined | None] = None

    def __init__(self, **repositories: Any) -> None:
        """Raises `DefinitionError` for the name of something that every unit of work has."""
        for name, value in repositories.items():
            if hasattr(UnitOfWork, name):
                raise taken(type(self), name)
            setattr(self, name, value)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        report(cls.__qualname__, [taken(cls, name) for name in cls.__annotations__ if hasattr(UnitOfWork, name)])

    def __call__(
        self,
        *,
        read_only: bool = False,
        isolation: str | None = None,
        timeout: float | None = None,
        flush: Literal["query", "commit"] = "query",
        allow_multi: bool = False,
    ) -> Opening[Self]:
        """A unit with options: `async with self.uow(read_only=True) as uow:`.

        `read_only`: nothing is tracked, and writing is refused. `isolation`: a level that the backend knows.
        `timeout`: seconds. `flush="commit"`: queries do not see what is not committed. `allow_multi`: repositories of
        several backends, which commit one after another in the order of the repositories; if one fails, what
        committed before it stays.
        """
        return Opening(self, Options(read_only, isolation, timeout, flush, allow_multi))

    async def __aenter__(self) -> Self:
        return await open_scope(self, DEFAULTS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await leaving(self).leave(error)

    async def run(
        self, work: Callable[[Self], Awaitable[R]], *, retry_for: float = 2.0, retries: int | None = None
    ) -> R:
        """Await `work(uow)` in a unit, commit, and give its result; on a `Conflict` run all of it again.

        Each attempt has a fresh scope and fresh objects. New attempts begin for `retry_for` seconds, after pauses of
        random length; `retries` caps their number. Inside a running unit `work` joins it and runs once.
        """
        return await Opening(self, DEFAULTS).run(work, retry_for=retry_for, retries=retries)

    async def commit(self) -> None:
        """Store the minimal statements for what changed, and commit. May be called again for what changes after it.

        Raises `Conflict`, `AlreadyExists`, `InvalidValue`, `SharedChild`, `DuplicateChild`, `IdentityChanged`,
        `UnitAborted`, `UnitTimeout`.
        """
        await self._entered("commit").commit()

    async def rollback(self) -> None:
        """Undo what is not committed, and let go of all objects, which stay readable."""
        await self._entered("rollback").rollback()

    def changes(self) -> tuple[Operation, ...]:
        """What a commit would make durable now."""
        return self._entered("changes").unit.changes()

    async def refresh(self, object: Model) -> None:
        """Load the stored state of an object of this unit into it. Raises `ForeignObject`, `NotFound`."""
        await self._entered("refresh").unit.refresh(object)

    def detach(self, object: Model) -> None:
        """Stop saving an object of this unit. Raises `ForeignObject`."""
        self._entered("detach").unit.detach(object)

    def expect(self, object: Model, *, version: int) -> None:
        """Raises `PreconditionFailed` unless the object was loaded at `version`, such as that of an ETag."""
        self._entered("expect").unit.expect(object, version=version)

    async def resource(self, kind: type[T]) -> T:
        """The `AsyncConnection`, `AsyncSession` … of this unit's transaction. Raises `Unsupported`."""
        return await self._entered("resource").unit.resource(kind)

    def _entered(self, method: str) -> Unit | Joined:
        if self._part is None:
            raise NotEntered(type(self).__name__, method)
        return self._part


def taken(uow: type, name: str) -> DefinitionError:
    """The fault of a repository that is called like something of every unit of work."""
    place = f"{uow.__module__}.{uow.__qualname__}.{name}"
    return DefinitionError(place, f"{name!r} is a name of UnitOfWork itself", "choose another")


W = TypeVar("W", bound=UnitOfWork)


class Opening(Generic[W]):
    """A unit of work with options, to be entered or run; any number of times, also at once."""

    __slots__ = ("_options", "_template")

    def __init__(self, template: W, options: Options) -> None:
        self._template = template
        self._options = options

    async def __aenter__(self) -> W:
        return await open_scope(self._template, self._options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await leaving(self._template).leave(error)

    async def run(self, work: Callable[[W], Awaitable[R]], *, retry_for: float = 2.0, retries: int | None = None) -> R:
        """As `UnitOfWork.run`, with the options."""

        async def attempt() -> R:
            async with self as uow:
                result = await work(uow)
                await uow.commit()
                return result

        if running_unit_over(backends_of(self._template)) is not None:
            return await attempt()
        return await attempts(attempt, retry_for=retry_for, retries=retries)


def repositories_of(uow: UnitOfWork) -> dict[str, Repository[Any, Any]]:
    """The repositories of a unit of work by their names, in the order in which they were given."""
    return {name: value for name, value in vars(uow).items() if isinstance(value, Repository)}


def backends_of(uow: UnitOfWork) -> tuple[Backend, ...]:
    """The backends of the repositories of a unit of work."""
    return tuple(dict.fromkeys(repository.backend for repository in repositories_of(uow).values()))


async def open_scope(uow: W, options: Options) -> W:
    """A fresh object of the class of `uow`, whose repositories belong to a unit."""
    template = uow._template or uow
    repositories = repositories_of(template)
    part = await take_part(tuple(dict.fromkeys(held.backend for held in repositories.values())), options)
    unit = part.unit
    scope = object.__new__(type(uow))
    attributes = vars(scope)
    attributes.update(vars(template), _template=template, _part=part)
    for name, repository in repositories.items():
        attributes[name] = repository.bind(unit.session(repository.backend))
    running = unit if part is unit else current_unit()
    assert running is not None, "a unit that was joined is running"
    running.parts.append((template, part))
    return scope


def leaving(uow: UnitOfWork) -> Unit | Joined:
    """The part to end as the innermost block of `uow` is left."""
    # Not `current_unit()`: an async generator may be closed by another task than the one that advanced it, and a unit
    # that its block is left in must end there, or it would keep its connection for ever.
    unit = current.get()
    if not isinstance(unit, Unit) or not unit.parts or unit.parts[-1][0] is not (uow._template or uow):
        raise UnitError(
            f"{type(uow).__name__} is left in another context than it was entered in, or before a unit inside of it"
        )
    return unit.parts.pop()[1]
