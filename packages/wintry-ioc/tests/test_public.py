"""The public names, and what importing them costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import wintry.ioc


@pytest.mark.contract("IOC-001")
def test_the_public_names_are_these() -> None:
    assert wintry.ioc.__all__ == [
        "AsyncRequired",
        "Container",
        "ContainerStateError",
        "DefinitionError",
        "Fault",
        "InjectionError",
        "IoCError",
        "Lifetime",
        "Named",
        "NoContainer",
        "NotProvided",
        "Override",
        "Plan",
        "ScanError",
        "Scope",
        "ScopeClosed",
        "collecting",
        "inject",
        "injectable",
        "injected",
        "provider",
    ]
    assert all(hasattr(wintry.ioc, name) for name in wintry.ioc.__all__)


def test_the_readme_example_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example[1]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello, Ada\n"
