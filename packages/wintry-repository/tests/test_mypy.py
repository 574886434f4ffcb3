"""The mypy plugin, by what mypy says of a sample with it and without it.

A line of the sample ends in `# always: CODE` where mypy must report an error whatever it is run with, and in
`# without: CODE` where it must only without the plugin. Nothing else may be reported.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = '''
from collections.abc import Callable
from typing import Any, TypeVar, assert_type

from wintry import repository as wintry_repository
from wintry.models import Model, RequiredId
from wintry.repository import Repository, query
from wintry.repository import query as named

F = TypeVar("F", bound=Callable[..., Any])


class Chair(Model):
    sku: str = RequiredId()
    colour: str = ""


def other(method: F) -> F:
    return method


class Chairs(Repository[Chair, str], entity=Chair):
    @query
    async def find_by_colour(self, *, colour: str) -> list[Chair]: ...  # without: empty-body

    @query
    async def count_by_colour(self, *, colour: str) -> int:  # without: empty-body
        """A text says no more than the name."""

    @query
    async def exists_by_colour(self, *, colour: str) -> bool:  # without: empty-body
        pass

    @query("find_by_colour")
    async def painted(self, *, colour: str) -> list[Chair]: ...  # without: empty-body

    @named
    async def find_by_sku(self, *, sku: str) -> list[Chair]: ...  # without: empty-body

    @wintry_repository.query
    async def count_by_sku(self, *, sku: str) -> int: ...  # without: empty-body

    @query
    async def get_by_colour(self, *, colour: str) -> Chair | None: ...

    @query
    async def count_by_colour_in(self, *, colour: list[str]) -> int:  # always: return
        print(colour)

    async def unmarked(self) -> int: ...  # always: empty-body

    @other
    async def marked_otherwise(self) -> int: ...  # always: empty-body


class Base(Repository[Chair, str]):
    """The base of repositories that are to have something in common."""


class Derived(Base, entity=Chair):
    @query
    async def find_by_colour(self, *, colour: str) -> list[Chair]: ...  # without: empty-body


class Elsewhere:
    @query
    async def find_by_colour(self, *, colour: str) -> list[Chair]: ...  # always: empty-body


async def use(chairs: Chairs, derived: Derived) -> None:
    assert_type(await chairs.find_by_colour(colour="red"), list[Chair])
    assert_type(await derived.find_by_colour(colour="red"), list[Chair])
    assert_type(await chairs.painted(colour="red"), list[Chair])
    await chairs.find_by_colour("red")  # always: call-arg
    await chairs.count_by_sku(sku=1)  # always: arg-type
'''
ERROR = re.compile(r"^sample\.py:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)
EXPECTED = re.compile(r"# (always|without): ([a-z-]+)$")


def expected(*kinds: str) -> set[tuple[int, str]]:
    found = ((number, EXPECTED.search(line)) for number, line in enumerate(SAMPLE.splitlines(), 1))
    return {(number, match[2]) for number, match in found if match is not None and match[1] in kinds}


def reported(folder: Path, settings: str) -> set[tuple[int, str]]:
    """The lines of the errors that mypy reports of the sample, and their codes."""
    (folder / "sample.py").write_text(SAMPLE)
    (folder / "mypy.ini").write_text(f"[mypy]\n{settings}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "sample.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    errors = {(int(line), code) for line, code in ERROR.findall(done.stdout)}
    assert f"Found {len(errors)} errors in 1 file" in done.stdout, done.stdout
    return errors


@pytest.mark.contract("REPO-600")
def test_a_query_needs_no_body_with_the_plugin(tmp_path: Path) -> None:
    assert reported(tmp_path, "plugins = wintry.repository.mypy") == expected("always")


@pytest.mark.contract("REPO-600")
def test_without_the_plugin_mypy_misses_the_bodies(tmp_path: Path) -> None:
    """Else the plugin would be there for nothing, and the test above would show nothing."""
    assert reported(tmp_path, "") == expected("always", "without")


@pytest.mark.contract("REPO-601")
def test_the_package_does_not_import_mypy() -> None:
    script = "import sys, wintry.repository; sys.exit('mypy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
