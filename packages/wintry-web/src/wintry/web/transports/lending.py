"""What is common to the brokers that lend messages, Redis and NATS: what a listener holds, and how it is settled.

What was given out stays with the broker. Whoever holds it has it for the time of a lease and renews that, three times
in a lease (`Lender`); what nobody has renewed is given to another. While the broker is away an acknowledgement, and a
burial, waits for it and is sent again until it is taken: it has happened, and the message must not be handled once more
because of it. So a broker's way to do either can be repeated. What is given back, on the contrary, is tried once: if
that fails its lease ends by itself.

A broker brings a `Reading`, which asks for as much as its `Hands` have room for, and a `Loan` for each message that
came. A listener that has gone, or whose transport has stopped, takes nothing more and settles nothing.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from wintry.bus.transports import TransportMessage

from .waiting import wait_before

logger = logging.getLogger("wintry.web")

LEAVING: Final = 10.0
"""How many seconds a listener that goes may take to give back what it holds."""

HELD = TypeVar("HELD", bound=Collection[Any])
HANDS = TypeVar("HANDS", bound="Hands[Any]")
READING = TypeVar("READING", bound="Reading")


class Hands(ABC, Generic[HELD]):
    """What one listener holds: `limit` at most. A listener without a `group` hears everything, and holds it for itself."""

    broker: ClassVar[str]
    lost: ClassVar[tuple[type[Exception], ...]]
    """What a broker that is away, starts or is misconfigured raises."""

    def __init__(self, channel: str, group: str | None, limit: int, held: HELD) -> None:
        self.channel = channel
        self.group = group
        self.held = held
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

    def freed(self) -> None:
        """There is room for another one."""
        self._changed.set()

    async def insist(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that must happen, as soon as the broker is there; not any more when the listener has gone."""
        failures = 0
        while not self.closed:
            try:
                await work()
                return
            except self.lost as error:
                failures += 1
                await wait_before(self.broker, failures, f"{doing} in {self.channel!r}", error)

    @abstractmethod
    async def renew(self) -> None:
        """Begin the leases of what is held anew, unless it has come into other hands. Raises ConnectionError."""


class Loan(ABC, Generic[HANDS]):
    """One message in the hands of one listener."""

    def __init__(self, hands: HANDS, message: TransportMessage, attempt: int) -> None:
        self.message = message
        self.attempt = attempt
        self._hands = hands
        self._settling = False

    async def ack(self) -> None:
        """It is dealt with; a broker that is away is waited for."""
        await self._settle(partial(self._hands.insist, "acknowledging", self._acknowledge))

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
        hands = self._hands
        if self._settling or hands.closed or not self._is_held():
            return
        self._settling = True
        try:
            if hands.group is not None:
                await work()
        except BaseException:
            self._settling = False  # it was interrupted, and can be settled in another way
            raise
        self._let_go()

    async def _release(self) -> None:
        try:
            await self._give_back()
        except self._hands.lost as error:
            broker = self._hands.broker
            logger.warning("%s: giving back failed with %s; others are given it when its lease ends", broker, error)

    @abstractmethod
    def _is_held(self) -> bool:
        """Whether the listener still has it."""

    @abstractmethod
    def _let_go(self) -> None:
        """Make room for another one."""

    @abstractmethod
    async def _acknowledge(self) -> None:
        """It is not to be given out again."""

    @abstractmethod
    async def _bury(self, reason: str) -> None:
        """Make a dead letter of it, and acknowledge it."""

    @abstractmethod
    async def _give_back(self) -> None:
        """Let another have it, its attempt not counted."""


class Reading(Protocol):
    """The reading of one listener."""

    @property
    def hands(self) -> Hands[Any]: ...

    async def read(self) -> Sequence[Loan[Any]]:
        """What came, none after a while without any. Raises what is in `lost`, after which it may be asked again."""
        ...

    async def leave(self) -> None:
        """Take nothing more, and give back what is held. Raises what is in `lost`."""
        ...


class Lender(ABC, Generic[READING]):
    """The life of a transport whose messages are lent, for `lease` seconds: its listeners and what they hold."""

    broker: ClassVar[str]
    lost: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, *, lease: float) -> None:
        self.lease = lease
        self._readings: set[READING] = set()
        self._channels: set[str] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to renew what listeners hold. A broker that is down is connected to once it is there."""
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect; what is held is free for others at once."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        for reading in self._readings:
            self._leave(reading)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._disconnect()

    @abstractmethod
    async def _disconnect(self) -> None:
        """Nothing more is asked of the broker."""

    @abstractmethod
    async def _tidy(self, channel: str) -> None:
        """Remove what is old, and what every group has done with. Raises ConnectionError."""

    async def _lent(self, channel: str, reading: READING) -> AsyncGenerator[Loan[Any]]:
        """What a listener is given, as it comes. A broker that is away is waited for."""
        hands = reading.hands
        self._channels.add(channel)
        self._readings.add(reading)
        try:
            failures = 0
            while True:
                await hands.free()
                try:
                    given = await reading.read()
                except self.lost as error:
                    if not hands.closed:
                        failures += 1
                        await wait_before(self.broker, failures, f"listening to {channel!r}", error)
                    continue
                failures = 0
                if hands.closed:  # meanwhile
                    self._spawn(reading.leave())
                    continue
                for loan in given:
                    yield loan
        finally:
            self._readings.discard(reading)
            self._leave(reading)

    def _leave(self, reading: READING) -> None:
        if not reading.hands.closed:
            reading.hands.closed = True
            self._spawn(reading.leave())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end that nobody waits for; `stop` does."""

        async def done() -> None:
            try:
                async with asyncio.timeout(LEAVING):
                    await work
            except Exception as error:  # noqa: BLE001 - nobody waits for it
                logger.warning("%s: %r; what is still held is given to others when its lease ends", self.broker, error)

        task = asyncio.get_running_loop().create_task(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """Three times in a lease: renew, and see to what is over."""
        while True:
            await asyncio.sleep(self.lease / 3)
            try:
                for reading in [*self._readings]:
                    await self._seen_to(reading.hands.channel, reading.hands.renew())
                for channel in [*self._channels]:
                    await self._seen_to(channel, self._tidy(channel))
            except ConnectionError as error:
                logger.warning("%s: renewing failed with %s; it is tried again", self.broker, error)

    async def _seen_to(self, channel: str, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of what is due: what is wrong with it keeps no other from being done, but a broker that is away."""
        try:
            await work
        except ConnectionError:
            raise
        except Exception:
            logger.exception("%s: renewing in %r failed; it is tried again", self.broker, channel)
