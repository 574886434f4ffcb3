"""The package `tuto` as mypy reads it. pyright reads it in `./hatchw run check`, where mypy does as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "quickstart.py"


@pytest.mark.contract("APP-108")
@pytest.mark.parametrize("checker", ["mypy", "strict"])
def test_the_text_type_checks(checker: str) -> None:
    done = subprocess.run([sys.executable, TOOL, checker], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success: no issues found in 13 source files" in done.stdout
