"""What a listener holds of a stream, and how it is settled (`lending`).

Acknowledging twice does nothing, and a dead letter carries an id that the broker knows, so that both can be repeated.
The letter is stored before its message is ended: a process that dies in between leaves both.

The broker counts each time that it gives a message out. A release leaves a note of how many of them do not count; the
next who is given the message subtracts it. Whose lease has ended gives nothing back: it is in other hands.

A broker that is killed may forget what it gave out last. It then answers nothing for such a message, and gives it out
once more as if it were new: what is still held here is known by its place and stays as it is, and what was dealt with
meanwhile is acknowledged instead of being handled again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg

from .lending import Hands, Loan
from .nats_client import LOST, REPLY, Connection, Refused, Session, has_come, taken
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


class NatsHands(Hands[dict[str, Held]]):
    """What one listener holds, by the places of the messages."""

    broker = "nats"
    lost = LOST

    def __init__(self, connection: Connection, channel: str, group: str | None, limit: int, lease: float) -> None:
        super().__init__(channel, group, limit, {})
        self.connection = connection
        self.name = None if group is None else written(group)
        self.lease = lease
        self.done: set[str] = set()  # what was dealt with, and forgotten by the broker
        self.joint: Joint | None = None

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
        self.freed()

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

    async def renew(self) -> None:
        """Begin the leases of what is held anew, as far as they have not ended."""
        mine = [each for each in self.held.values() if self.is_mine(each)]
        if self.group is None or not mine:
            return
        session = await self.connection.session()
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


class NatsDelivery(Loan[NatsHands]):
    """One message in the hands of one listener."""

    def __init__(self, hands: NatsHands, message: Msg, attempt: int) -> None:
        self._place = Place.of(message.reply)
        self._held = hands.held[str(self._place)]
        self._headers = message.headers or {}
        super().__init__(hands, decoded(hands.channel, str(self._place), self._headers, message.data), attempt)

    def _is_held(self) -> bool:
        return self._hands.held.get(str(self._place)) is self._held

    def _let_go(self) -> None:
        self._hands.let_go(str(self._place), self._held)

    async def _acknowledge(self) -> None:
        await self._end(ACK, await self._hands.connection.session())

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

    async def _bury(self, reason: str) -> None:
        hands, session = self._hands, await self._hands.connection.session()
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

    async def _give_back(self) -> None:
        hands, session = self._hands, self._hands.connection.current
        if not hands.is_mine(self._held):
            return
        if session is None:
            raise ConnectionError("nats: the broker is away")
        await self._note(session)
        self._let_go()  # from now on it may come again, also to this listener, and before the answer does
        if await hands.knows(session, self._held):
            await tell(session, NAK, [self._held.reply])

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
