"""One attempt of one delivery, and its settling.

A delivery runs in a container scope and an ambient unit of its own where the runtime has such. When the handler has
returned, the unit commits its effect together with the closing of the row and the messages it registered, and marks
the call settled; without a unit the messages are stored first and the row is closed after, so that a crash in between
repeats the handler with the same ids. A failure is either repeated later (the row becomes due again, and what waited
behind it in its lane goes back to the journal to keep the order) or parked with its traceback.

Nothing that goes wrong here reaches the caller of `handle`: it is logged with the message. Only cancellation passes.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from typing import TYPE_CHECKING

from .call import Call, running
from .cancellation import is_cancelled
from .errors import AlreadyHandled, Discard, LeaseLost, Park, reason_of
from .failpoints import reach

if TYPE_CHECKING:
    from .runtime import Runtime

logger = logging.getLogger("wintry.bus")


async def deliver(runtime: Runtime, call: Call) -> None:
    """Run one attempt and settle it."""
    token = running.set(call)
    route = call.route
    try:
        if runtime.plain:
            if call.row is not None:
                _refuse_what_kills(call)
            rest = route.start(route.instance, call)
            if rest is not None:
                await rest
        else:
            await _attempt(runtime, call)
        if call.pending:
            if runtime.journal is None:
                call.commit()
            else:
                await flush(runtime, call)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is settled
        await runtime.dispatcher.finish(_settle_failure(runtime, call, error))
    except CancelledError as error:
        if not is_cancelled():
            await runtime.dispatcher.finish(_settle_failure(runtime, call, error))
            return
        call.restart()
        runtime.dispatcher.give_back(call)
        raise
    else:
        if runtime.observers:
            runtime.tell_handled(call)
        if call.row is not None:
            await runtime.dispatcher.finish(_settle_success(runtime, call))
        elif call.lane is not None:
            runtime.dispatcher.settled(call)
    finally:
        running.reset(token)


async def _attempt(runtime: Runtime, call: Call) -> None:
    route = call.route
    handler = route.handler
    if handler is None or runtime.open_scope is None:
        await _run(runtime, call, route.instance)
    else:
        async with runtime.open_scope() as scope:
            call.scope = scope
            await _run(runtime, call, await scope.get(handler.queue))


async def _run(runtime: Runtime, call: Call, queue: object) -> None:
    if runtime.open_unit is None or not call.route.unit:
        if call.row is not None:
            _refuse_what_kills(call)
        await call.route.run(queue, call)
        return
    async with runtime.open_unit(call):  # which tells whether an earlier attempt has stored its effect
        if call.row is not None:
            _refuse_what_kills(call)
            reach("delivering")
        await call.route.run(queue, call)


def _refuse_what_kills(call: Call) -> None:
    """Raise `Park` where all attempts were begun and none came to an end: each time the process has ended instead."""
    most = call.route.retry.attempts
    if most is not None and call.attempt > most:
        raise Park(
            f"{most} attempts were begun and none came to its end: the process ended, or lost its lease, each time; "
            "look into its log, and redrive the message when the reason is gone"
        )


async def flush(runtime: Runtime, call: Call) -> None:
    """Store and release what a handler registered outside every transaction."""
    journal = runtime.journal
    if journal is None:
        call.commit()
        return
    logger.debug("%s registered outside a transaction (unenlisted)", call.route.target)
    rows = call.rows()
    call.commit(await journal.append(rows, owner=runtime.owner, lease=runtime.limits.lease) if rows else [])
    reach("stored")


async def _settle_success(runtime: Runtime, call: Call) -> None:
    try:
        if call.row is not None and not call.settled:
            reach("delivered")
            await runtime.store.complete([call.row.seq], owner=runtime.owner)
    except Exception:
        logger.exception("%s: %r is delivered, but that could not be stored", call.route.target, call.message)
        await _leave(runtime, call)
    else:
        runtime.dispatcher.settled(call)


async def _leave(runtime: Runtime, call: Call) -> None:
    """Whoever has the row after its lease goes on with it."""
    runtime.dispatcher.step_back(call)
    await runtime.dispatcher.release_returned()


async def _settle_failure(runtime: Runtime, call: Call, error: BaseException) -> None:
    """Repeat, park or drop an attempt that raised."""
    target = call.route.target
    if isinstance(error, LeaseLost):
        logger.warning("%s: %s", target, error)
        await _leave(runtime, call)
    elif isinstance(error, (Discard, AlreadyHandled)):
        logger.info("%s: %r needs nothing: %s", target, call.message, error)
        await _settle_success(runtime, call)
    elif (seq := runtime.dispatcher.keep(call)) is None:
        logger.error("%s failed for %r", target, call.message, exc_info=error)
        runtime.dispatcher.settled(call)
    else:
        try:
            delay = call.route.retry.again(error, call.attempt, time.time() - call.time)
            if delay is None:
                await _park(runtime, call, seq, error)
            else:
                await _repeat(runtime, call, seq, error, delay)
        except Exception:
            logger.exception("%s: the failure of %r could not be stored", target, call.message)
            await _leave(runtime, call)


async def _repeat(runtime: Runtime, call: Call, seq: int, error: BaseException, delay: float) -> None:
    text = "%s failed for %r with %r: attempt %d, the next in %.3g s"
    logger.warning(text, call.route.target, call.message, error, call.attempt, delay)
    runtime.dispatcher.step_back(call)
    await runtime.store.retry(seq, owner=runtime.owner, error=reason_of(error), delay=delay)
    await runtime.dispatcher.release_returned()
    runtime.dispatcher.claims.later(delay)


async def _park(runtime: Runtime, call: Call, seq: int, error: BaseException) -> None:
    logger.error("%s failed for %r and is parked", call.route.target, call.message, exc_info=error)
    if runtime.observers:
        runtime.tell_parked(call, error)
    hold = call.route.hold and call.lane is not None
    if hold:
        runtime.dispatcher.step_back(call)
    await runtime.store.park(seq, owner=runtime.owner, error=reason_of(error), hold=hold)
    if hold:
        await runtime.dispatcher.release_returned()
    else:
        runtime.dispatcher.settled(call)
