"""One attempt of a handler, which pays for its timeout only when it waits.

Only a handler that waits can be cancelled, so an attempt is run by hand up to where it first waits: `next` gives what
it waits for, or `ENDED` where it has come to its end. Most of a handler that never waits is then the handler itself; one
that waits goes on in `resumed`, through which whatever drives the task talks to it as if nothing were between.

It is a generator and no coroutine, since `next` on one that ends costs nothing, while a coroutine driven by hand
raises StopIteration to give its result. So the result stands on the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from .call import Call
    from .middleware import Chain, Invoke

Attempt: TypeAlias = Generator[Any, None, None]

ENDED: Final = object()
"""What `next(attempt, ENDED)` gives where the handler has returned; anything else is what it waits for."""


def compile_attempt(invoke: Invoke, chain: Chain | None) -> Callable[[Any, Call], Attempt]:
    """What runs a handler once for a queue object and a call, with its middleware if it has some."""

    def attempt(queue: Any, call: Call) -> Attempt:
        call.open = True
        try:
            begun: Any = invoke(queue, call.message) if chain is None else _awaited(chain(queue, call.envelope))
            call.result = yield from begun
        finally:
            call.open = False

    return cast("Callable[[Any, Call], Attempt]", coroutine(attempt))


async def _awaited(work: Awaitable[Any]) -> Any:
    """A coroutine, whatever a middleware gives."""
    return await work


@coroutine
def resumed(attempt: Attempt, waits_for: Any) -> Attempt:
    """The rest of an attempt that has begun, and waits for `waits_for`."""
    while True:
        try:
            yield waits_for
        except GeneratorExit:
            attempt.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is the handler's
            try:
                waits_for = attempt.throw(error)
            except StopIteration:
                return
        else:
            yield from attempt
            return
