"""What the package offers by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wintry.models
from wintry.models import tracking

README = Path(__file__).parents[1] / "README.md"


def test_the_public_names_of_the_package() -> None:
    assert wintry.models.__all__ == [
        "Array",
        "ArrayOf",
        "AutoString",
        "AutoUUID",
        "DefinitionError",
        "DuplicateChild",
        "Field",
        "FieldInfo",
        "Id",
        "IdentityChanged",
        "InvalidValue",
        "Kind",
        "Leaf",
        "Model",
        "ModelError",
        "ModelInfo",
        "Nested",
        "OwnershipError",
        "RequiredId",
        "SharedChild",
        "Transient",
        "UnresolvedName",
        "collecting",
        "info",
        "same",
    ]
    assert all(hasattr(wintry.models, name) for name in wintry.models.__all__)


def test_the_public_names_of_tracking() -> None:
    assert tracking.__all__ == [
        "ChangeSet",
        "Insert",
        "Key",
        "Move",
        "Operation",
        "Path",
        "Remove",
        "Replace",
        "Set",
        "Snapshot",
        "diff",
        "snapshot",
    ]
    assert all(hasattr(tracking, name) for name in tracking.__all__)


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    code = compile(block[1], str(README), "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})  # noqa: S102 - the page's own example
    printed = [f"# {line}" for line in capsys.readouterr().out.splitlines()]
    assert block[1].splitlines()[-len(printed) :] == printed
