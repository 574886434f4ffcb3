"""The storm: its verdict names each kind of fault, and a minute of it (in the deep profile) finds none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tools.storm import verdict
from tools.storm.gauges import Gauges
from tools.storm.traffic import Ledger


def product(**sold: list[str]) -> dict[str, Any]:
    """A product with batches of two, each with these orders."""
    batches = [
        {
            "reference": ref,
            "purchased_quantity": 2,
            "lines": [{"orderid": order, "qty": 1} for order in orders],
        }
        for ref, orders in sold.items()
    ]
    return {"sku": "TABLE", "batches": batches}


def stored(*products: dict[str, Any], view: tuple[tuple[str, str, str], ...] = ()) -> verdict.Stored:
    found = verdict.Stored(Counter(), {}, [], Counter(view), 0, [])
    for each in products:
        verdict.add_product(found, each)
    return found


def judged(ledger: Ledger, found: verdict.Stored) -> dict[str, int]:
    return {kind: len(faults) for kind, faults in vars(verdict.compare(ledger, found)).items() if faults}


def test_what_is_as_it_was_answered_is_clean() -> None:
    ledger = Ledger(accepted={("o1", "TABLE")}, refused={("o2", "TABLE")})

    assert judged(ledger, stored(product(b1=["o1"]), view=(("o1", "TABLE", "b1"),))) == {}


def test_an_accepted_order_without_a_line_is_lost() -> None:
    assert judged(Ledger(accepted={("o1", "TABLE")}), stored(product(b1=[]))) == {"lost": 1}


def test_two_lines_of_one_order_are_doubled() -> None:
    found = stored(product(b1=["o1"], b2=["o1"]), view=(("o1", "TABLE", "b2"),))

    assert judged(Ledger(accepted={("o1", "TABLE")}), found) == {"doubled": 1}


def test_more_than_a_batch_had_is_oversold() -> None:
    view = tuple((order, "TABLE", "b1") for order in ("o1", "o2", "o3"))

    assert judged(Ledger(), stored(product(b1=["o1", "o2", "o3"]), view=view)) == {"oversold": 1}


def test_a_refused_order_with_a_line_is_oversold() -> None:
    found = stored(product(b1=["o1"]), view=(("o1", "TABLE", "b1"),))

    assert judged(Ledger(refused={("o1", "TABLE")}), found) == {"oversold": 1}


@pytest.mark.parametrize(
    "view",
    [(), (("o1", "TABLE", "b2"),), (("o1", "TABLE", "b1"),) * 2, (("o1", "TABLE", "b1"), ("o2", "TABLE", "b1"))],
    ids=["missing", "another batch", "twice", "surplus"],
)
def test_a_view_that_says_something_else_is_mismatched(view: tuple[tuple[str, str, str], ...]) -> None:
    found = judged(Ledger(accepted={("o1", "TABLE")}), stored(product(b1=["o1"]), view=view))

    assert list(found) == ["mismatched"]


def test_what_never_ends_and_what_was_buried_is_stuck() -> None:
    found = stored()
    found.open, found.dead = 2, ["save_allocation_view: gone"]

    assert judged(Ledger(stuck=["a change"]), found) == {"stuck": 3}


def test_an_answer_that_nobody_expects_is_told() -> None:
    assert judged(Ledger(unexpected=["o1: 500"]), stored()) == {"unexpected": 1}


@pytest.mark.parametrize(
    ("last", "seconds", "grown"),
    [(50.0, 600.0, 0), (51.0, 600.0, 1), (51.0, 60.0, 0)],
    ids=["flat", "grown", "too short to tell"],
)
def test_what_grows_is_told(last: float, seconds: float, grown: int) -> None:
    gauges = Gauges(SimpleNamespace())  # type: ignore[arg-type]
    gauges.readings["connections"] = [(1.0, 40.0), (2.0, 40.0), (seconds / 2, 99.0), (seconds - 1, last)]
    gauges.readings["few"] = [(1.0, 1.0), (seconds - 1, 9.0)]

    assert len(gauges.grown()) == grown


@pytest.mark.skipif(os.environ.get("TEST_WINTRY_PROFILE") != "deep", reason="a minute of storm is for the deep profile")
@pytest.mark.timeout(600)
def test_a_minute_of_storm_leaves_no_fault() -> None:
    command = [sys.executable, "-m", "tools.storm", "--minutes", "1", "--seed", "1"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
