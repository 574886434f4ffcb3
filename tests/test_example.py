"""The example of a README, as the lanes run it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def extract(readme: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, ROOT / "tools/example.py", readme]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_first_python_block_is_the_example(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "# x\n\n```console\n$ x\n```\n\n```python\na = 1\n\nb = 2\n```\n\n```python\nc = 3\n```\n", "utf-8"
    )

    assert extract(readme).stdout == "a = 1\n\nb = 2\n"


def test_a_readme_without_an_example_is_a_fault(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# x\n", "utf-8")

    done = extract(readme)

    assert done.returncode == 1
    assert "has no ```python block" in done.stderr
