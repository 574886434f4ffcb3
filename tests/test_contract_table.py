"""The contract table: faults in the pages, in the marks and between them are all told."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Check = Callable[[str, str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run the checker on a workspace that has one page of the contract and one test module."""

    def run(page: str, module: str) -> "subprocess.CompletedProcess[str]":
        files = {
            "tools/contract.py": (ROOT / "tools/contract.py").read_text("utf-8"),
            "docs/reference/models.md": page,
            "packages/wintry-models/tests/test_model.py": module,
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, "utf-8")
        command = [sys.executable, tmp_path / "tools/contract.py"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_lines_and_marks_that_meet_are_counted(check: Check) -> None:
    done = check(
        "- **MODELS-001** A.\n- **MODELS-002** B.\n",
        'pytestmark = pytest.mark.contract("MODELS-001")\n'
        '@pytest.mark.contract("MODELS-001", "MODELS-002")\ndef test_a(): ...\n',
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[1].split() == ["MODELS", "2", "2", "3"]


def test_a_line_without_a_test_is_a_fault(check: Check) -> None:
    done = check("- **MODELS-001** A.\n", "")

    assert done.returncode == 1
    assert "MODELS-001 (docs/reference/models.md:1) has no test" in done.stderr


def test_a_mark_without_a_line_is_a_fault(check: Check) -> None:
    done = check("", '\n@pytest.mark.contract("MODELS-009")\ndef test_a(): ...\n')

    assert done.returncode == 1
    assert "MODELS-009 (packages/wintry-models/tests/test_model.py:2) marks a test, but no page" in done.stderr


def test_an_id_given_twice_is_a_fault(check: Check) -> None:
    done = check(
        "- **MODELS-001** A.\n\n- **MODELS-001** B.\n", '@pytest.mark.contract("MODELS-001")\ndef test_a(): ...\n'
    )

    assert done.returncode == 1
    assert "MODELS-001 is given more than once: docs/reference/models.md:1, docs/reference/models.md:3" in done.stderr


def test_an_id_in_the_page_of_another_package_is_a_fault(check: Check) -> None:
    done = check("- **REPO-001** A.\n", '@pytest.mark.contract("REPO-001")\ndef test_a(): ...\n')

    assert done.returncode == 1
    assert "REPO-001 (docs/reference/models.md:1) stands in a page whose ids begin with MODELS-" in done.stderr


def test_a_mark_that_is_no_literal_is_a_fault(check: Check) -> None:
    done = check("", "@pytest.mark.contract(NAME)\ndef test_a(): ...\n")

    assert done.returncode == 1
    assert "test_model.py:1: a mark names its lines by literal strings, got NAME" in done.stderr
