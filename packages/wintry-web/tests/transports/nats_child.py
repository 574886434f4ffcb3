"""A process that tests kill.

    python nats_child.py URL FOLDER POINT MODE     a service on NATS and SQLite; it dies at POINT, if that is not -

The service counts each order that it hears, in a row of its own, and refuses those that are called `bad`. It ends
when there is nothing left to do. MODE is `on`, or `no-inbox` for a control that forgets what it has handled.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import nats

from wintry.bus.durable import Durable
from wintry.bus.journal.sql_home import SqlHome
from wintry.bus.settings import BusSettings
from wintry.bus.testing import crash_at
from wintry.bus.transports import Listener, Runner
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.web.transports.nats import NatsStreams

LEASE = 0.5
TIMES = 3


class Effect(Model):
    id: str = RequiredId()
    count: int


class Effects(Repository[Effect, str], entity=Effect):
    pass


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forget_what_was_handled() -> None:
    async def record(*_: object) -> bool:
        return True

    async def find(*_: object) -> None:
        return None

    SqlHome.record = record  # type: ignore[method-assign, assignment]
    SqlHome.find = find  # type: ignore[method-assign, assignment]


def decode(body: bytes) -> str:
    order = json.loads(body)["order"]
    if not isinstance(order, str):
        raise ValueError("an order is a text")  # noqa: TRY004 - as decoders do
    return order


async def serve(url: str, folder: Path) -> None:
    async with Backends(default=f"sqlite:///{folder}/default.db") as backends:
        transport = NatsStreams(url, lease=LEASE)
        durable = Durable(
            backends,
            BusSettings(poll_min=0.01, poll_max=0.05),
            journal="default",
            queues={},
            transports={"nats": transport},
            default_transport="nats",
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
        await rest(url)
        await runner.drain(5.0)
        await durable.drain(5.0)
        await durable.stop()


async def rest(url: str) -> None:
    """Wait until everything that was sent is settled, and the sender has said that it has ended."""
    while True:
        try:
            client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0)
            try:
                broker = client.jsm()
                while True:
                    await broker.stream_info("ended")
                    group = await broker.consumer_info("wintry-orders", "shop")
                    if not group.num_pending and not group.num_ack_pending:
                        return
                    await asyncio.sleep(0.02)
            finally:
                await client.close()
        except Exception as error:  # noqa: BLE001 - the broker is away, or there is no group yet
            print(repr(error), file=sys.stderr)
        await asyncio.sleep(0.05)


def main() -> None:
    url, folder, point, mode = sys.argv[1:]
    if mode == "no-inbox":
        forget_what_was_handled()
    with crash_at(point, times=TIMES, act=die) if point != "-" else nullcontext():
        asyncio.run(serve(url, Path(folder)))


if __name__ == "__main__":
    main()
