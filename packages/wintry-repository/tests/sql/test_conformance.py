"""The suite that every backend must pass, on a file and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.repository import Backends
from wintry.repository.testing import CASES, QUERIES, Case, QueryCase
from wintry.repository.testing.differential import differential


@pytest.fixture(params=["file", "memory"])
async def backends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backends]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'suite.db'}" if request.param == "file" else "sqlite:///:memory:"
    async with Backends(default=url) as opened:
        yield opened


@pytest.mark.anyio
@pytest.mark.parametrize("case", [*CASES, *QUERIES], ids=str)
async def test_contract(case: Case | QueryCase, backends: Backends) -> None:
    await case.run(backends)


def test_random_queries_agree_with_the_memory_backend(tmp_path: Path) -> None:
    differential(f"sqlite:///{tmp_path / 'random.db'}")
