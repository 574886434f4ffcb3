"""Mutants: those committed fit the sources, and the tool tells a test that sees one from a test that does not."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOL = (ROOT / "tools/mutants.py").read_text("utf-8")
MUTANT = """
[[mutant]]
says = "one more than asked"
file = "packages/counting/src/counting.py"
old = "return n"
new = "return n + 1"
red = ["packages/counting/tests/test_counting.py::{test}"]
"""
SOURCE = "def counted(n):\n    return n\n"
TESTS = """
import pathlib
import sys
sys.path.append(str(pathlib.Path(__file__).parents[1] / "src"))
from counting import counted
from suite import Suite

def test_sees():
    assert counted(1) == 1

def test_blind():
    assert counted(1) > 0

class TestInherited(Suite):
    pass
"""
SUITE = """
import counting

class Suite:
    def test_sees(self):
        assert counting.counted(1) == 1
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the tool on a workspace that has one distribution, two tests and one mutant."""

    def run(test: str, *arguments: str, source: str = SOURCE) -> "subprocess.CompletedProcess[str]":
        files = {
            "tools/mutants.py": TOOL,
            "tests/mutants/counting.toml": MUTANT.format(test=test),
            "packages/counting/src/counting.py": source,
            "packages/counting/src/suite.py": SUITE,
            "packages/counting/tests/test_counting.py": TESTS,
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, "utf-8")
        command = [sys.executable, str(tmp_path / "tools/mutants.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_every_committed_mutant_fits_the_sources() -> None:
    command = [sys.executable, "tools/mutants.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("test", ["test_sees", "TestInherited::test_sees"])
def test_a_mutant_that_is_seen_is_red_and_leaves_the_checkout_as_it_was(run: Run, tmp_path: Path, test: str) -> None:
    done = run(test)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 mutants red" in done.stdout
    assert (tmp_path / "packages/counting/src/counting.py").read_text("utf-8") == SOURCE


def test_a_mutant_that_no_test_sees_has_survived(run: Run) -> None:
    done = run("test_blind")

    assert done.returncode == 1
    assert "SURVIVED" in done.stdout
    assert "green: packages/counting/tests/test_counting.py::test_blind" in done.stdout


@pytest.mark.parametrize(
    ("test", "source", "why"),
    [
        ("test_sees", "def counted(m):\n    return m\n", "`old` stands 0 times"),
        ("test_gone", SOURCE, "there is no test_gone"),
    ],
)
def test_a_mutant_that_does_not_fit_is_told_and_nothing_runs(run: Run, test: str, source: str, why: str) -> None:
    done = run(test, source=source)

    assert done.returncode == 1
    assert why in done.stdout
    assert "mutants red" not in done.stdout
