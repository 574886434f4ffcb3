"""Finding what a package holds: its name where `App` is called without one, and the marked classes of its modules."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from .errors import StartError
from .marks import CONTROLLER, MICROSERVICE


def calling_package(depth: int) -> str:
    """The package of the module that called, `depth` frames up.

    Raises:
        StartError: the module is of no package, as a script or a prompt is.
    """
    spec = sys._getframe(depth + 1).f_globals.get("__spec__")
    if spec is None or not spec.parent:
        raise StartError(['App() was not called from a module of a package; name the package: App("package", …)'])
    return str(spec.parent)


def controllers(modules: Iterable[ModuleType]) -> list[type[Any]]:
    """The `@controller` classes that the modules define, in order of definition."""
    return marked(modules, CONTROLLER)


def microservices(modules: Iterable[ModuleType]) -> list[type[Any]]:
    """The `@microservice` classes that the modules define, in order of definition."""
    return marked(modules, MICROSERVICE)


def marked(modules: Iterable[ModuleType], attribute: str) -> list[type[Any]]:
    return [
        value
        for module in modules
        for value in list(vars(module).values())
        if inspect.isclass(value) and value.__module__ == module.__name__ and attribute in vars(value)
    ]
