"""The contract: every line of docs/reference is shown by a test, and every test's mark names a line.

The pages under docs/reference state what each package promises, one bullet a promise: `- **REPO-017** A repository
…`. A test says which promises it shows: `@pytest.mark.contract("REPO-017")`, on a function, a class or a whole module
(`pytestmark`). Both sides are read as text and syntax tree, nothing is imported. A line without a test, a mark without
a line, an id given twice and a line in the wrong page are faults; the table says how many lines each page has and how
many tests show them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^\s*[-*] \*\*(?P<id>[A-Z]+-\d{3,})\*\*", re.MULTILINE)
PREFIXES = {
    "models": "MODELS",
    "repository": "REPO",
    "uow": "UOW",
    "ioc": "IOC",
    "bus": "BUS",
    "web": "WEB",
    "allocation": "APP",
}


@dataclass(frozen=True)
class Place:
    """Where an id stands: a line of a page, or a mark in a test module."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass
class Contract:
    """The lines of the pages and the marks of the tests, each by id."""

    lines: dict[str, list[Place]] = field(default_factory=dict)
    marks: dict[str, list[Place]] = field(default_factory=dict)
    malformed: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """What is wrong, one sentence each, in the order of the ids."""
        found = list(self.malformed)
        for identifier, places in sorted(self.lines.items()):
            if len(places) > 1:
                found.append(f"{identifier} is given more than once: {', '.join(map(str, places))}")
            if identifier not in self.marks:
                found.append(f"{identifier} ({places[0]}) has no test: mark one with contract({identifier!r})")
        for identifier, places in sorted(self.marks.items()):
            if identifier not in self.lines:
                found.append(f"{identifier} ({places[0]}) marks a test, but no page under docs/reference has the line")
        return found

    def table(self) -> str:
        """One row a page: its prefix, its lines, the lines shown and the marks that show them."""
        rows = [("prefix", "lines", "shown", "marks")]
        lines = Counter(prefix(identifier) for identifier in self.lines)
        shown = Counter(prefix(identifier) for identifier in self.lines if identifier in self.marks)
        marks = Counter[str]()
        for identifier, places in self.marks.items():
            marks[prefix(identifier)] += len(places)
        for name in sorted(lines | marks):
            rows.append((name, str(lines[name]), str(shown[name]), str(marks[name])))
        rows.append(("all", str(lines.total()), str(shown.total()), str(marks.total())))
        return "\n".join(f"{row[0]:<8}{row[1]:>7}{row[2]:>7}{row[3]:>7}" for row in rows)


def prefix(identifier: str) -> str:
    return identifier.rpartition("-")[0]


def read(root: Path) -> Contract:
    """Read the pages and the tests of the workspace at `root`."""
    contract = Contract()
    pages = [page for page in sorted(root.glob("docs/reference/*.md")) if page.name != "README.md"]
    for page in pages:
        text = page.read_text("utf-8")
        for match in LINE.finditer(text):
            identifier, place = match["id"], Place(page.relative_to(root), text.count("\n", 0, match.start("id")) + 1)
            contract.lines.setdefault(identifier, []).append(place)
            expected = PREFIXES.get(page.stem)
            if expected != prefix(identifier):
                contract.malformed.append(f"{identifier} ({place}) stands in a page whose ids begin with {expected}-")
    for module in sorted(test_modules(root)):
        for argument in marks_of(ast.parse(module.read_bytes())):
            place = Place(module.relative_to(root), argument.lineno)
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                contract.marks.setdefault(argument.value, []).append(place)
            else:
                contract.malformed.append(
                    f"{place}: a mark names its lines by literal strings, got {ast.unparse(argument)}"
                )
    return contract


def test_modules(root: Path) -> Iterator[Path]:
    for folder in (*root.glob("packages/*/tests"), *root.glob("apps/*/tests"), root / "tests"):
        yield from folder.rglob("test_*.py")


def marks_of(tree: ast.AST) -> Iterator[ast.expr]:
    """The arguments of every `….contract(…)` call of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "contract":
            yield from node.args


def main() -> int:
    contract = read(ROOT)
    print(contract.table())
    faults = contract.faults()
    for fault in faults:
        print(f"contract: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
