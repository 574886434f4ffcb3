"""An application with several definitions that cannot work says so in one report, and does not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "__init__.py": "",
    "parts.py": """
from typing import Protocol
from wintry.bus import Command, MessageQueue, command_handler
from wintry.ioc import provider
from wintry.models import Model, RequiredId
from wintry.repository import Repository, query


class Chair(Model):
    sku: str = RequiredId()
    colour: str


class Paint(Protocol):
    def mix(self) -> None: ...


class Order(Command):
    sku: str


@provider
class Chairs(Repository[Chair, str], entity=Chair):
    @query
    async def find_by_color(self, *, color: str) -> list[Chair]: ...


@provider
class Painter:
    paint: Paint


@provider
class Orders(MessageQueue):
    @command_handler
    async def take(self, command: Order) -> None: ...

    @command_handler
    async def take_again(self, command: Order) -> None: ...
""",
    "app.py": """
from wintry.web import App, BackendOptions, WinterSettings

app = App(settings=WinterSettings(backends=[BackendOptions(url="sqlite+aiosqlite:///:memory:")]))
""",
    "__main__.py": """
import sys
from wintry.web import serve
from broken.app import app

sys.exit(serve(app, port=0))
""",
}


@pytest.mark.contract("APP-027")
def test_three_faults_are_one_report_and_exit_code_3(tmp_path: Path) -> None:
    package = tmp_path / "broken"
    package.mkdir()
    for name, text in BROKEN.items():
        (package / name).write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "broken"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "The application cannot start: 3 faults." in said
    assert "find_by_color" in said
    assert "colour" in said  # the nearest good name
    assert "Paint" in said
    assert "take_again" in said
    assert "Traceback" not in said
