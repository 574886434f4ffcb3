"""A service on RabbitMQ and SQLite that tests kill: `python rabbitmq_child.py URL FOLDER POINT MODE`.

It counts each order that it hears, in a row of its own, and refuses those that are called `bad`. It dies at POINT, if
that is not `-`, and ends on SIGTERM. MODE is `on`, or `no-inbox` for a control that forgets what it has handled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from redis_child import TIMES, Effect, Effects, decode, die, forget_what_was_handled

from wintry.bus.durable import Durable
from wintry.bus.settings import BusSettings
from wintry.bus.testing import crash_at
from wintry.bus.transports import Listener, Runner
from wintry.repository import Backends
from wintry.web.transports.rabbitmq import RabbitMQ


async def serve(url: str, folder: Path) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Backends(default=f"sqlite:///{folder}/default.db") as backends:
        transport = RabbitMQ(url, owner=f"child:{os.getpid()}")
        durable = Durable(
            backends,
            BusSettings(poll_min=0.01, poll_max=0.05),
            journal="default",
            queues={},
            transports={"rabbitmq": transport},
            default_transport="rabbitmq",
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


def main() -> None:
    url, folder, point, mode = sys.argv[1:]
    if mode == "no-inbox":
        forget_what_was_handled()
    with crash_at(point, times=TIMES, act=die) if point != "-" else nullcontext():
        asyncio.run(serve(url, Path(folder)))


if __name__ == "__main__":
    main()
