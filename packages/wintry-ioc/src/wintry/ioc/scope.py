"""What one call, request or message holds, and how it ends.

A `Scope` is a dictionary of what was made (`made`), by the index of its recipe; what must be finished stands
at `EXITS` once a factory with an end was entered. It is filled by `setdefault` alone, which is atomic, so that two
threads that share a scope may make a thing twice but get one. While it is open it is the value of a context variable, so
each task and each thread sees its own. Before it is entered and after its end, `made` is a mapping that refuses every
look-up: the open scope pays nothing for that check.

Finalisers run in reverse order, all of them even if one raises, in the task that leaves the scope. If one of them is
async, they run behind a `Shield`: a cancellation does not reach them, and is delivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar, overload

from .errors import AsyncRequired, NotProvided, ScopeClosed
from .hints import dotted
from .shield import Shield, Work, current_work

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeForm

    from .plan import Plan

T = TypeVar("T")
EXITS = 0  # recipes count from 1
PENDING = -1
Exit = Generator[Any, None, None] | AsyncGenerator[Any, None]


class Exits(Work):
    """The generators that a scope has entered, in order."""

    __slots__ = ("generators",)

    def __init__(self) -> None:
        self.ended = False
        self.generators: list[Exit] = []


current_scope: ContextVar[Scope | None] = ContextVar("wintry.ioc.scope", default=None)


class Owner(Protocol):
    """What a scope needs of its container."""

    @property
    def plans(self) -> dict[Any, Plan[Any]]: ...

    def compile(self, key: Any, /) -> Plan[Any]: ...

    def slots(self, key: Any, /) -> list[int]: ...

    def name_of(self, index: int, /) -> str: ...

    @property
    def unentered(self) -> Refusal: ...

    @property
    def ended(self) -> Refusal: ...


class Scope:
    """The lifetime of one call: everything scoped exists once in it. Made by `Container.scope()`.

    Enter it with `async with`, or with `with` where nothing that it makes ends asynchronously.
    """

    __slots__ = ("_token", "made", "owner")

    _token: Token[Scope | None]

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.made: dict[int, Any] = owner.unentered

    @property
    def closed(self) -> bool:
        """Whether it was not entered yet, or has ended."""
        return type(self.made) is Refusal

    @overload
    async def get(self, key: type[T], /) -> T: ...
    @overload
    async def get(self, key: TypeForm[T], /) -> T: ...
    async def get(self, key: Any, /) -> Any:
        """The T of this scope, with all that it needs; also for protocols, `list[T]` and `Annotated[T, Named(…)]`.

        Raises `NotProvided` if nothing provides it, `ScopeClosed` if the scope is not open.
        """
        owner = self.owner
        plan = owner.plans.get(key) or owner.compile(key)
        found = plan.make(self)
        return await found if plan.is_async else found

    @overload
    def get_nowait(self, key: type[T], /) -> T: ...
    @overload
    def get_nowait(self, key: TypeForm[T], /) -> T: ...
    def get_nowait(self, key: Any, /) -> Any:
        """Like `get`, for synchronous callers. Raises `AsyncRequired` if something must be awaited."""
        plan = self.owner.plans.get(key) or self.owner.compile(key)
        if plan.is_async:
            raise AsyncRequired(f"{dotted(key)} needs an await to be built: use `await scope.get({dotted(key)})`")
        return plan.make(self)

    @overload
    def provide(self, key: type[T], value: T, /) -> None: ...
    @overload
    def provide(self, key: TypeForm[T], value: T, /) -> None: ...
    def provide(self, key: Any, value: Any, /) -> None:
        """Give this scope its own value for a key, such as the request; must come before the first use of the key.

        Raises `NotProvided` for a key that the container does not know.
        """
        if self.closed:
            raise closed(self, dotted(key))
        for slot in self.owner.slots(key):
            self.made[slot] = value

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        made = self._leave()
        if EXITS in made:
            await finish(made[EXITS], error)

    def __enter__(self) -> Self:
        if self.made is not self.owner.unentered:
            raise ScopeClosed("a scope is entered once: ask the container for another one")
        self.made = {}
        self._token = current_scope.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        made = self._leave()
        if EXITS in made:
            finish_nowait(made[EXITS], error)

    def _leave(self) -> dict[int, Any]:
        """From here on nothing can be asked of the scope. Returns what it held."""
        made, self.made = self.made, self.owner.ended
        try:
            current_scope.reset(self._token)
        except ValueError:
            pass  # left in another context than it was entered in, as a streamed answer is: nothing to undo there
        return made


class Refusal(dict[int, Any]):
    """The `made` of every scope of a container that is not open: whoever looks or writes is told. It stays empty."""

    def __init__(self, state: str, name_of: Callable[[int], str]) -> None:
        super().__init__()
        self._state = state
        self._name_of = name_of

    def __contains__(self, index: object) -> NoReturn:
        name = self._name_of(index) if isinstance(index, int) and index > EXITS else "something"
        raise _refused(name, self._state)

    def __setitem__(self, index: int, value: Any) -> NoReturn:
        self.__contains__(index)

    def setdefault(self, index: int, default: Any = None) -> NoReturn:
        self.__contains__(index)


def closed(scope: Scope, name: str) -> ScopeClosed:
    """The error of a look-up in a scope that is not open."""
    return _refused(name, "was not entered" if scope.made is scope.owner.unentered else "has ended")


def _refused(name: str, state: str) -> ScopeClosed:
    return ScopeClosed(f"{name} was asked of a scope that {state}; open one with `async with container.scope()`")


def absent(name: str) -> NotProvided:
    """The error of a context value that the scope was not given."""
    return NotProvided(f"{name} is a context value that this scope was not given: call scope.provide({name}, …) first")


def enter(scope: Scope, generator: Generator[T, None, None]) -> T:
    """Start a generator factory, and remember to finish it with the scope.

    Raises `ScopeClosed`, after it was finished, if the scope ended meanwhile.
    """
    made = scope.made
    exits: Exits = made.get(EXITS) or made.setdefault(EXITS, Exits())
    try:
        value = next(generator)
    except StopIteration:
        raise NotProvided(f"{_name(generator)} ended without a yield") from None
    exits.generators.append(generator)
    if scope.made is not made:
        late = _late(exits, generator)
        error = closed(scope, _name(generator))
        finish_nowait(late, error)
        raise error
    return value


async def enter_async(scope: Scope, generator: AsyncGenerator[T, None]) -> T:
    """`enter` for an async generator factory."""
    made = scope.made
    exits: Exits = made.get(EXITS) or made.setdefault(EXITS, Exits())
    token = exits.begin()
    try:
        value = await anext(generator)
    except StopAsyncIteration:
        raise NotProvided(f"{_name(generator)} ended without a yield") from None
    finally:
        current_work.reset(token)
    exits.generators.append(generator)
    if scope.made is not made:
        late = _late(exits, generator)
        error = closed(scope, _name(generator))
        await finish(late, error)
        raise error
    return value


def _late(exits: Exits, generator: Exit) -> Exits:
    """What came too late for the end of its scope, to be finished by itself; nothing if the end has just taken it."""
    late = Exits()
    try:
        exits.generators.remove(generator)
    except ValueError:
        return late
    late.generators.append(generator)
    return late


async def once(scope: Scope, index: int, build: Callable[[], Awaitable[T]]) -> T:
    """Build what the scope holds at `index` once, though several tasks of the scope may ask at the same time.

    Raises `ScopeClosed` if the scope ended meanwhile.
    """
    made = scope.made
    pending: dict[int, asyncio.Event] = made.setdefault(PENDING, {})
    while index not in made:
        running = pending.get(index)
        if running is not None:
            await running.wait()
        else:
            done = pending[index] = asyncio.Event()
            try:
                made[index] = await build()
            finally:
                del pending[index]
                done.set()
        if scope.made is not made:
            raise closed(scope, scope.owner.name_of(index))
    found: T = made[index]
    return found


async def finish(exits: Exits, error: BaseException | None) -> None:
    """Run finalisers in reverse order, shielded from cancellation; they are given the error, and cannot swallow it.

    Raises what they raised: the one error, or a group of several.
    """
    if not any(isinstance(each, AsyncGenerator) for each in exits.generators):
        finish_nowait(exits, error)
        return
    shield = Shield(exits)
    failure = _joined(await shield.run(_finish_all(exits, error)))
    cancelled = shield.cancelled
    if cancelled is not None:
        raise cancelled from failure
    if failure is not None:
        raise failure


def finish_nowait(exits: Exits, error: BaseException | None) -> None:
    """`finish` for a synchronous caller. Raises `AsyncRequired`, after the others ran, for what must be awaited."""
    raised: list[BaseException] = []
    while exits.generators:
        each = exits.generators.pop()
        if isinstance(each, AsyncGenerator):
            raised.append(AsyncRequired(f"{_name(each)} ends asynchronously: enter its scope with `async with`"))
        else:
            _finish_one(each, error, raised)
    failure = _joined(raised)
    if failure is not None:
        raise failure


async def _finish_all(exits: Exits, error: BaseException | None) -> list[BaseException]:
    raised: list[BaseException] = []
    while exits.generators:
        each = exits.generators.pop()
        if isinstance(each, AsyncGenerator):
            await _finish_one_async(each, error, raised)
        else:
            _finish_one(each, error, raised)
    return raised


def _finish_one(
    generator: Generator[Any, None, None], error: BaseException | None, raised: list[BaseException]
) -> None:
    try:
        if error is None:
            next(generator)
        else:
            generator.throw(error)
    except StopIteration:
        return
    except BaseException as own:  # noqa: BLE001 - the finalisers before it must run; it is raised after them
        if own is not error:
            raised.append(own)
        return
    raised.append(_second_yield(generator))
    generator.close()


async def _finish_one_async(
    generator: AsyncGenerator[Any, None], error: BaseException | None, raised: list[BaseException]
) -> None:
    try:
        if error is None:
            await anext(generator)
        else:
            await generator.athrow(error)
    except StopAsyncIteration:
        return
    except BaseException as own:  # noqa: BLE001 - the finalisers before it must run; it is raised after them
        if own is not error:
            raised.append(own)
        return
    raised.append(_second_yield(generator))
    await generator.aclose()


def _name(generator: Exit) -> str:
    return str(getattr(generator, "__qualname__", generator))


def _second_yield(generator: Exit) -> RuntimeError:
    return RuntimeError(f"{_name(generator)} yields twice: a provider yields once")


def _joined(raised: list[BaseException]) -> BaseException | None:
    """The one error, or all of them as a group."""
    return (
        raised[0] if len(raised) == 1 else BaseExceptionGroup("several finalisers failed", raised) if raised else None
    )
