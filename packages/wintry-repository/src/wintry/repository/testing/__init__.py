"""The suite that every backend must pass.

It needs no test framework. A backend's tests run each of `CASES` on a fresh, open `Backends`, and each of `QUERIES`,
and compare random data and queries with the memory backend (`wintry.repository.testing.differential`, which needs
hypothesis):

    @pytest.mark.parametrize("case", [*CASES, *QUERIES], ids=str)
    async def test_contract(case, backends):
        await case.run(backends)
"""

from . import contract, guards, transactions
from .contract import Case
from .queries import QUERIES, QueryCase

CASES = (*contract.CASES, *transactions.CASES, *guards.CASES)
"""Every case beside queries, in order."""

__all__ = ("CASES", "QUERIES", "Case", "QueryCase")
