"""What the package offers, and the example of its README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wintry import repository

README = Path(__file__).parents[1] / "README.md"


def test_the_public_names() -> None:
    assert repository.__all__ == (
        "AlreadyExists",
        "AmbiguousQueryName",
        "Backends",
        "ConcurrentModification",
        "ConfigurationError",
        "Conflict",
        "DefinitionError",
        "InvalidArgument",
        "MultipleFound",
        "NotFound",
        "PreconditionFailed",
        "Repository",
        "RepositoryError",
        "StoreError",
        "UnitAborted",
        "UnitTimeout",
        "Unreachable",
        "Unsupported",
        "collecting",
        "query",
    )
    assert all(hasattr(repository, name) for name in repository.__all__)


def test_the_example_of_the_readme() -> None:
    match = re.search(r"^```python\n(?P<code>.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert match is not None

    done = subprocess.run([sys.executable, "-c", match["code"]], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 product expected after March\n"


@pytest.mark.contract("REPO-077")
def test_it_imports_no_client_of_a_store() -> None:
    code = (
        "import sys, wintry.repository, wintry.repository.component, wintry.repository.testing\n"
        "print(sorted({'sqlalchemy', 'aiosqlite', 'asyncpg', 'pymongo', 'motor', 'hypothesis'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout == "[]\n", done.stderr
