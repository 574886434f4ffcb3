"""The suite that every backend must pass, on PostgreSQL; in the deep profile on the system's as well, an older one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from wintry.repository import Backends
from wintry.repository.testing import CASES, QUERIES, Case, QueryCase
from wintry.repository.testing.differential import differential

SERVERS = ["postgres_url"]
if os.environ.get("TEST_WINTRY_PROFILE") == "deep":
    SERVERS.append("postgres_system_url")


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def backends(url: str) -> AsyncIterator[Backends]:
    async with Backends(default=url) as opened:
        yield opened


@pytest.mark.anyio
@pytest.mark.parametrize("case", [*CASES, *QUERIES], ids=str)
async def test_contract(case: Case | QueryCase, backends: Backends) -> None:
    await case.run(backends)


def test_random_queries_agree_with_the_memory_backend(url: str) -> None:
    differential(url)
