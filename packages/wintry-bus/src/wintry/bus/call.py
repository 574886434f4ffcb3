"""One run of one handler: what belongs to it and to nothing else.

Every attempt is a `Call` of its own, and the context variable here holds the one that runs. What a handler registers
is kept on its call, so that a queue object shared by all tasks keeps nothing. The life of a registered message:

    register → pending → (the unit flushes) rows → staged → (the unit has committed) commit → ready → delivered

`rollback` forgets what was staged or pending; an exception forgets what is pending. Ids are made when somebody asks:
a random one for an entry, for a child the hash of its parent's id, its parent's handler and its number there, so that
a handler that runs again makes the same children. A call keeps its parent only until it has children itself.
"""

from __future__ import annotations

import json
import os
import time
from asyncio import Task
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from .contracts import encode
from .errors import NotInHandler
from .journal.journal import Row
from .messages import Envelope, Message

if TYPE_CHECKING:
    from .routes import Route

Pending = tuple["Message | Outgoing", datetime | None, int]  # what, when, and its number among its parent's

_NOTHING: Final[list[Pending]] = []  # never changed: the first message makes a list of the call's own

running: ContextVar[Call | None] = ContextVar("wintry.bus.call", default=None)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Data that leaves over a transport once its handler has committed."""

    transport: str
    channel: str
    body: bytes
    key: str | None = None


class Call:
    """One attempt of one route with one message, made by `call_of`."""

    route: Route
    message: Any
    parent: Call | None
    number: int  # among its parent's
    attempt = 1
    commits = 0
    open = False
    settled: bool  # its row is closed, or another will deliver it
    waiting = False  # in its lane, for a worker to run it
    lane: str | None
    row: Row | None
    due: datetime | None
    traceparent: str | None
    inbox: tuple[str, str] | None = None
    scope: Any = None
    task: Task[Any] | None = None  # runs it, while its timeout counts
    expired = False
    doubtful = False  # an attempt ended with a commit under way, and what became of it is not known
    running_in: set[Any]
    result: Any = None  # of the handler, once it has returned
    pending: list[Pending]
    ready: Sequence[Call]
    staged: Sequence[Call] = ()
    leaving: Sequence[Message | Outgoing] = ()  # what observers are told of at the commit
    _count = 0
    _id: str | None = None
    _correlation: str | None = None
    _causation: str | None = None
    _time: float | None = None

    # identity

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same in every attempt."""
        if self._id is None:
            self._id = random_id() if self.parent is None else child_id(self.parent, self.number)
        return self._id

    @property
    def entry(self) -> bool:
        """Whether it is a listener's: the commands that it handles begin a chain of deliveries of their own."""
        return self.route.entry

    @property
    def correlation_id(self) -> str:
        if self._correlation is None:
            self._correlation = self.id if self.parent is None else self.parent.correlation_id
        return self._correlation

    @property
    def causation_id(self) -> str | None:
        return self._causation if self.parent is None else self.parent.id

    @property
    def time(self) -> float:
        """When the message was made, in seconds since the epoch."""
        if self._time is None:
            self._time = time.time()
        return self._time

    @property
    def envelope(self) -> Envelope:
        return Envelope(
            message=self.message,
            id=self.id,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            attempt=self.attempt,
            time=datetime.fromtimestamp(self.time, UTC),
            handler=self.route.target,
            traceparent=self.traceparent,
        )

    def identify(
        self, id: str, *, correlation: str | None, causation: str | None, time: float | None, traceparent: str | None
    ) -> None:
        """Give a call that came from outside the process its identity."""
        self._id, self._correlation, self._causation = id, correlation or id, causation
        self._time, self.traceparent = time, traceparent

    def child(self, route: Route, message: Any, number: int) -> Call:
        """The call of a message that this one made as its `number`th."""
        if self.parent is not None:
            self._detach()
        made = call_of(route, message, self, number)
        if self.traceparent is not None:
            made.traceparent = self.traceparent
        return made

    def _detach(self) -> None:
        self._id, self._correlation, self._causation = self.id, self.correlation_id, self.causation_id
        self.parent = None

    @property
    def key(self) -> str | None:
        """The ordering key of the message being handled, which its sends take over."""
        if not isinstance(self.message, Message):
            return None
        name = self.message.__contract__.key
        value = None if name is None else getattr(self.message, name)
        return None if value is None else str(value)

    # what the handler leaves behind

    def next_number(self) -> int:
        number = self._count
        self._count = number + 1
        return number

    def add(self, message: Message | Outgoing, due: datetime | None = None) -> None:
        """A message that leaves when the handler's work is committed."""
        number = self._count
        self._count = number + 1
        if self.pending:
            self.pending.append((message, due, number))
        else:
            self.pending = [(message, due, number)]

    def stage(self) -> list[Call]:
        """Turn what is pending into calls, one for each target."""
        staged: list[Call] = []
        if self.route.runtime.observers:
            self.leaving = [message for message, _, _ in self.pending]
        if self.parent is not None:
            self._detach()
        by_type, targets, traceparent = self.route.by_type, self.route.targets, self.traceparent
        for message, due, number in self.pending:
            for route in by_type.get(type(message)) or targets(message):
                made = call_of(route, message, self, number)
                if route.laned:
                    made.lane = route.lane(message)
                if due is not None:
                    made.due = due
                if traceparent is not None:
                    made.traceparent = traceparent
                staged.append(made)
        self.pending = []
        return staged

    def rows(self) -> list[Row]:
        """What is pending as rows, for the transaction that is about to commit."""
        self.staged = self.stage()
        return [made.make_row() for made in self.staged]

    def commit(self, stored: Sequence[Row] | None = None) -> None:
        """The transaction has committed: what was staged may be delivered.

        `stored` is what the journal returned for the rows; None where there is no journal.
        """
        runtime = self.route.runtime
        if stored is None:
            staged: Sequence[Call] = self.stage()
        else:
            staged, self.staged = self.staged, ()
        self.commits += 1
        if self.leaving:
            runtime.tell_left(self)
        if staged:
            ready = runtime.dispatcher.accept(staged, stored)
            self.ready = [*self.ready, *ready] if self.ready else ready

    def take_ready(self) -> Sequence[Call]:
        """What may be delivered, handed over: a child refers to its parent, and no longer the other way round."""
        ready, self.ready = self.ready, ()
        return ready

    def rollback(self) -> None:
        """The transaction was rolled back: nothing registered since the last commit survives."""
        self.staged = self.leaving = ()
        self.pending = []

    def restart(self) -> None:
        """Forget what an attempt left behind; the next one makes the same ids."""
        self.rollback()
        self._count = 0
        self.settled = self.waiting = False

    def make_row(self) -> Row:
        """This call as a row of the journal."""
        type, version, body = self.route.contract(self.message)
        headers = {"time": repr(self.time)}
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
        if isinstance(self.message, Outgoing) and self.message.key is not None:
            headers["key"] = self.message.key
        return Row(
            id=self.id,
            target=self.route.target,
            type=type,
            version=version,
            body=body,
            correlation_id=self.correlation_id,
            parent_id=self.causation_id,
            lane=self.lane,
            headers=headers,
            due=self.due,
        )

    @staticmethod
    def of_row(route: Route, row: Row) -> Call:
        """The attempt that a claimed row asks for.

        Raises:
            Undecodable: the body does not fit the contract.
        """
        call = call_of(route, route.decode(row))
        call.take(row)
        call.identify(
            row.id,
            correlation=row.correlation_id,
            causation=row.parent_id,
            time=_seconds(row.headers.get("time")),
            traceparent=row.headers.get("traceparent"),
        )
        return call

    def take(self, row: Row) -> None:
        """This call is the delivery of a row that this process has leased."""
        self.row, self.lane, self.attempt = row, row.lane, row.attempts
        self.inbox = (row.id, row.target)


def call_of(route: Route, message: Any, parent: Call | None = None, number: int = 0) -> Call:
    """A call of `message`, which is its parent's `number`th."""
    call = Call()  # a function is faster than an `__init__`
    call.route = route
    call.message = message
    call.parent = parent
    call.number = number
    # What every delivery reads is set here, since a default that stands on the class is found slowly.
    call.pending = _NOTHING
    call.ready = ()
    call.row = call.lane = call.due = call.traceparent = None
    call.settled = False
    return call


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def current() -> Envelope:
    """The envelope of the message that the calling handler or listener was given.

    Raises:
        NotInHandler: none is running here.
    """
    call = running.get()
    if call is None or not call.open:
        raise NotInHandler("current() tells about the message being handled, and no handler is running here")
    return call.envelope


def child_id(parent: Call, number: int) -> str:
    """The stable id of a call's `number`th message."""
    text = f"{parent.id}\0{parent.route.target}\0{number}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


class _Randomness:
    """Random bytes, bought in bulk."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0
        os.register_at_fork(after_in_child=self._refill)

    def _refill(self) -> None:
        self._digits, self._at = os.urandom(4096).hex(), 0

    def __call__(self) -> str:
        at = self._at
        if at >= len(self._digits):
            self._refill()
            at = 0
        self._at = at + 32
        return self._digits[at : at + 32]


random_id = _Randomness()


def encode_data(data: Mapping[str, object]) -> bytes:
    """Data for a channel as JSON; dates and other values that JSON lacks are written as text."""
    return json.dumps(data, default=_as_text, separators=(",", ":")).encode()


def _as_text(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if callable(isoformat) else str(value)


def encode_message(message: Message) -> tuple[str, int, bytes]:
    """Alias, version and body of a message."""
    contract = message.__contract__
    return contract.alias, contract.version, encode(message)
