"""The quick start as type checkers read it: `python tools/quickstart.py [mypy] [strict] [pyright]`, all by default.

Each reads a copy of tests/quickstart/tuto in a folder of its own, as a reader of the tutorial has it: without the
settings of this repository. `mypy` has its defaults and the plugin of wintry-repository, `pyright` has its defaults;
`strict` is mypy's --strict on the package with its signatures completed by annotations.toml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = ROOT / "tests" / "quickstart"
MYPY = [sys.executable, "-m", "mypy", "--package", "tuto"]
CHECKERS = {
    "mypy": [*MYPY, "--cache-dir", str(ROOT / ".mypy_cache" / "quickstart")],
    "strict": [*MYPY, "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "quickstart-strict")],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "tuto"],
}


def complete(package: Path) -> None:
    """Complete the signatures of the package.

    Raises:
        ValueError: a line that is to be completed is not there.
    """
    for name, lines in tomllib.loads((TEXT / "annotations.toml").read_text("utf-8")).items():
        module = package / f"{name}.py"
        text = module.read_text("utf-8")
        for given, completed in lines.items():
            if f"\n{given}\n" not in f"\n{text}":
                raise ValueError(
                    f"{module.name} has no line {given!r}; annotations.toml completes lines that are there"
                )
            text = text.replace(f"{given}\n", f"{completed}\n")
        module.write_text(text, "utf-8")


def check(name: str) -> int:
    """Let a checker read the package; gives its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "tuto")
        shutil.copytree(TEXT / "tuto", package, ignore=shutil.ignore_patterns("__pycache__"))
        Path(folder, "mypy.ini").write_text("[mypy]\nplugins = wintry.repository.mypy\n", "utf-8")
        if name == "strict":
            complete(package)
        print(f"{name}:", flush=True)
        return subprocess.run(CHECKERS[name], cwd=folder, check=False).returncode


def main() -> int:
    names = sys.argv[1:] or [*CHECKERS]
    if unknown := [name for name in names if name not in CHECKERS]:
        sys.exit(f"there is no checker {unknown[0]!r}; there are: {', '.join(CHECKERS)}")
    return max([check(name) for name in names])


if __name__ == "__main__":
    sys.exit(main())
