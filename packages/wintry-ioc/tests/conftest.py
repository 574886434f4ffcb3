"""Fixtures of the tests: the event loop, and packages made on the spot for scans."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], str]]:
    """Write modules into a new importable package, and return its name. `{"a.b": "source"}` is module b of a."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(modules: Mapping[str, str]) -> str:
        name = f"scanned_{uuid4().hex}"
        names.append(name)
        root = tmp_path / name
        root.mkdir()
        (root / "__init__.py").write_text(textwrap.dedent(modules.get("", "")))
        for dotted, source in modules.items():
            if not dotted:
                continue
            *folders, last = dotted.split(".")
            folder = root.joinpath(*folders)
            folder.mkdir(parents=True, exist_ok=True)
            for each in [root.joinpath(*folders[: depth + 1]) for depth in range(len(folders))]:
                (each / "__init__.py").touch()
            (folder / f"{last}.py").write_text(textwrap.dedent(source))
        return name

    yield write
    for module in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[module]
