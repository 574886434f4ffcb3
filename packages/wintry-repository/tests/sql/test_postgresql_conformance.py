"""The suite that every backend must pass, on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wintry.repository import Backends
from wintry.repository.testing import CASES, QUERIES, Case, QueryCase
from wintry.repository.testing.differential import differential


@pytest.fixture
async def backends(postgres_url: str) -> AsyncIterator[Backends]:
    async with Backends(default=postgres_url) as opened:
        yield opened


@pytest.mark.anyio
@pytest.mark.parametrize("case", [*CASES, *QUERIES], ids=str)
async def test_contract(case: Case | QueryCase, backends: Backends) -> None:
    await case.run(backends)


def test_random_queries_agree_with_the_memory_backend(postgres_url: str) -> None:
    differential(postgres_url)
