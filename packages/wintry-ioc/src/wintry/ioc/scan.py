"""The modules of a package, imported in sorted order.

Each module is imported whatever the others did; what failed becomes a fault that names the module. A module that is
being imported at this very moment (the one that asked for the scan) is not touched, and belongs to the result: its
marks are there when they are collected later.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from types import ModuleType

from .errors import Fault

SKIPPED = frozenset({"__main__", "tests", "conftest", "migrations"})

logger = logging.getLogger("wintry")


class Loaded:
    """What a scan found: the modules in their order, and a fault for each that could not be imported."""

    def __init__(self) -> None:
        self.modules: list[ModuleType] = []
        self.faults: list[Fault] = []
        self.errors: list[Exception | SystemExit] = []


def load(package: str, exclude: Iterable[str] = ()) -> Loaded:
    """Import a package and all modules below it, but those that `exclude` names or matches.

    An entry of `exclude` is a module's dotted name, whole or relative to the package, or a pattern with `*`; what lies
    below it is left out as well.
    """
    loaded = Loaded()
    root = _import(package, loaded, announce=False)
    if root is not None:
        _walk(root, package, tuple(exclude), loaded)
    return loaded


def _walk(parent: ModuleType, package: str, exclude: tuple[str, ...], loaded: Loaded) -> None:
    for name in sorted(_children(parent)):
        last = name.rpartition(".")[2]
        if last in SKIPPED or _excluded(name, package, exclude):
            continue
        module = _import(name, loaded, announce=True)
        if module is not None:
            _walk(module, package, exclude, loaded)


def _children(module: ModuleType) -> Iterator[str]:
    for each in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield f"{module.__name__}.{each.name}"


def _excluded(name: str, package: str, exclude: tuple[str, ...]) -> bool:
    relative = name[len(package) + 1 :]
    return any(fnmatchcase(name, each) or fnmatchcase(relative, each) for each in exclude)


def _import(name: str, loaded: Loaded, *, announce: bool) -> ModuleType | None:
    present = sys.modules.get(name)
    if present is not None and getattr(present.__spec__, "_initializing", False):
        loaded.modules.append(present)
        return present
    if announce:
        logger.info("Loading module %s", name)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything, a script ends by itself
        loaded.errors.append(error)
        loaded.faults.append(_fault(name, error))
        return None
    loaded.modules.append(module)
    return module


def _fault(name: str, error: BaseException) -> Fault:
    """Where in the module's own code, and why."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames if frame.filename != __file__]
    return Fault(name, f"cannot be imported: {type(error).__name__}: {error}", tuple(where[-1:]))
