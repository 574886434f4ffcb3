"""The package as a whole: what it exports, and that its README's example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import wintry.web

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.contract("WEB-316")
class TestPackage:
    def test_what_it_exports_is_sorted_and_there(self) -> None:
        names = list(wintry.web.__all__)

        assert names == sorted(names)
        assert [name for name in names if not hasattr(wintry.web, name)] == []

    def test_the_example_of_the_readme_runs(self, tmp_path: Path) -> None:
        code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        assert code is not None
        script = tmp_path / "prices.py"
        script.write_text(code[1])

        command = [sys.executable, "-W", "error", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

        assert done.returncode == 0, done.stderr

    def test_importing_it_imports_neither_a_server_nor_a_data_layer(self) -> None:
        code = (
            "import sys, wintry.web\n"
            "loaded = {name.partition('.')[0] for name in sys.modules} | set(sys.modules)\n"
            "print(loaded & {'uvicorn', 'sqlalchemy', 'openapi_pydantic', 'offapi', 'wintry.bus', 'wintry.repository'})"
        )

        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

        assert done.stdout.strip() == "set()"
