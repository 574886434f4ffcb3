"""A process killed at every failpoint: nothing is lost and nothing is done twice; the controls show that it could be.

On two SQLite files every point is tried each time; on the other pairs of databases those that lie beside a commit, and
all of them with TEST_WINTRY_PROFILE=deep.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from wintry_test_servers.databases import mongodb_database
from wintry_test_servers.plugin import server

from wintry.bus.failpoints import FAILPOINTS

pytestmark = pytest.mark.timeout(300)  # two processes and two databases, on a machine that may have more to do

MATRIX = Path(__file__).with_name("crash_matrix.py")
DEEP = os.environ.get("TEST_WINTRY_PROFILE") == "deep"
PAIRS = {
    ("postgresql", "mongodb"): ("appended", "home-committed", "moved"),
    ("mongodb", "postgresql"): ("delivered", "home-committed"),
    ("mongodb", "mongodb"): ("delivered",),
}
FIXTURES = {"postgresql": "postgres_url", "mongodb": "impatient_url"}
ONLY_WITH_TWO = {"home-committed", "moved"}


def cells() -> Iterator[Any]:
    for pair, quick in PAIRS.items():
        for point in sorted(FAILPOINTS) if DEEP else quick:
            if pair != ("mongodb", "mongodb") or point not in ONLY_WITH_TWO:
                yield pytest.param(pair, point, id=f"{'-'.join(pair)}-{point}")


@cache
def matrix() -> Any:
    """The script beside this module: the processes that die are its own."""
    spec = importlib.util.spec_from_file_location(MATRIX.stem, MATRIX)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[MATRIX.stem] = made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def cell(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = matrix().cell(*arguments)
    return found


@pytest.fixture(scope="module")
def impatient(servers: Any) -> Iterator[str]:
    """A MongoDB that gives up in a moment what a dead process had begun; it takes a minute if not told otherwise."""
    with server(servers, "mongodb") as made:
        with MongoClient[dict[str, Any]](made.url) as client:
            client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=3)
        yield made.url


@pytest.fixture
def impatient_url(impatient: str) -> Iterator[str]:
    with mongodb_database(impatient) as url:
        yield url


@pytest.fixture
def urls(request: pytest.FixtureRequest, pair: tuple[str, str]) -> tuple[str, str]:
    first, second = (request.getfixturevalue(FIXTURES[kind]) for kind in pair)
    return first, second


@pytest.mark.contract("BUS-301")
@pytest.mark.parametrize("point", sorted(FAILPOINTS))
def test_a_crash_loses_nothing_and_doubles_nothing(point: str) -> None:
    assert cell(point) == {"crashed": True, "lost": [], "doubled": []}


@pytest.mark.contract("BUS-504")
@pytest.mark.parametrize(("pair", "point"), [*cells()])
def test_a_crash_over_two_stores_loses_nothing_and_doubles_nothing(point: str, urls: tuple[str, str]) -> None:
    assert cell(point, "on", *urls) == {"crashed": True, "lost": [], "doubled": []}


def has_lost_views(found: dict[str, Any]) -> bool:
    """Whether what an event's handler should have written is missing; what needs dead letters is so in any case."""
    return any(lost.startswith("view:") for lost in found["lost"])


@pytest.mark.contract("BUS-301")
def test_without_a_journal_a_crash_loses_deliveries() -> None:
    found = cell("handled", "no-journal")

    assert found["crashed"]
    assert has_lost_views(found)


@pytest.mark.contract("BUS-302")
def test_without_an_inbox_a_crash_doubles_an_effect() -> None:
    found = cell("home-committed", "no-inbox")

    assert found["crashed"]
    assert found["doubled"]


CONTROLLED = [*PAIRS] if DEEP else [("postgresql", "mongodb")]


@pytest.mark.contract("BUS-504")
@pytest.mark.parametrize("pair", [pair for pair in CONTROLLED if pair[0] != pair[1]], ids="-".join)
def test_without_an_inbox_it_would_double(pair: tuple[str, str], urls: tuple[str, str]) -> None:
    """In one store nothing could: there a row is closed in the transaction of its effect."""
    assert cell("home-committed", "no-inbox", *urls)["doubled"]


@pytest.mark.contract("BUS-504")
@pytest.mark.parametrize("pair", CONTROLLED, ids="-".join)
def test_without_a_journal_it_would_lose(pair: tuple[str, str], urls: tuple[str, str]) -> None:
    assert has_lost_views(cell("handled", "no-journal", *urls))
