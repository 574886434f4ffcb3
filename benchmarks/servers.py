"""Servers for the cases that need one: those of the tests, started at first use and ended with the run."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))

from wintry_test_servers.databases import mongodb_database, postgres_database, redis_database
from wintry_test_servers.run import Run

_run = Run()
atexit.register(_run.close)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database on PostgreSQL."""
    with postgres_database(_run.url("postgres")) as url:
        yield url


@contextmanager
def mongodb() -> Iterator[str]:
    """The URL of an empty database on MongoDB, a replica set of one."""
    with mongodb_database(_run.url("mongodb")) as url:
        yield url


@contextmanager
def redis() -> Iterator[str]:
    """The URL of an empty database on Redis."""
    with redis_database(_run.url("redis"), _run) as url:
        yield url
