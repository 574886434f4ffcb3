"""The package as others see it."""

import re
import subprocess
import sys
from pathlib import Path

import wintry.uow

README = Path(__file__).parents[1] / "README.md"


def test_the_public_names() -> None:
    assert wintry.uow.__all__ == [
        "AlreadyExists",
        "ConcurrentModification",
        "ConcurrentUnitUse",
        "Conflict",
        "DefinitionError",
        "ForeignObject",
        "LockTooLate",
        "NotEntered",
        "NotFound",
        "Options",
        "PreconditionFailed",
        "ReadOnlyUnit",
        "RepositoryError",
        "SeveralBackends",
        "StoreError",
        "UncommittedChanges",
        "Unit",
        "UnitAborted",
        "UnitClosed",
        "UnitError",
        "UnitHook",
        "UnitOfWork",
        "UnitTimeout",
        "Unreachable",
        "Unsupported",
        "collecting",
        "current_unit",
        "transactional",
        "use_hooks",
    ]
    assert all(hasattr(wintry.uow, name) for name in wintry.uow.__all__)


def test_the_example_of_the_readme_runs() -> None:
    example = re.search(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert example is not None

    command = [sys.executable, "-W", "error", "-c", example[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "10 of 64 accepted, 0 left\n"
