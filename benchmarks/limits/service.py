"""The limit of the whole service: the same two endpoints by hand, on Starlette and a client of each database.

It promises what ours does: the order's line, the record of the command and the rows of its event are one transaction;
each of the event's two deliveries is one transaction with its own record; an answer is sent when the view has the line
and the announcements have left; a process that dies leaves leased rows, which `Deliveries.recover` takes over; events of
one product are handled in the order of their commits. What Wintry does for every application (retries, timeouts, dead
letters, idempotency keys, health) it lacks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, Protocol
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid4, uuid5
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.limits import web

LEASE_MS = 40_000
SOON = 0.005  # seconds in which what is done gathers, so that it is noted together
LISTENING = "board_changed"
logger = logging.getLogger("limit.service")

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
text = TypeAdapter[str](Text)


class Allocate(BaseModel):
    orderid: Text
    sku: Text
    qty: Annotated[int, Field(strict=True, gt=0, le=2**31 - 1)]


# ---- the domain


@dataclass(slots=True)
class Line:
    qty: int
    orderid: str
    sku: str
    allocated_at: datetime


@dataclass(slots=True)
class Batch:
    sku: str
    purchased_quantity: int
    reference: str
    eta: date | None
    lines: list[Line] = field(default_factory=list)

    def can_allocate(self, line: Line) -> bool:
        return self.sku == line.sku and self.purchased_quantity - sum(each.qty for each in self.lines) >= line.qty


class LineConflict(Exception):
    """The line is allocated already, with another quantity."""


@dataclass(slots=True)
class Product:
    sku: str
    version: int
    batches: list[Batch]

    def find_line(self, orderid: str) -> tuple[Batch, Line] | None:
        return next(((b, line) for b in self.batches for line in b.lines if line.orderid == orderid), None)

    def allocate(self, line: Line) -> tuple[str | None, bool]:
        """The reference of the batch that has the line, None if none has enough left; and whether that is new."""
        if (found := self.find_line(line.orderid)) is not None:
            if found[1].qty != line.qty:
                raise LineConflict(f"Line {line.sku} of order {line.orderid} has quantity {found[1].qty}")
            return found[0].reference, False
        for batch in sorted(self.batches, key=lambda each: each.eta or date.min):
            if batch.can_allocate(line):
                batch.lines.append(line)
                return batch.reference, True
        return None, False


class InvalidSku(Exception):
    """No such product."""


# ---- the outbox


@dataclass(slots=True)
class Row:
    """A delivery that is owed: to a handler of ours, or to the broker (`send:CHANNEL`)."""

    id: str
    target: str
    type: str
    body: bytes
    lane: str
    correlation: str
    parent: str
    seq: int = 0


def child(parent: str, number: int) -> str:
    """The same id for the same message, whenever its handler is run again."""
    return hashlib.blake2b(f"{parent}:{number}".encode(), digest_size=16).hexdigest()


def allocated(command: Allocate, message: str, batchref: str) -> list[Row]:
    """The rows of the event, one for each of its handlers."""
    event = {"orderid": command.orderid, "sku": command.sku, "qty": command.qty, "batchref": batchref}
    body, lane = json.dumps(event).encode(), f"service:{command.sku}"
    return [
        Row(child(message, 0), target, "Allocated", body, lane, message, message) for target in ("view", "announce")
    ]


def announcements(row: Row) -> list[Row]:
    """What the rest of the world is told of an event."""
    sku = json.loads(row.body)["sku"]
    told = [("line_allocated", row.body), (LISTENING, json.dumps({"sku": sku}).encode())]
    return [
        Row(child(row.id, number), f"send:{channel}", channel, body, f"{channel}:{sku}", row.correlation, row.id)
        for number, (channel, body) in enumerate(told)
    ]


def headers() -> str:
    return json.dumps({"time": str(time.time())})


def view_id(orderid: str, sku: str) -> str:
    return uuid5(NAMESPACE_URL, json.dumps([orderid, sku])).hex


class Store(Protocol):
    """The statements, on one kind of databases."""

    async def place(self, command: Allocate, message: str, line: Line) -> tuple[str | None, list[Row]]:
        """The command's unit; gives the rows of its event that are leased to us."""
        ...

    async def write_view(self, row: Row) -> None: ...

    async def announce(self, row: Row) -> list[Row]:
        """Give the sends that are leased to us."""
        ...

    async def send(self, rows: Sequence[Row]) -> None: ...

    async def close_rows(self, seqs: Sequence[int]) -> None: ...

    async def claim(self) -> Sequence[Row]:
        """Rows that are nobody's, or whose owner is gone."""
        ...

    async def allocations(self, orderid: str) -> list[web.Row]: ...

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Hear, for as long as the process lives, which products change."""
        ...


class Deliveries:
    """Runs what is owed; events of one product one after another, and so what is sent of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.background: set[asyncio.Task[None]] = set()
        self.done: list[int] = []
        self.closing: asyncio.Task[None] | None = None

    def lane(self, name: str) -> asyncio.Lock:
        lock = self.lanes.get(name)
        if lock is None:
            lock = self.lanes[name] = asyncio.Lock()
        return lock

    async def run(self, rows: Sequence[Row]) -> None:
        """Deliver the rows of one event. Where its lane is busy nobody waits for that."""
        if not rows:
            return
        lane = self.lane(rows[0].lane)
        if not lane.locked():
            return await self._run(lane, rows)
        task = asyncio.create_task(self._run(lane, rows))
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return None

    async def _run(self, lane: asyncio.Lock, rows: Sequence[Row]) -> None:
        """One that fails is logged and stays, until its lease is over."""
        sends: list[Row] = []
        try:
            async with lane:
                for row in rows:
                    sends += await self.deliver(row)
            if sends:
                async with self.lane(sends[0].lane):
                    await self.store.send(sends)
                self.close(*sends)
        except Exception:
            logger.exception("a delivery of %r failed", rows[0].id)

    async def deliver(self, row: Row) -> list[Row]:
        """Give what is to be sent then."""
        sends: list[Row] = []
        if row.target == "view":
            await self.store.write_view(row)
        elif row.target == "announce":
            sends = await self.store.announce(row)
        else:
            await self.store.send([row])
        self.close(row)
        return sends

    def close(self, *rows: Row) -> None:
        """Note that they are done, together with whatever else is by the time it is stored."""
        self.done += [row.seq for row in rows]
        if self.closing is None:
            self.closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        try:
            while self.done:
                await asyncio.sleep(SOON)
                seqs, self.done = self.done, []
                await self.store.close_rows(seqs)
        finally:
            self.closing = None

    async def recover(self) -> None:
        """Look for what others have left, ever more seldom while there is nothing."""
        pause = 0.05
        while True:
            await asyncio.sleep(pause)
            try:
                rows = await self.store.claim()
            except Exception:
                logger.exception("could not look for what is left")
                rows = []
            for row in rows:
                await self.run([row])
            pause = 0.05 if rows else min(0.5, pause * 2)


# ---- over HTTP


class Endpoints:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.deliveries = Deliveries(store)

    async def allocate(self, request: Request) -> Response:
        web.check(request)
        try:
            command = Allocate.model_validate_json(await web.read(request))
        except ValidationError as error:
            return web.invalid(error, request.url.path)
        line = Line(command.qty, command.orderid, command.sku, datetime.now(UTC))
        try:
            batchref, rows = await self.store.place(command, uuid4().hex, line)
        except InvalidSku:
            return web.answer(web.Text(message=f"Invalid sku {command.sku}", status_code=400), 400)
        except LineConflict as error:
            return web.problem(409, str(error), request.url.path)
        if batchref is None:
            return web.problem(409, f"Out of stock for sku {command.sku}", request.url.path)
        logger.info("Allocated %s", line)
        await self.deliveries.run(rows)
        response = web.answer(web.Text(data="Allocated", status_code=202), 202)
        response.headers["location"] = f"/allocations/{quote(command.orderid, safe='')}"
        return response

    async def allocations(self, request: Request) -> Response:
        web.check(request)
        try:
            orderid = text.validate_python(request.path_params["orderid"])
        except ValidationError as error:
            return web.invalid(error, request.url.path)
        rows = await self.store.allocations(orderid)
        if not rows:
            return web.problem(404, orderid, request.url.path)
        return web.answer(web.Rows(data=rows))


def application(opened: Callable[[], AbstractAsyncContextManager[Store]]) -> ASGIApp:
    """The service over the store that the asynchronous context manager `opened()` gives."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s: %(asctime)s | %(message)s")
    made: list[Endpoints] = []
    watched: set[str] = set()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened() as store, logged.running():
            made[:] = [Endpoints(store)]
            tasks = [asyncio.create_task(store.listen(watched.add)), asyncio.create_task(made[0].deliveries.recover())]
            yield
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.gather(*made[0].deliveries.background)
            if made[0].deliveries.closing is not None:
                await made[0].deliveries.closing

    def endpoint(method: Callable[[Endpoints, Request], Awaitable[Response]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            return await method(made[0], request)

        return answer

    starlette = Starlette(
        routes=[
            Route("/allocate", endpoint(Endpoints.allocate), methods=["POST"]),
            Route("/allocations/{orderid}", endpoint(Endpoints.allocations)),
        ],
        exception_handlers={HTTPException: web.http_error, Exception: web.failed},
        lifespan=lifespan,
    )
    logged = web.AccessLog(starlette)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (logged if scope["type"] == "http" else starlette)(scope, receive, send)

    return app
