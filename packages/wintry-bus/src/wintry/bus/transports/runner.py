"""The runner: listeners on a transport, each delivery settled once.

One task a channel reads as long as there is room, so a listener that is behind stops reading instead of dropping. Each
message is decoded, run as a call of its own with its stable id, and then acknowledged; an error that may pass is
repeated here with the bus's own `Retry`, any other, and a body that does not decode, is given up with its reason. When
reading fails the task waits and connects again: a listener ends only when it is drained.

What is given up becomes a row of the journal, parked, and is then acknowledged: it is among the dead letters of the
bus whatever the transport is. The runtime knows the listeners as routes, so that a row that is redriven comes back here
like any delivery. Without a journal, and for a broadcast, which has no single receiver, the transport parks it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..call import Call, call_of, running
from ..cancellation import is_cancelled
from ..delivery import flush
from ..dispatch import end
from ..errors import AlreadyHandled, CapabilityError, Discard, Undecodable, reason_of, storable
from ..failpoints import reach
from ..handlers import TIMEOUT
from ..journal.journal import Row
from ..middleware import compile_chain
from ..retry import DELIVERIES, Retry
from ..routes import Route
from .transport import Caps, Delivery, Transport

if TYPE_CHECKING:
    from ..runtime import Runtime

logger = logging.getLogger("wintry.bus")
BODY_VERSION = 1  # of what is kept of a message: its body as it came
_PAUSES = Retry(attempts=None, base=0.1, cap=10.0, on=Exception)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens to a channel.

    `id` names it in logs, in the inbox and among dead letters, and has no colon; `decode` makes the
    argument of `handle` from a body and raises, say ValueError, if it cannot. With `broadcast` every process hears every message; otherwise the processes of one group compete.
    At most `concurrency` messages are handled at a time; `timeout` is in seconds.
    """

    id: str
    channel: str
    decode: Callable[[bytes], object]
    handle: Callable[[Any], Awaitable[object]]
    broadcast: bool = False
    concurrency: int = 16
    retry: Retry = DELIVERIES
    timeout: float | None = TIMEOUT

    def __post_init__(self) -> None:
        if ":" in self.id:
            raise ValueError(f"the listener's id {self.id!r} has a colon, which stands for a channel of a transport")


class ListenerRoute(Route):
    """The route to a listener."""

    entry = True
    version = BODY_VERSION

    def __init__(self, runtime: Runtime, listener: Listener) -> None:
        async def invoke(_: object, message: object) -> object:
            return await listener.handle(message)

        chain = compile_chain(invoke, runtime.middleware)
        super().__init__(runtime, listener.id, listener.retry, invoke, listener.timeout, chain)
        self.listener = listener

    def decode(self, row: Row) -> Any:
        return self.read(row.body)

    def read(self, body: bytes) -> Any:
        """The argument of the listener. Raises `Undecodable`."""
        try:
            return self.listener.decode(body)
        except Exception as error:
            raise Undecodable(f"the body does not fit: {error}") from error


class Runner:
    """The listeners of one transport in this process."""

    def __init__(self, runtime: Runtime, transport: Transport, listeners: Sequence[Listener], *, group: str) -> None:
        for listener in listeners:
            _require(transport.caps, listener)
        self._runtime = runtime
        self._transport = transport
        self._group = group
        self._routes = {listener: ListenerRoute(runtime, listener) for listener in listeners}
        for listener, route in self._routes.items():
            if not listener.broadcast:
                runtime.listen(route)
        self._readers: list[asyncio.Task[None]] = []
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._draining = False

    async def start(self) -> None:
        """Begin to listen. Returns at once: a broker that is down is tried again until it is there."""
        if not self._readers:
            loop = asyncio.get_running_loop()
            self._readers = [loop.create_task(self._read(listener)) for listener in self._routes]

    @property
    def ticking(self) -> bool:
        """Whether every listener is listening or trying to."""
        return bool(self._readers) and not any(task.done() for task in self._readers)

    async def drain(self, deadline: float) -> None:
        """Stop reading, finish what runs within `deadline` seconds and give the rest back."""
        self._draining = True
        if self._running:
            await asyncio.wait([*self._running], timeout=deadline)
        await end([*self._running, *self._readers])
        self._readers = []

    async def _read(self, listener: Listener) -> None:
        failures = 0
        while True:
            try:
                await self._transport.start()
                async for delivery in self._deliveries(listener):
                    failures = 0
                    self._begin(listener, delivery)
            except Exception as error:  # noqa: BLE001 - a listener never dies
                failures += 1
                pause = _PAUSES.again(error, failures, 0.0) or _PAUSES.cap
                logger.warning("listening to %r failed with %r; again in %.3g s", listener.channel, error, pause)
                await asyncio.sleep(pause)

    async def _deliveries(self, listener: Listener) -> AsyncGenerator[Delivery]:
        group = None if listener.broadcast else self._group
        source = self._transport.receive(listener.channel, group=group, prefetch=listener.concurrency)
        try:
            async for delivery in source:
                reach("received")
                if self._draining:
                    await delivery.release()
                    await asyncio.Event().wait()  # nothing more is taken; closing the source would lose what runs
                yield delivery
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def _begin(self, listener: Listener, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._handle(listener, delivery))
        self._running[task] = delivery
        task.add_done_callback(self._running.pop)

    async def _handle(self, listener: Listener, delivery: Delivery) -> None:
        """One message, settled whatever happens."""
        try:
            try:
                message = self._routes[listener].read(delivery.message.body)
            except Undecodable as error:
                logger.error("%s: message %s: %s", listener.id, delivery.message.id, error)
                await self._give_up(listener, delivery, delivery.attempt, storable(str(error)))
                return
            call = self._call(listener, delivery, message)
            reason = await self._attempts(listener, call)
            if reason is None:
                reach("listened")
                await delivery.ack()
                reach("acked")
            else:
                await self._give_up(listener, delivery, call.attempt, reason)
        except CancelledError:
            await delivery.release()
            raise
        except Exception:
            logger.exception("%s: message %s could not be settled", listener.id, delivery.message.id)

    async def _give_up(self, listener: Listener, delivery: Delivery, attempts: int, reason: str) -> None:
        """Make the message a dead letter; until it is stored it stays in our hands."""
        journal, failures = self._runtime.journal, 0
        if journal is None or listener.broadcast:
            await delivery.park(reason)
            return
        row = _dead_row(listener, delivery, max(1, attempts), reason)
        while True:
            try:
                await journal.bury([row])
                break
            except Exception as error:  # noqa: BLE001 - whatever keeps it from being stored, it is tried again
                failures += 1
                pause = _PAUSES.again(error, failures, 0.0) or _PAUSES.cap
                logger.warning("%s: storing dead letter %s failed with %r", listener.id, row.id, error)
                await asyncio.sleep(pause)
        reach("buried")
        await delivery.ack()

    async def _attempts(self, listener: Listener, call: Call) -> str | None:
        """Run the listener until it succeeds or will not: then the reason."""
        began = time.time()
        while True:
            try:
                await self._attempt(call)
                return None
            except (Discard, AlreadyHandled) as error:
                logger.info("%s: message %s needs nothing: %s", listener.id, call.id, error)
                return None
            except (Exception, CancelledError) as error:
                if isinstance(error, CancelledError) and is_cancelled():
                    raise
                call.rollback()
                delay = listener.retry.again(error, call.attempt, time.time() - began)
                if delay is None:
                    logger.error("%s failed for %r", listener.id, call.message, exc_info=error)
                    return reason_of(error)
                logger.warning("%s failed with %r; again in %.3g s", listener.id, error, delay)
            await asyncio.sleep(delay)
            call.restart()
            call.attempt += 1

    async def _attempt(self, call: Call) -> None:
        runtime = self._runtime
        if call.inbox is not None and runtime.journal is not None:
            seen = await runtime.journal.seen(*call.inbox)
            if seen is not None:
                raise AlreadyHandled(f"its effect was stored at {seen.at:%Y-%m-%d %H:%M:%S}")
        token = running.set(call)
        try:
            if runtime.open_unit is None:
                await call.route.run(None, call)
            else:
                async with runtime.open_unit(call):
                    await call.route.run(None, call)
            if call.pending:
                await flush(runtime, call)
        finally:
            running.reset(token)
        await runtime.dispatcher.drain(call.take_ready())

    def _call(self, listener: Listener, delivery: Delivery, message: object) -> Call:
        sent = delivery.message
        call = call_of(self._routes[listener], message)
        call.attempt = max(1, delivery.attempt)
        call.identify(
            sent.id,
            correlation=sent.headers.get("correlationid"),
            causation=sent.headers.get("causationid"),
            time=_time(sent.headers),
            traceparent=sent.headers.get("traceparent"),
        )
        if not listener.broadcast:
            call.inbox = (sent.id, listener.id)
        return call


def _require(caps: Caps, listener: Listener) -> None:
    needs = "broadcast" if listener.broadcast else "groups"
    if not getattr(caps, needs):
        what = "reach every process" if listener.broadcast else "share messages among processes"
        raise CapabilityError(f"{listener.id}: the transport of channel {listener.channel!r} cannot {what} ({needs})")


def _dead_row(listener: Listener, delivery: Delivery, attempts: int, reason: str) -> Row:
    """A message that a listener gave up, as the row that is kept of it."""
    sent = delivery.message
    made = _time(sent.headers)
    headers = {**sent.headers, "channel": listener.channel, "time": repr(time.time() if made is None else made)}
    if sent.key is not None:
        headers["key"] = sent.key
    return Row(
        id=sent.id,
        target=listener.id,
        type=sent.type,
        version=BODY_VERSION,
        body=sent.body,
        correlation_id=sent.headers.get("correlationid") or sent.id,
        parent_id=sent.headers.get("causationid"),
        headers=headers,
        attempts=attempts,
        error=reason,
    )


def _time(headers: Mapping[str, str]) -> float | None:
    try:
        return datetime.fromisoformat(headers["time"]).timestamp()
    except (KeyError, ValueError):
        return None
