"""The mypy plugin: `plugins = wintry.repository.mypy` in mypy's settings.

The name of a `@query` method says all that it does, and its body is `...`. To mypy such a body returns nothing, which
is the error `empty-body` where the method is to return something. The plugin says of these methods that their bodies
never run; whatever else mypy knows of them, their signatures above all, stays as it is. A method that no `@query`
marks, or that has a body, is checked like any other.

Only mypy imports this module; the package does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy.nodes import CallExpr, Decorator, Expression, RefExpr, TypeInfo
from mypy.plugin import ClassDefContext, Plugin
from mypy.semanal import is_trivial_body

REPOSITORY: Final = "wintry.repository.repository.Repository"
QUERY: Final = "wintry.repository.query.query"


class RepositoryPlugin(Plugin):
    """Looks at every class that derives from `Repository`, at first or second hand."""

    def get_base_class_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        base = self.lookup_fully_qualified(fullname)
        if base is not None and isinstance(base.node, TypeInfo) and base.node.has_base(REPOSITORY):
            return mark_queries
        return None


def mark_queries(context: ClassDefContext) -> None:
    """Tell mypy of the queries of a class that their bodies never run, as of a body under `if TYPE_CHECKING:`."""
    for symbol in context.cls.info.names.values():
        method = symbol.node
        if isinstance(method, Decorator) and any(map(is_query, method.decorators)):
            method.func.is_mypy_only = method.func.is_mypy_only or is_trivial_body(method.func.body)


def is_query(decorator: Expression) -> bool:
    """Whether this is `@query` or `@query("…")`, under whatever name it was imported."""
    called = decorator.callee if isinstance(decorator, CallExpr) else decorator
    return isinstance(called, RefExpr) and called.fullname == QUERY


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return RepositoryPlugin
