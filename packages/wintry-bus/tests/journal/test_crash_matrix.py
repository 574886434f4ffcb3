"""A process killed at every failpoint: nothing is lost and nothing is done twice; the controls show that it could be."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wintry.bus.failpoints import FAILPOINTS

MATRIX = Path(__file__).with_name("crash_matrix.py")


def cell(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, MATRIX, "cell", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.contract("BUS-301")
@pytest.mark.parametrize("point", sorted(FAILPOINTS))
def test_a_crash_loses_nothing_and_doubles_nothing(point: str) -> None:
    assert cell(point) == {"crashed": True, "lost": [], "doubled": []}


@pytest.mark.contract("BUS-301")
def test_without_a_journal_a_crash_loses_deliveries() -> None:
    found = cell("handled", "no-journal")

    assert found["crashed"]
    assert found["lost"]


@pytest.mark.contract("BUS-302")
def test_without_an_inbox_a_crash_doubles_an_effect() -> None:
    found = cell("home-committed", "no-inbox")

    assert found["crashed"]
    assert found["doubled"]
