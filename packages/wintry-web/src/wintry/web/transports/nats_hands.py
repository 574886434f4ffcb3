"""What a listener holds, and how it is settled.

What was given out stays with the broker until it is acknowledged; it is given to another when its lease ends, so it is
renewed. While the broker is away an acknowledgement, and a burial, waits for it and is sent again until it is
answered: it has happened, and the message must not be handled once more because of it. Each can be repeated, since
acknowledging twice does nothing, and a dead letter carries an id that the broker knows. The letter is stored before
its message is ended, so that a process that dies in between leaves both. What is given back, on the contrary, is tried
once: if that fails its lease ends by itself.

The broker counts each time that it gives a message out. A release leaves a note of how many of them do not count; the
next who is given the message subtracts it. Whose lease has ended gives nothing back: it is in other hands.

A broker that is killed may forget what it gave out last. It then answers nothing for such a message, and gives it out
once more as if it were new: what is still held here is known by its place and stays as it is, and what was dealt with
meanwhile is acknowledged instead of being handled again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from nats.aio.msg import Msg

from wintry.bus.transports import TransportMessage

from .nats_client import LOST, REPLY, Connection, Refused, Session, has_come, taken, wait_before
from .nats_streams import MISSING, make_dead_stream, make_notes, note_of
from .nats_wire import MESSAGE_ID, Place, buried, dead_subject_of, decoded, size_of, stream_of, written

logger = logging.getLogger("wintry.web")

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
TERM: Final = b"+TERM"
PROGRESS: Final = b"+WPI"


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """That a listener has joined its group, on a connection; `created` tells the consumer from an earlier one."""

    session: Session
    created: str


@dataclass(slots=True, eq=False)
class Held:
    """One message: where to answer for it, since when its lease runs, and as what it was given out.

    It stays the same when the broker gives the message out once more while it is held.
    """

    sequence: int
    reply: str
    since: float
    joint: Joint | None


class Hands:
    """What one listener holds, by the places of the messages: `limit` at most."""

    def __init__(self, connection: Connection, channel: str, group: str | None, limit: int, lease: float) -> None:
        self.connection = connection
        self.channel = channel
        self.group = group
        self.name = None if group is None else written(group)
        self.lease = lease
        self.held: dict[str, Held] = {}
        self.done: set[str] = set()  # what was dealt with, and forgotten by the broker
        self.joint: Joint | None = None
        self.closed = False
        self._limit = limit
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more may be given out."""
        return self._limit - len(self.held)

    async def free(self) -> None:
        """Wait until there is room; for ever when the listener has gone."""
        while self.room <= 0 or self.closed:
            self._changed.clear()
            await self._changed.wait()

    def hold(self, message: Msg) -> bool:
        """Take it; False if it is held already, and was given out once more."""
        place = Place.of(message.reply)
        name = str(place)
        if name in self.done:
            return False
        held = self.held.get(name)
        if held is None:
            self.held[name] = Held(place.sequence, message.reply, _now(), self.joint)
            return True
        held.reply, held.since, held.joint = message.reply, _now(), self.joint
        return False

    def is_done(self, message: Msg) -> bool:
        """Whether it was dealt with before the broker gave it out once more."""
        return str(Place.of(message.reply)) in self.done

    def let_go(self, place: str, held: Held) -> None:
        """There is room for another one."""
        if self.held.get(place) is held:
            del self.held[place]
        self._changed.set()

    def is_mine(self, held: Held) -> bool:
        """Whether nobody else can have been given it meanwhile."""
        return _now() - held.since < self.lease

    def doubt(self) -> None:
        """Have the broker asked what it knows of what it gave out until now."""
        if self.joint is not None:
            self.joint = Joint(self.joint.session, self.joint.created)

    async def knows(self, session: Session, held: Held) -> bool:
        """Whether the broker knows that it has given this out; asked only if one of them has changed."""
        if held.joint is self.joint and (held.joint is None or held.joint.session is session):
            return True
        try:
            info = await session.api(f"CONSUMER.INFO.{stream_of(self.channel)}.{self.name}")
        except Refused as error:
            if error.code in MISSING:
                return False
            raise
        created = held.joint.created if held.joint is not None else ""
        return bool(info["created"] == created and info["delivered"]["stream_seq"] >= held.sequence)

    async def insist(self, doing: str, work: Callable[[Session], Awaitable[None]]) -> None:
        """Do something that must happen, as soon as the broker is there; not any more when the listener has gone."""
        failures = 0
        while not self.closed:
            try:
                await work(await self.connection.session())
                return
            except LOST as error:
                failures += 1
                await wait_before(failures, f"{doing} in {self.channel!r}", error)

    async def renew(self, session: Session) -> None:
        """Begin the lease of what is held anew, as far as it has not ended."""
        if self.group is not None:
            mine = [each for each in self.held.values() if self.is_mine(each)]
            held = [each for each in mine if await self.knows(session, each)]
            began = _now()
            sent = [(each, await session.send(each.reply, PROGRESS)) for each in held]
            if sent:
                await asyncio.wait([answer for _, answer in sent], timeout=REPLY)
            for each, answer in sent:
                if has_come(answer):
                    each.since = began
                answer.cancel()

    async def give_all_back(self, session: Session) -> None:
        """Let others have everything, in the order in which it came."""
        held = [each.reply for each in self.held.values() if self.is_mine(each)]
        self.held.clear()
        if self.group is not None:
            await tell(session, NAK, held)


class NatsDelivery:
    """One message in the hands of one listener."""

    def __init__(self, hands: Hands, message: Msg, attempt: int) -> None:
        self.attempt = attempt
        self._hands = hands
        self._place = Place.of(message.reply)
        self._held = hands.held[str(self._place)]
        self._headers = message.headers or {}
        self.message: TransportMessage = decoded(hands.channel, str(self._place), self._headers, message.data)
        self._settling = False

    async def ack(self) -> None:
        """It is dealt with; a broker that is away is waited for."""
        await self._settle(partial(self._hands.insist, "acknowledging", partial(self._end, ACK)))

    async def park(self, reason: str) -> None:
        """It goes to the dead letters; a broker that is away is waited for."""
        if self._hands.group is None:
            logger.error("%r: message %s is dropped: %s", self._hands.channel, self.message.id, reason)
        await self._settle(partial(self._hands.insist, "burying", partial(self._bury, reason)))

    async def release(self) -> None:
        """It is given back; if the broker is away, when the lease ends."""
        await self._settle(self._release)

    async def _settle(self, work: Callable[[], Awaitable[None]]) -> None:
        """Settle once; a message that everybody hears belongs to nobody, and there is nothing to settle."""
        hands, place = self._hands, str(self._place)
        if self._settling or hands.closed or hands.held.get(place) is not self._held:
            return
        self._settling = True
        try:
            if hands.group is not None:
                await work()
        except BaseException:
            self._settling = False  # it was interrupted, and can be settled in another way
            raise
        hands.let_go(place, self._held)

    async def _end(self, word: bytes, session: Session) -> None:
        """It is not to be given out again."""
        hands, place = self._hands, str(self._place)
        if place not in hands.held:  # the listener has just gone, and has given it back
            return
        if await hands.knows(session, self._held):
            try:
                await tell(session, word, [self._held.reply])
            except Refused:
                hands.doubt()  # it does not know the group; ask it what it does know
                raise
        else:
            logger.warning("%r: the broker has forgotten that it gave message %s out", hands.channel, self.message.id)
            hands.done.add(place)

    async def _bury(self, reason: str, session: Session) -> None:
        hands = self._hands
        assert hands.group is not None
        headers = buried(self._headers, self.message.id, hands.group, reason)
        headers[MESSAGE_ID] = f"{hands.name}.{self._place}"
        body = self.message.body
        if over := max(0, size_of(headers, body) - session.client.max_payload):
            logger.error("%r: dead letter %s loses the last %d bytes of its body", hands.channel, self.message.id, over)
            body = body[:-over]
        subject = dead_subject_of(hands.channel)
        answer = await session.request(subject, body, headers)
        if answer is None:  # there is no stream yet
            await make_dead_stream(session, hands.channel)
            answer = await session.request(subject, body, headers)
        if answer is None:
            raise ConnectionError(f"nats: nobody keeps what is sent to {subject}")
        taken(answer)
        await self._end(TERM, session)

    async def _release(self) -> None:
        hands, session = self._hands, self._hands.connection.current
        if not hands.is_mine(self._held):
            return
        try:
            if session is None:
                raise ConnectionError("nats: the broker is away")
            await self._note(session)
            # From now on it may come again, also to this listener, and before the answer does.
            hands.let_go(str(self._place), self._held)
            if await hands.knows(session, self._held):
                await tell(session, NAK, [self._held.reply])
        except LOST as error:
            logger.warning("%s; what was to be given back is given to others when its lease ends", error)

    async def _note(self, session: Session) -> None:
        """Of the times that the broker has given it out, all but those before this one count no more."""
        assert self._hands.name is not None
        subject = note_of(self._hands.channel, self._hands.name, self._place)
        count = str(self._place.delivered - self.attempt + 1).encode()
        answer = await session.request(subject, count)
        if answer is None:
            await make_notes(session)
            answer = await session.request(subject, count)
        if answer is not None:
            taken(answer)


async def tell(session: Session, word: bytes, replies: Iterable[str]) -> None:
    """Answer for messages, and wait until the broker has taken it. Raises ConnectionError and Refused."""
    sent = [await session.send(reply, word) for reply in replies]
    try:
        for each in sent:
            if await session.answer(each) is None:
                # The consumer is gone, and with it what it had given out, or the broker is about to start it.
                raise Refused({"description": "the broker does not know this consumer now"})
    finally:
        for each in sent:
            each.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
