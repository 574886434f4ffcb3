"""The bus from a shell.

    python -m wintry.bus dead list [--type T] [--since ISO] [--limit N] --app PKG:NAME | --url URL
    python -m wintry.bus dead show | redrive | discard NUMBER… --app PKG:NAME | --url URL
    python -m wintry.bus send CHANNEL JSON [--transport NAME] --app PKG:NAME | --url URL

`--app` names a `Runtime`, a queue object, or an application with `settings`; `--url` is the database that the journal
is in. Only what the command needs is opened: no listener and no delivery is started here. What is redriven, the running
processes deliver.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Any

from .dead_letters import DeadLetter
from .errors import BusError
from .publisher import TransportPublisher
from .queue import MessageQueue
from .runtime import Runtime


def parser() -> argparse.ArgumentParser:
    """The words and options."""
    where = argparse.ArgumentParser(add_help=False)
    source = where.add_mutually_exclusive_group(required=True)
    source.add_argument("--app", metavar="PKG:NAME", help="a runtime, a queue, or an application with settings")
    source.add_argument("--url", help="the database that the journal is in")

    whole = argparse.ArgumentParser(prog="python -m wintry.bus", description="The bus from a shell.")
    words = whole.add_subparsers(dest="word", required=True)
    dead = words.add_parser("dead", help="dead letters").add_subparsers(dest="act", required=True)
    listing = dead.add_parser("list", parents=[where], help="which there are, oldest first")
    listing.add_argument("--type", help="of one message type")
    listing.add_argument("--since", type=datetime.fromisoformat, help="made at or after this time (ISO 8601)")
    listing.add_argument("--limit", type=int, default=100)
    dead.add_parser("show", parents=[where], help="everything about one").add_argument("number", type=int)
    dead.add_parser("redrive", parents=[where], help="deliver again").add_argument("number", type=int, nargs="+")
    dead.add_parser("discard", parents=[where], help="remove").add_argument("number", type=int, nargs="+")
    send = words.add_parser("send", parents=[where], help="send data to a channel")
    send.add_argument("channel")
    send.add_argument("data", type=_data, metavar="JSON")
    send.add_argument("--transport", metavar="NAME", help="the default one otherwise")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 if it could not be done."""
    given = parser().parse_args(arguments)
    try:
        return asyncio.run(_run(given))
    except (BusError, LookupError, ImportError, OSError) as error:
        print(f"wintry.bus: {error}", file=sys.stderr)
        return 1


async def _run(given: argparse.Namespace) -> int:
    async with _runtime(given) as runtime:
        if given.word == "send":
            for transport in runtime.transports.values():
                await transport.start()
            await TransportPublisher(runtime, transport=given.transport).send(given.channel, given.data)
            return 0
        letters = runtime.dead_letters
        match given.act:
            case "list":
                since = None if given.since is None else given.since.astimezone()
                for letter in await letters.list(type=given.type, since=since, limit=given.limit):
                    print(_line(letter))
            case "show":
                print(_page(await letters.show(given.number)))
            case "redrive":
                print(f"{await letters.redrive(given.number)} redriven")
            case "discard":
                print(f"{await letters.discard(given.number)} discarded")
    return 0


def _runtime(given: argparse.Namespace) -> AbstractAsyncContextManager[Runtime]:
    if given.url is not None:
        return _opened(given.url)
    module, _, name = given.app.partition(":")
    found = getattr(importlib.import_module(module), name or "app", None)
    if isinstance(found, Runtime):
        return nullcontext(found)
    if isinstance(found, MessageQueue):
        return nullcontext(found.runtime)
    settings = getattr(found, "settings", None)
    if settings is None:
        raise LookupError(f"{given.app} is no runtime, no queue and no application with settings")
    return _opened(settings)


def _opened(source: Any) -> AbstractAsyncContextManager[Runtime]:
    """The runtime on a database: by way of the component, which needs the extra `journal`."""
    component = importlib.import_module("wintry.bus.component")
    opened: AbstractAsyncContextManager[Runtime] = component.open_runtime(source)
    return opened


def _data(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise argparse.ArgumentTypeError("data is a JSON object")
    return data


def _line(letter: DeadLetter) -> str:
    last = letter.error.strip().splitlines()[-1:] or [""]
    made = "" if letter.created_at is None else f"{letter.created_at:%Y-%m-%d %H:%M:%S}"
    return f"{letter.number}  {made}  {letter.target}  {letter.type}  {'held' if letter.held else 'parked'}  {last[0]}"


def _page(letter: DeadLetter) -> str:
    lines = [
        _line(letter),
        f"message      {letter.message_id} (correlation {letter.correlation_id}), version {letter.version}",
        f"attempts     {letter.attempts}",
        *(f"{name:<12} {value}" for name, value in letter.headers.items()),
        letter.body.decode(errors="replace"),
        "",
        letter.error,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
