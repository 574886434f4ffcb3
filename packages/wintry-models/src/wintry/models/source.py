"""The one emitter of generated code.

A `Source` gathers lines under the present indentation and the objects that they name, and compiles them into a
function. The text is handed to `linecache`, so that a traceback quotes the generated line and a debugger can step
through it; the namespace holds nothing but what was bound.
"""

from __future__ import annotations

import builtins
import keyword
import linecache
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

_INDENT = "    "
_BUILT_IN = frozenset(dir(builtins))
_numbers = count(1)  # two sources of one title must not share a place in linecache


class Source:
    """The lines of generated functions that share one namespace. `title` names them in tracebacks."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._lines: list[str] = []
        self._depth = 0
        self._namespace: dict[str, Any] = {}
        self._bound: dict[int, str] = {}
        self._taken: set[str] = set(_BUILT_IN)  # a field called `type` must not hide what the code calls

    def line(self, text: str) -> None:
        """Add one line."""
        self._lines.append(_INDENT * self._depth + text)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Add `header`; what is added inside is indented below it."""
        self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def bind(self, value: object, hint: str) -> str:
        """The name by which the code reaches `value`: one name an object."""
        name = self._bound.get(id(value))
        if name is None:
            name = self._bound[id(value)] = self.fresh(hint)
            self._namespace[name] = value
        return name

    def fresh(self, hint: str) -> str:
        """A name like `hint` that nothing in this source has, and no built-in."""
        stem = re.sub(r"\W+", "_", hint)
        name, number = (f"{stem}_" if keyword.iskeyword(stem) else stem), 2
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name

    @property
    def text(self) -> str:
        """The source as it stands."""
        return "\n".join(self._lines) + "\n"

    def compiled(self, *names: str) -> tuple[Callable[..., Any], ...]:
        """Compile, and give the functions of these names."""
        text = self.text
        filename = f"<wintry.models {self.title} {next(_numbers)}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self._namespace)  # noqa: S102 - the text is ours alone
        return tuple(self._namespace[name] for name in names)


def variable(name: str) -> str:
    """A local variable's name for an object of the class `name`: `order_line` for `OrderLine`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
