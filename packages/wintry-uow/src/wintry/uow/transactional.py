"""`@transactional`: a function as one unit.

The repositories that the function takes, or that the object it belongs to holds, say which backends the unit covers;
their calls find it through the context, so neither the function nor the repositories know of it.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from wintry.repository import Repository
from wintry.repository.backend import Backend

from .errors import UnitError
from .retry import attempts
from .scope import UnitOfWork, backends_of
from .unit import Options, running_unit_over, take_part

P = ParamSpec("P")
R = TypeVar("R")


@overload
def transactional(function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...
@overload
def transactional(
    *,
    retry_for: float = 2.0,
    retries: int | None = None,
    read_only: bool = False,
    isolation: str | None = None,
    timeout: float | None = None,
    allow_multi: bool = False,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]: ...
def transactional(
    function: Callable[P, Awaitable[R]] | None = None,
    /,
    *,
    retry_for: float = 2.0,
    retries: int | None = None,
    read_only: bool = False,
    isolation: str | None = None,
    timeout: float | None = None,
    allow_multi: bool = False,
) -> Any:
    """Run an async function or method as one unit over the repositories that it takes, or that its `self` holds.

    It commits when the function returns, rolls back when it raises, and runs the whole function again on a `Conflict`,
    as `UnitOfWork.run` does. Raises `UnitError` where there is no repository to be found.
    """
    options = Options(read_only, isolation, timeout, allow_multi=allow_multi)

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(function)
        async def unit(*args: P.args, **kwargs: P.kwargs) -> R:
            backends = covered(args, kwargs.values())
            if not backends:
                raise UnitError(f"{function.__qualname__} takes no repository, and what it belongs to holds none")

            async def attempt() -> R:
                part = await take_part(backends, options)
                try:
                    result = await function(*args, **kwargs)
                    await part.commit()
                except BaseException as error:
                    await part.leave(error)
                    raise
                await part.leave(None)
                return result

            if running_unit_over(backends) is not None:
                return await attempt()
            return await attempts(attempt, retry_for=retry_for, retries=retries)

        return unit

    return decorate if function is None else decorate(function)


def covered(args: tuple[object, ...], keywords: Iterable[object]) -> tuple[Backend, ...]:
    """The backends of the repositories among the arguments, and among the attributes of the first one."""
    held = getattr(args[0], "__dict__", {}).values() if args else ()
    backends: dict[Backend, None] = {}
    for value in (*args, *keywords, *held):
        if isinstance(value, Repository):
            backends[value.backend] = None
        elif isinstance(value, UnitOfWork):
            backends.update(dict.fromkeys(backends_of(value)))
    return tuple(backends)
