"""The deep run's summary: a row for each part, in the order of the parts, each replaced by its next run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import deep


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own with one commit, and where the summary stands in it."""
    for words in ("init -q", "config user.email a@b", "config user.name a", "commit -q --allow-empty -m first"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(deep, "ROOT", tmp_path)
    monkeypatch.setattr(deep, "SUMMARY", tmp_path / "tests/deep/summary.md")
    return tmp_path / "tests/deep/summary.md"


def rows(summary: Path) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in summary.read_text("utf-8").splitlines() if line[:2] == "| "][1:]


def test_each_part_has_a_row_which_its_next_run_replaces(summary: Path) -> None:
    deep.note(deep.Outcome("uow", 90.0, 1, {"passed": 3, "failed": 1, "errors": 1}))
    deep.note(deep.Outcome("models", 60.0, 0, {"passed": 7, "skipped": 2}))
    deep.note(deep.Outcome("uow", 120.0, 0, {"passed": 5}))

    assert [(row[0], *row[4:]) for row in rows(summary)] == [
        ("models", "1.0", "7", "2", "0"),
        ("uow", "2.0", "5", "0", "0"),
    ]


def test_a_run_that_ended_without_a_count_is_no_success(summary: Path) -> None:
    deep.note(deep.Outcome("uow", 1.0, 3, {}))

    assert rows(summary)[0][-1] == "ended with 3"


def test_it_says_whether_it_ran_on_what_is_committed(summary: Path) -> None:
    deep.note(deep.Outcome("uow", 1.0, 0, {"passed": 1}))
    assert not rows(summary)[0][1].endswith("and changes")

    (summary.parents[2] / "changed.py").write_text("")
    deep.note(deep.Outcome("bus", 1.0, 0, {"passed": 1}))
    assert rows(summary)[-1][1].endswith("and changes")


@pytest.mark.parametrize(("part", "python"), [("lowest", deep.platform.python_version()), ("newer", "3.13.1")])
def test_the_packages_alone_are_counted_by_lane(
    part: str, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 3.13.1\n")
    uv.chmod(0o755)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/lanes.py").write_text(
        "print('ok     wintry-uow   with extras  1.0 s')\nprint('FAILED wintry-uow  without extras  1.0 s')\nexit(1)"
    )
    monkeypatch.setattr(deep, "ROOT", tmp_path)
    monkeypatch.setattr(deep, "UV", str(uv))

    outcome = deep.run(part, [])

    assert (outcome.counts, outcome.code, outcome.python) == ({"passed": 1, "failed": 1}, 1, python)


def test_a_python_that_is_not_found_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "UV", "false")

    assert deep.run("newer", []).counts == {"skipped": 1}


def test_every_folder_of_tests_belongs_to_a_part() -> None:
    paths = {ROOT / path for part in deep.TESTS.values() for path in part}
    folders = {path.parent for path in ROOT.glob("*/*/tests")} | {ROOT / "tests"}

    assert [folder for folder in folders if not any(folder.is_relative_to(path) for path in paths)] == []
