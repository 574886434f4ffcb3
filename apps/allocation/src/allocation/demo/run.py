"""One run of the demonstration, from the service to the tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from allocation import settings
from allocation.demo.day import Day
from allocation.demo.errors import DemoError
from allocation.demo.feed import CLIENTS, Feed
from allocation.demo.report import BAR, print_report
from allocation.demo.service import running
from wintry.bus import Publisher, TransportPublisher
from wintry.bus.component import open_runtime
from wintry.bus.errors import BusError
from wintry.repository.errors import RepositoryError

ANSWER_SECONDS = 30.0


async def run(url: str) -> None:
    """Feed the service at `url`, or one that is started there, and print the tables.

    Raises:
        DemoError: the service or its broker cannot be reached, or does not do what it is asked.
        SettingsError: the settings cannot be read.
    """
    aside, limits = Console(stderr=True, highlight=False), httpx2.Limits(max_connections=CLIENTS)
    async with running(url, aside.print):
        try:
            async with httpx2.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, limits=limits) as http, broker() as to:
                feed = Feed(http, Day.read())
                await feed_all(feed, to, aside)
                print_report(Console(highlight=False), await feed.products(), feed.refused)
        except httpx2.TransportError as error:
            raise DemoError(f"the service at {url} does not answer any more: {error or type(error).__name__}") from None


async def feed_all(feed: Feed, publisher: Publisher, console: Console) -> None:
    """The three parts of the day, each with its bar."""
    columns = (TextColumn("{task.description}"), BarColumn(BAR), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        day = feed.day
        batches = progress.add_task("Batches", total=len(day.batches))
        lines = progress.add_task("Order lines", total=len(day.lines), start=False)
        changes = progress.add_task("New quantities", total=len(day.changes), start=False)
        await feed.add_batches(lambda: progress.advance(batches))
        progress.start_task(lines)
        await feed.allocate_lines(lambda: progress.advance(lines))
        progress.start_task(changes)
        await feed.change_quantities(publisher, lambda: progress.advance(changes))


@asynccontextmanager
async def broker() -> AsyncGenerator[Publisher]:
    """What `python -m wintry.bus send` sends with: the default transport of the service's own settings."""
    try:
        async with open_runtime(settings.load()) as runtime:
            for transport in runtime.transports.values():
                await transport.start()
            yield TransportPublisher(runtime)
    except (BusError, RepositoryError) as error:
        raise DemoError(f"the broker cannot be reached: {error}") from None
