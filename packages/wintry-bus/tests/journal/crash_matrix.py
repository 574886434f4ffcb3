"""A process that dies at a named point, one that takes over, and what the two databases say afterwards.

    python crash_matrix.py                          every cell on two SQLite files, and the controls; prints `n/n cells`
    python crash_matrix.py cell POINT [MODE [DEFAULT VIEWS]]
                                                    one cell as JSON: {"crashed": …, "lost": […], "doubled": […]}
    python crash_matrix.py child FOLDER POINT MODE DEFAULT VIEWS

The application in here keeps orders in one database, where its journal is too, and their view in another: DEFAULT and
VIEWS are their URLs, else two SQLite files. Each effect of an order is a row with a count, so that a missing row is a
loss and a count of two a double. MODE is `on`, or a control that has to show faults: `no-journal` keeps deliveries in
memory, `no-inbox` records nothing of what was handled.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from wintry.bus import (
    Command,
    Event,
    MessageQueue,
    ResultUnknown,
    TransportPublisher,
    command_handler,
    event_handler,
)
from wintry.bus.durable import Durable
from wintry.bus.failpoints import FAILPOINTS
from wintry.bus.journal.home import Home
from wintry.bus.journal.names import DELIVERIES
from wintry.bus.settings import BusSettings
from wintry.bus.testing import crash_at
from wintry.bus.transports import Listener, Runner
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository, query
from wintry.repository.errors import Conflict
from wintry.uow import UnitOfWork

ORDERS = 6
TIMES = 3
SETTLE = 60.0
KINDS = ("taken", "viewed", "late", "noted", "answered", "heard", "grumbled")


class Effect(Model):
    id: str = RequiredId()
    count: int


class Sight(Model):
    id: str = RequiredId()
    count: int


class Effects(Repository[Effect, str], entity=Effect):
    @query
    async def get_by_id(self, *, id: str) -> Effect | None: ...


class Sights(Repository[Sight, str], entity=Sight, for_backend="views"):
    pass


class Take(Command):
    order: str


class Note(Command):
    order: str


class Poke(Command):
    order: str


class Taken(Event, key="order"):
    order: str


class Viewed(Event, key="order"):
    order: str


class Late(Event):
    order: str


class Poked(Event):
    order: str


class Shop(MessageQueue):
    def __init__(self, runtime: Any, backends: Backends) -> None:
        super().__init__(runtime=runtime)
        self.effects = Effects(backends)
        self.sights = Sights(backends)
        self.uow = UnitOfWork(effects=self.effects)
        self.near = TransportPublisher(runtime, transport="near")
        self.far = TransportPublisher(runtime, transport="far")

    async def count(self, kind: str, order: str) -> None:
        effect = await self.effects.get(f"{kind}:{order}")
        if effect is None:
            await self.effects.create(entity=Effect(id=f"{kind}:{order}", count=1))
        else:
            effect.count += 1

    @command_handler
    async def take(self, command: Take) -> None:
        async with self.uow as uow:
            if await uow.effects.get(f"taken:{command.order}") is None:
                await uow.effects.create(entity=Effect(id=f"taken:{command.order}", count=1))
                self.register(Taken(order=command.order))
                await uow.commit()

    @command_handler
    async def note(self, command: Note) -> str:
        async with self.uow as uow:
            await self.count("noted", command.order)
            await uow.commit()
        return command.order

    @command_handler
    async def poke(self, command: Poke) -> None:
        self.register(Poked(order=command.order))

    @event_handler
    async def view(self, event: Taken) -> None:
        sight = await self.sights.get(f"view:{event.order}")
        if sight is None:
            await self.sights.create(entity=Sight(id=f"view:{event.order}", count=1))
        else:
            sight.count += 1
        self.register(Viewed(order=event.order))

    @event_handler
    async def viewed(self, event: Viewed) -> None:
        await self.count("viewed", event.order)

    @event_handler
    async def postpone(self, event: Taken) -> None:
        self.register(Late(order=event.order), delay=0.01)

    @event_handler
    async def late(self, event: Late) -> None:
        await self.count("late", event.order)

    @event_handler
    async def announce(self, event: Taken) -> None:
        await self.near.send("taken", {"order": event.order})
        await self.far.send("told", {"order": event.order})

    @event_handler
    async def poked(self, event: Poked) -> None:
        await self.count("poked", event.order)


def forget_what_was_handled(homes: Iterable[Home]) -> None:
    """The control without an inbox."""

    async def record(*_: object) -> bool:
        return True

    async def find(*_: object) -> None:
        return None

    for kind in {type(home) for home in homes}:
        kind.record = record  # type: ignore[method-assign, assignment]
        kind.find = find  # type: ignore[method-assign, assignment]


async def child(folder: Path, point: str, mode: str, urls: dict[str, str]) -> None:
    """Send what was not accepted before, tell what is, and wait until everything has come to rest."""
    with crash_at(point, times=1 if mode == "no-journal" else TIMES) if point != "-" else nullcontext():
        await serve(folder, mode, urls)


async def serve(folder: Path, mode: str, urls: dict[str, str]) -> None:
    async with Backends(**urls) as backends:
        durable = Durable(
            backends,
            BusSettings(poll_min=0.01, poll_max=0.05),
            journal=None if mode == "no-journal" else "default",
            queues={"near": "default", "far": "views"},
            transports={},
            default_transport="near",
        )
        if mode == "no-inbox":
            forget_what_was_handled(durable._homes.values())
        shop = Shop(durable.runtime, backends)
        durable.runtime.attach(shop)
        await backends.create_schema()
        await run(durable, shop, folder)


async def accepted_by(shop: Shop, command: Command) -> None:
    """Send a command as clients do: again while the store says that something is in its way.

    What a dead process had begun in MongoDB is in the way until the server gives it up.
    """
    while True:
        try:
            await shop.handle(command)
        except Conflict:
            await asyncio.sleep(0.05)
        else:
            return


async def run(durable: Durable, shop: Shop, folder: Path) -> None:
    async def note(order: object) -> None:
        try:
            noted = await shop.handle(Note(order=str(order)))
        except ResultUnknown:  # its process died with the result
            noted = order
        await shop.count("answered", noted)

    async def heard(order: object) -> None:
        await shop.count("heard", str(order))

    async def grumble(order: object) -> None:
        if not (folder / "patient").exists():
            raise ValueError(order)
        await shop.count("grumbled", str(order))

    def decode(body: bytes) -> str:
        order: str = json.loads(body)["order"]
        return order

    await durable.prepare()
    runtime = durable.runtime
    runners = [
        Runner(runtime, runtime.transports[name], [Listener(f"on.{name}", channel, decode, handle)], group="shop")
        for name, channel, handle in (("near", "taken", note), ("far", "told", heard))
    ]
    grumbler = Listener("on.grumble", "taken", decode, grumble)
    runners.append(Runner(runtime, runtime.transports["near"], [grumbler], group="grumblers"))
    for runner in runners:
        await runner.start()
    await durable.start()
    accepted = folder / "accepted"
    done = set(accepted.read_text().split()) if accepted.exists() else set()
    tried = folder / "tried"
    poked = set(tried.read_text().split()) if tried.exists() else set()
    with accepted.open("a", buffering=1) as said, tried.open("a", buffering=1) as trying:
        for number in range(ORDERS):
            if f"taken:{number}" not in done:
                await accepted_by(shop, Take(order=str(number)))
                said.write(f"taken:{number}\n")
            if f"poked:{number}" not in poked:  # not a thing to be sent twice
                trying.write(f"poked:{number}\n")
                await accepted_by(shop, Poke(order=str(number)))
                said.write(f"poked:{number}\n")
    await rest(durable)
    (folder / "patient").touch()
    letters = await runtime.dead_letters.list()
    await runtime.dead_letters.redrive([letter.number for letter in letters])
    await rest(durable)
    for runner in runners:
        await runner.drain(5.0)
    await durable.drain(5.0)
    await durable.stop()


async def rest(durable: Durable) -> None:
    """Wait until nothing is on its way in either database."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SETTLE
    quiet = 0
    while quiet < 3 and loop.time() < end:
        quiet = 0 if await on_its_way(durable) else quiet + 1
        await asyncio.sleep(0.05)


async def on_its_way(durable: Durable) -> bool:
    if durable.journal is not None:
        if (await durable.journal.stats()).pending:
            return True
        for home in durable._homes.values():
            if await home.waiting(grace=-1.0, limit=1):
                return True
    for queue in durable.queues.values():
        backend: Any = queue.backend
        if backend.kind == "mongodb":
            if await backend.collection(DELIVERIES).find_one({"status": {"$ne": "parked"}}):
                return True
            continue
        execution = backend.execution(read_only=True)
        try:
            if await execution.fetch(f"SELECT 1 FROM {DELIVERIES} WHERE status <> 'parked' LIMIT 1", ()):
                return True
        finally:
            await execution.close()
    return False


def cell(point: str, mode: str = "on", *given: str) -> dict[str, Any]:
    """Let a process die at `point`, another one take over, and look at what is stored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        urls = given or (f"sqlite:///{folder}/default.db", f"sqlite:///{folder}/views.db")
        codes = []
        for armed in (point, "-"):
            arguments = [sys.executable, __file__, "child", name, armed, mode, *urls]
            finished = subprocess.run(arguments, capture_output=True, text=True, timeout=200, check=False)
            codes.append(finished.returncode)
            if finished.returncode not in (0, 137):
                raise RuntimeError(finished.stderr)
        counts = asyncio.run(stored(dict(zip(("default", "views"), urls, strict=True))))
        accepted = set((folder / "accepted").read_text().split())
    wanted = {f"{kind}:{number}" for kind in KINDS for number in range(ORDERS)}
    wanted |= {f"view:{number}" for number in range(ORDERS)} | accepted
    return {
        "crashed": codes == [137, 0],
        "lost": sorted(wanted - counts.keys()),
        "doubled": sorted(id for id, count in counts.items() if count != 1),
    }


async def stored(urls: dict[str, str]) -> dict[str, int]:
    async with Backends(**urls) as backends:
        found = [*await Effects(backends).find(), *await Sights(backends).find()]
        return {each.id: each.count for each in found}


CONTROLS = (("handled", "no-journal"), ("home-committed", "no-inbox"))


def main() -> int:
    good = 0
    for point in sorted(FAILPOINTS):
        found = cell(point)
        fine = found["crashed"] and not found["lost"] and not found["doubled"]
        good += fine
        print(f"{point:<16} lost {len(found['lost'])}  doubled {len(found['doubled'])}  {'ok' if fine else found}")
    print(f"{good}/{len(FAILPOINTS)} cells")
    for point, mode in CONTROLS:
        found = cell(point, mode)
        print(f"control {mode}, at {point}: lost {len(found['lost'])}, doubled {len(found['doubled'])}")
    return good != len(FAILPOINTS)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["child", folder, point, mode, default, views]:
            asyncio.run(child(Path(folder), point, mode, {"default": default, "views": views}))
        case ["cell", point, *mode]:
            print(json.dumps(cell(point, *mode)))
        case _:
            sys.exit(main())
