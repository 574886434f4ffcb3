"""Tests that must be able to fail, proved: each committed mutant turns the tests that it names red.

    ./hatchw run mutants [WORD…] [--check]

`tests/mutants/*.toml` hold the mutants, each a small wrong turn in one file of the sources:

    [[mutant]]
    says = "a lease ends without its owner"     what is wrong with it; WORD picks the mutants whose text or file has it
    file = "packages/…/sql.py"
    old = '''…'''                               a text that stands in the file exactly once
    new = '''…'''
    red = ["packages/…/test_x.py::test_y"]      the tests that must fail; one without brackets stands for all its cases,
                                                of which one must

A mutant lives in a copy of its distribution's sources that stands before the installed one on PYTHONPATH, also for the
processes that a test starts. The checkout is never touched. Two run at a time. `--check` runs no test: it says whether
each mutant still fits the sources and names tests that exist.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "mutants"
SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    """One wrong turn and the tests that must see it. Its fields are those of the file format above."""

    says: str
    file: str
    old: str
    new: str
    red: tuple[str, ...]

    @property
    def sources(self) -> Path:
        """The folder on the import path that holds the file: the `src` of its distribution."""
        return next(parent for parent in (ROOT / self.file).parents if parent.name == "src")

    def misfit(self) -> str | None:
        """Why the mutant does not fit the checkout, if it does not."""
        if not (ROOT / self.file).exists():
            return f"there is no {self.file}"
        found = (ROOT / self.file).read_text("utf-8").count(self.old)
        if found != 1:
            return f"`old` stands {found} times in {self.file}, not once"
        for test in self.red:
            path, *names = test.split("[")[0].split("::")
            if not (ROOT / path).exists():
                return f"there is no {path}"
            if names and names[0] not in (ROOT / path).read_text("utf-8"):
                return f"there is no {names[0]} in {path}"
        return None

    def mutate(self, folder: Path) -> None:
        """Lay a copy of the sources into the folder, with the wrong turn taken."""
        shutil.copytree(self.sources, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        place = folder / (ROOT / self.file).relative_to(self.sources)
        place.write_text(place.read_text("utf-8").replace(self.old, self.new), "utf-8")


def mutants(words: Sequence[str] = ()) -> Iterator[Mutant]:
    for path in sorted(FOLDER.glob("*.toml")):
        for table in tomllib.loads(path.read_text("utf-8"))["mutant"]:
            mutant = Mutant(**table | {"red": tuple(table["red"])})
            if not words or any(word in mutant.says or word in mutant.file for word in words):
                yield mutant


def run(mutant: Mutant) -> tuple[Mutant, float, list[str]]:
    """Run the mutant's tests; the list holds those that stayed green."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as temporary:
        folder, report = Path(temporary) / "src", Path(temporary) / "report.xml"
        mutant.mutate(folder)
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", str(report)]
        with contextlib.suppress(subprocess.TimeoutExpired):  # a test that never ends has not failed
            subprocess.run(
                [*command, *mutant.red],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
            )
        failed = list(failures(report)) if report.exists() else []
    green = [test for test in mutant.red if not any(matches(test, name) for name in failed)]
    return mutant, time.monotonic() - start, green


def failures(report: Path) -> Iterator[str]:
    """The tests that failed, as `package.module.Class.name[case]`; a module that does not even import stands for itself.

    Their files are not asked: that of an inherited test is where its suite stands.
    """
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            yield ".".join(filter(None, [case.get("classname"), case.get("name")]))


def matches(test: str, failed: str) -> bool:
    path, *names = test.split("::")
    dotted = ".".join([path.removesuffix(".py").replace("/", "."), *names])
    return dotted in (failed, failed.split("[")[0])


def check(chosen: Sequence[Mutant]) -> int:
    misfits = [(mutant, why) for mutant in chosen if (why := mutant.misfit())]
    for mutant, why in misfits:
        print(f"mutant {mutant.says!r}: {why}")
    return len(misfits)


def run_all(chosen: Sequence[Mutant]) -> int:
    survived = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, seconds, green in pool.map(run, chosen):
            survived += bool(green)
            print(f"{'SURVIVED' if green else 'red':<9}{seconds:5.1f} s  {mutant.says}  ({mutant.file})", flush=True)
            for test in green:
                print(f"         green: {test}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants red")
    return survived


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants")
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--check", action="store_true", help="run no test, only say which mutants no longer fit")
    options = parser.parse_args()
    chosen = list(mutants(options.words))
    return 1 if check(chosen) or (not options.check and run_all(chosen)) else 0


if __name__ == "__main__":
    sys.exit(main())
