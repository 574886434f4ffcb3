"""Where the programs of the servers are: in a wheel that the environment has, else on the system.

Nothing is downloaded. A wheel is found without importing it: only its folder is of interest.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sysconfig
from pathlib import Path


class Missing(Exception):
    """No program for this server here; the message says how to get one."""


def in_wheel(package: str, pattern: str) -> Path | None:
    """The program of an installed wheel, by its path inside of the package."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # the parent of a dotted name
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () for path in Path(folder).glob(pattern)), None)


def beside_python(name: str) -> Path | None:
    """The program that an installed wheel brings as a script of the environment, which need not be on the PATH."""
    found = Path(sysconfig.get_path("scripts"), name)
    return found if found.exists() else None


def on_path(*names: str) -> Path | None:
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


def newest(parent: str, pattern: str) -> Path | None:
    """The program below `parent` with the highest number in its path: what Debian keeps side by side."""

    def version(path: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", str(path))]

    return max(Path(parent).glob(pattern), key=version, default=None)


def open_to_all(path: Path) -> bool:
    """May a user who owns nothing here enter this folder?"""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
