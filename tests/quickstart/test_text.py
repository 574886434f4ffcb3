"""The package `tuto` is the tutorial's own text, but for the edits of the table, and the table permits no others."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BLOCK = re.compile(r'^```py(?:thon)? [^\n]*title="([^"]+)"[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^(?:from (?P<module>\S+) )?import (?P<names>.+)$")
TABLE: dict[str, Any] = tomllib.loads((HERE / "edits.toml").read_text("utf-8"))
EDITS: list[dict[str, Any]] = TABLE["edit"]

pytestmark = pytest.mark.contract("APP-100")


def blocks() -> dict[str, str]:
    """The Python files of the text: blocks of one title joined in their order."""
    found: dict[str, str] = {}
    for title, block in BLOCK.findall((HERE / "text.md").read_text("utf-8")):
        found[title] = f"{found[title]}\n{block}" if title in found else block
    return found


def edited(file: str, text: str) -> str:
    """The text of a file after its edits."""
    lines = text.splitlines()
    for edit in EDITS:
        if edit["file"] == file:
            assert lines.count(edit["text"]) == 1, f"{file}: {edit['text']!r} must be one line of the text"
            place = lines.index(edit["text"])
            lines[place : place + 1] = edit["ours"]
    return "\n".join(lines) + "\n"


def ours(file: str) -> str:
    return (HERE / "tuto" / file).read_text("utf-8")


def used_names(source: str) -> set[str]:
    """The names that a module reads; what only stands in an import is not among them."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def imported_names(statement: str) -> Iterator[str]:
    (node,) = ast.parse(statement).body
    assert isinstance(node, ast.Import | ast.ImportFrom), statement
    for alias in node.names:
        yield alias.asname or alias.name


def test_the_text_has_eight_files() -> None:
    assert sorted(blocks()) == [
        "app.py",
        "controllers.py",
        "models.py",
        "publisher.py",
        "repositories.py",
        "services.py",
        "uow.py",
        "viewmodels.py",
    ]


@pytest.mark.parametrize("file", blocks())
def test_a_file_is_the_text_with_the_edits_of_the_table(file: str) -> None:
    assert ours(file) == edited(file, blocks()[file])


def test_the_package_has_besides_only_what_the_text_leaves_out() -> None:
    files = {path.name for path in (HERE / "tuto").iterdir() if path.name != "__pycache__"}

    assert files - {*blocks()} == {*TABLE["left_out"]}


def test_what_the_text_leaves_out_is_what_it_uses_or_shows_in_its_log() -> None:
    text = (HERE / "text.md").read_text("utf-8")

    for file in TABLE["left_out"]:
        module = file.removesuffix(".py")
        assert module == "__init__" or f"from .{module} import" in text or f"Loading module tuto.{module}" in text


def edits(kind: str) -> Any:
    chosen = [edit for edit in EDITS if edit["kind"] == kind]
    return pytest.mark.parametrize("edit", chosen, ids=[f"{each['file']}: {each['text'].strip()}" for each in chosen])


def test_every_edit_is_of_a_kind_that_is_permitted() -> None:
    assert {edit["kind"] for edit in EDITS} <= {"module", "lacking", "unused", "client", "url"}


@edits("module")
def test_an_import_from_a_module_of_another_name_keeps_its_names(edit: dict[str, Any]) -> None:
    (line,) = edit["ours"]
    before, after = IMPORT.match(edit["text"]), IMPORT.match(line)

    assert before is not None
    assert after is not None
    assert before["names"] == after["names"]
    assert after["module"] == TABLE["modules"][before["module"]]


@edits("lacking")
def test_what_a_block_lacks_are_imports_that_it_uses(edit: dict[str, Any]) -> None:
    *added, kept = edit["ours"]

    assert kept == edit["text"]
    for line in filter(None, added):
        assert {*imported_names(line)} <= used_names(ours(edit["file"]))


@edits("unused")
def test_what_goes_is_an_import_that_nothing_uses(edit: dict[str, Any]) -> None:
    assert edit["ours"] == []
    assert not {*imported_names(edit["text"])} & used_names(ours(edit["file"]))


@edits("client")
def test_the_client_of_redis_keeps_its_name(edit: dict[str, Any]) -> None:
    assert (edit["text"], edit["ours"]) == ("import aioredis", ["import redis.asyncio as aioredis"])


@edits("url")
def test_a_url_is_replaced_by_a_name_and_nothing_else(edit: dict[str, Any]) -> None:
    (line,) = edit["ours"]

    assert re.sub(r'"\w+://[^"]*"', "REDIS_URL", edit["text"]) == line
    assert line != edit["text"]
