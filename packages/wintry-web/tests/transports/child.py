"""The services that tests kill: `python -m child serve|listen …`, forked by a nursery that has imported the rest."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from kinds import HASTE, KINDS

from wintry.bus.durable import Durable
from wintry.bus.journal.sql_home import SqlHome
from wintry.bus.settings import BusSettings
from wintry.bus.testing import crash_at
from wintry.bus.transports import Listener, Runner
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository

LEASE = 0.5
TIMES = 3
"""A service that is to die at a point does so when it comes there for the third time."""


class Effect(Model):
    id: str = RequiredId()
    count: int


class Effects(Repository[Effect, str], entity=Effect):
    pass


async def serve(kind: str, url: str, folder: Path) -> None:
    """Count each order that is heard, in a row of its own, and refuse those that are called `bad`; until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Backends(default=f"sqlite:///{folder}/default.db") as backends:
        transport = KINDS[kind].connect(url, f"service:{os.getpid()}", LEASE)
        durable = Durable(
            backends,
            BusSettings(poll_min=0.01, poll_max=0.05),
            journal="default",
            queues={},
            transports={kind: transport},
            default_transport=kind,
        )
        effects = Effects(backends)

        async def handle(order: str) -> None:
            if order == "bad":
                raise LookupError(order)
            effect = await effects.get(order)
            if effect is None:
                await effects.create(entity=Effect(id=order, count=1))
            else:
                effect.count += 1

        await backends.create_schema()
        await durable.prepare()
        listener = Listener("on.order", "orders", decode, handle, concurrency=4)
        runner = Runner(durable.runtime, transport, [listener], group="shop")
        await runner.start()
        await durable.start()
        await over.wait()
        await runner.drain(5.0)
        await durable.drain(5.0)
        await durable.stop()


def decode(body: bytes) -> str:
    order = json.loads(body)["order"]
    if not isinstance(order, str):
        raise ValueError("an order is a text")  # noqa: TRY004 - as decoders do
    return order


def forget_what_was_handled() -> None:
    """Be without an inbox."""

    async def record(*_: object) -> bool:
        return True

    async def find(*_: object) -> None:
        return None

    SqlHome.record = record  # type: ignore[method-assign, assignment]
    SqlHome.find = find  # type: ignore[method-assign, assignment]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def listen(kind: str, url: str, channel: str) -> None:
    """Hear a channel and do nothing, for ever."""
    transport = KINDS[kind].connect(url, f"listener:{os.getpid()}", LEASE)
    await transport.start()
    async for delivery in transport.receive(channel, group="g", prefetch=10):
        await delivery.ack()


def main(do: str, kind: str, url: str, *arguments: str) -> None:
    """`serve KIND URL FOLDER POINT INBOX`: it dies at POINT, if that is one; or `listen KIND URL CHANNEL`."""
    if do == "listen":
        asyncio.run(listen(kind, url, *arguments))
    else:
        folder, point, inbox = arguments
        if inbox == "without":
            forget_what_was_handled()
        with crash_at(point, times=TIMES, act=die) if point else nullcontext():
            asyncio.run(serve(kind, url, Path(folder)))


if __name__ == "__main__":
    for module, name, value in HASTE:
        setattr(module, name, value)
    main(*sys.argv[1:])
