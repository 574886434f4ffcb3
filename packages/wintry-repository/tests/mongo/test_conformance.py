"""The suite that every backend must pass, on PyMongo's asynchronous client and on Motor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wintry.repository import Backends
from wintry.repository.testing import CASES, QUERIES, Case, QueryCase
from wintry.repository.testing.differential import differential


@pytest.fixture(params=["pymongo", "motor"])
async def backends(request: pytest.FixtureRequest, mongodb_url: str) -> AsyncIterator[Backends]:
    async with Backends(default={"url": mongodb_url, "client": request.param}) as opened:
        yield opened


@pytest.mark.anyio
@pytest.mark.contract("REPO-329")
@pytest.mark.parametrize("case", [*CASES, *QUERIES], ids=str)
async def test_contract(case: Case | QueryCase, backends: Backends) -> None:
    await case.run(backends)


def test_random_queries_agree_with_the_memory_backend(mongodb_url: str) -> None:
    differential(mongodb_url)
