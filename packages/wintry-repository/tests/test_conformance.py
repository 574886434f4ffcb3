"""The memory backend keeps the contract of all backends, and the suite notices one that does not."""

from __future__ import annotations

import operator

import pytest
from hypothesis import Phase, settings

from wintry.repository import Backends
from wintry.repository.language.operators import Operator
from wintry.repository.memory import compile as memory_compile
from wintry.repository.memory.load import Row
from wintry.repository.testing import CASES, QUERIES, Case, QueryCase
from wintry.repository.testing.differential import differential


@pytest.mark.anyio
@pytest.mark.contract("REPO-003", "REPO-004", "REPO-007", "REPO-010", "REPO-030", "REPO-031", "REPO-032", "REPO-033")
@pytest.mark.contract("REPO-034", "REPO-035", "REPO-036", "REPO-037", "REPO-038", "REPO-039", "REPO-040", "REPO-043")
@pytest.mark.contract("REPO-005")
@pytest.mark.parametrize("case", QUERIES, ids=str)
async def test_queries_answer_as_their_predicates_say(case: QueryCase, backends: Backends) -> None:
    await case.run(backends)


@pytest.mark.anyio
@pytest.mark.contract("REPO-041", "REPO-042", "REPO-043", "REPO-050", "REPO-051", "REPO-052", "REPO-053", "REPO-054")
@pytest.mark.contract(
    "REPO-055", "REPO-056", "REPO-057", "REPO-058", "REPO-059", "REPO-060", "REPO-061", "REPO-068", "REPO-069"
)
@pytest.mark.contract("REPO-002", "REPO-049", "REPO-080", "REPO-081", "REPO-082", "REPO-084", "REPO-401", "REPO-045")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_contract_of_stores(case: Case, backends: Backends) -> None:
    await case.run(backends)


@pytest.mark.contract("REPO-030", "REPO-031", "REPO-032", "REPO-033", "REPO-034", "REPO-035")
def test_random_queries_agree_with_a_plain_evaluator() -> None:
    differential("memory://")


@pytest.mark.parametrize("broken", [Operator.LTE, Operator.GTE])
@pytest.mark.anyio
async def test_the_suite_notices_a_broken_order(
    broken: Operator, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(memory_compile._ORDERED, broken, operator.lt if broken is Operator.LTE else operator.gt)

    with pytest.raises(AssertionError):
        for case in QUERIES:
            async with Backends(default="memory://") as fresh:
                await case.run(fresh)


@pytest.mark.anyio
async def test_the_suite_notices_none_sorted_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank(read: object, stored: object) -> tuple[bool, object]:
        value = read(stored.row)  # type: ignore[operator, attr-defined]  # the signature of what it replaces is private
        return value is None, value

    monkeypatch.setattr(memory_compile, "_rank", rank)

    with pytest.raises((AssertionError, TypeError)):
        for case in QUERIES:
            async with Backends(default="memory://") as fresh:
                await case.run(fresh)


def test_random_queries_notice_a_predicate_that_forgets_the_same_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list looks as if one element had all that any of them has."""
    original = memory_compile.reader

    def merged(model: type, path: tuple[object, ...]) -> object:
        read = original(model, path)  # type: ignore[arg-type]  # handed on as it came

        def first(row: Row) -> object:
            value = read(row)
            return value[:1] if isinstance(value, tuple) and path else value

        return first

    monkeypatch.setattr(memory_compile, "reader", merged)

    with pytest.raises(AssertionError):
        differential(
            "memory://", profile=settings(max_examples=2000, phases=[Phase.generate], report_multiple_bugs=False)
        )
