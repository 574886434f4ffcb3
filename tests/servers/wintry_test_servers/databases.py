"""A fresh database on a server, and its end: how tests that share a server do not see one another.

A name is random, so that any number of runs may use one server. Redis has numbers instead of names, which the run
hands out; what is published on a channel is heard in all of its databases, so that a test that cares takes a server
of its own. RabbitMQ has virtual hosts, which only a server that the run started makes for us. The clients are
imported where they are used: a package has those of its own stores alone.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from .daemon import Failed
from .run import Run


@contextmanager
def postgres_database(url: str) -> Iterator[str]:
    """The URL of an empty database on the server of `url`, whose user must be allowed to make one."""
    name = fresh_name()
    execute(url, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        execute(url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def mongodb_database(url: str) -> Iterator[str]:
    """The URL of a database of a name that is new on the server of `url`."""
    from pymongo import MongoClient

    name = fresh_name()
    try:
        yield with_database(urlsplit(url), name)
    finally:
        with MongoClient[dict[str, Any]](url) as client:
            client.drop_database(name)


@contextmanager
def redis_database(url: str, run: Run) -> Iterator[str]:
    """The URL of an empty database, by number, on the server of `url`."""
    from redis import Redis

    with run.number() as number:
        own = urlsplit(url)._replace(path=f"/{number}").geturl()
        with Redis.from_url(own) as client:
            client.flushdb()
            yield own
            client.flushdb()


@contextmanager
def rabbitmq_virtual_host(url: str, control: Path) -> Iterator[str]:
    """The URL of an empty virtual host on a server of the run, whose folder has this socket; it must run in the end."""
    name = fresh_name()
    say(control, f"add {name}")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        say(control, f"delete {name}")


def say(control: Path, line: str) -> None:
    """Say a line to the node behind this socket, which does it and answers `ok`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60.0)
        connection.connect(str(control))
        connection.sendall(line.encode() + b"\n")
        if (answer := connection.recv(1000)) != b"ok\n":
            raise Failed(f"{line}: {answer!r}")


def fresh_name() -> str:
    return f"wintry_{uuid.uuid4().hex}"


def execute(url: str, statement: str) -> None:
    """Run one statement, in a thread: the caller's may have an event loop."""
    import asyncpg

    async def connected() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, connected()).result()


def with_database(parts: SplitResult, name: str) -> str:
    """The URL with another database; a user stays one of the database that the URL named before."""
    query = parse_qs(parts.query)
    if "@" in parts.netloc and "authSource" not in query:
        query["authSource"] = [parts.path.strip("/") or "admin"]
    return parts._replace(path=f"/{name}", query=urlencode(query, doseq=True)).geturl()
