"""The one emitter of generated code.

A `Source` gathers lines at a level of indentation and the objects that they name. `function` compiles it into a
module-less namespace, and tells `linecache` the text, so that a traceback shows the generated line and a debugger
can step through it. Names are made from the names of types and are never used twice in one source.
"""

from __future__ import annotations

import keyword
import linecache
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import count
from typing import Any

_numbers = count(1)  # distinguishes the texts of two sources of one title in linecache
_word_border = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Source:
    """Lines of one generated function, and the namespace that they are run in.

    `reserved` are names that the lines use themselves, and no constant may take.
    """

    def __init__(self, namespace: dict[str, Any], reserved: Iterable[str] = ()) -> None:
        self._lines: list[str] = []
        self._depth = 0
        self._names: dict[int, str] = {}
        self._taken = {*namespace, *reserved}
        self.namespace = namespace

    def line(self, text: str) -> None:
        """Add one line at the present indentation."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, header: str) -> Generator[None]:
        """Add `header`, and indent what is added inside."""
        self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def constant(self, value: object, hint: str) -> str:
        """The name under which the code reaches `value`; one name for one object."""
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = self.fresh(hint)
            self.namespace[name] = value
        return name

    def fresh(self, hint: str) -> str:
        """A name like `hint` that this source does not use yet."""
        base = re.sub(r"\W+", "_", hint).strip("_") or "value"
        if base[0].isdigit() or keyword.iskeyword(base):
            base = f"{base}_" if keyword.iskeyword(base) else f"_{base}"
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    @property
    def text(self) -> str:
        """The source so far."""
        return "\n".join(self._lines) + "\n"

    def function(self, name: str, title: str) -> Callable[..., Any]:
        """Compile the source and return its function `name`; `title` names it in tracebacks."""
        filename = f"<wintry {title} #{next(_numbers)}>"
        text = self.text
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        made: dict[str, Any] = {}
        exec(compile(text, filename, "exec"), self.namespace, made)  # noqa: S102 - the text is ours
        result: Callable[..., Any] = made[name]
        return result


def snake(name: str) -> str:
    """`MessageBus` → `message_bus`."""
    return _word_border.sub("_", name).lower()
