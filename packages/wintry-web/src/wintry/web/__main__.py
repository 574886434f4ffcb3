"""`python -m wintry.web WORD APP`: serve an application, or look at it. APP is `package.module:name`.

`check` starts and stops it, and shows every fault of its definition; `routes` lists what it answers; `openapi` prints
its description. The exit code is 0, 1 where the surroundings refuse, 3 where the application cannot start.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

from .app import App
from .components import installed
from .controllers import Http
from .errors import NotReachable, SettingsError, StartError, collecting
from .serve import START_FAILURE, AddressError, serve
from .settings import FILE_VARIABLE

REFUSED = 1


class AppError(ValueError):
    """The text does not name an application."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code."""
    options = parser().parse_args(arguments)
    if options.settings is not None:
        os.environ[FILE_VARIABLE] = options.settings
    words: dict[str, Callable[[App], int]] = {
        "serve": lambda app: serve(app, host=options.host, port=options.port),
        "check": lambda app: asyncio.run(started(app, lambda: print("No faults."))),
        "routes": lambda app: asyncio.run(started(app, lambda: print_routes(app))),
        "openapi": lambda app: asyncio.run(started(app, lambda: print(compiled(app).document.content.decode()))),
    }
    try:
        return words[options.word](named_app(options.app))
    except (SettingsError, AddressError, AppError, NotReachable) as error:
        print(f"wintry.web: {error}", file=sys.stderr)
        return REFUSED
    except StartError as error:
        print(error, file=sys.stderr)
        return START_FAILURE


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m wintry.web", description="Serve an application, or look at it.")
    parser.add_argument("word", choices=["serve", "check", "routes", "openapi"])
    parser.add_argument("app", metavar="APP", help="package.module:name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--settings", metavar="FILE", help="a settings file, TOML or JSON")
    return parser


def named_app(text: str) -> App:
    """The application that `package.module:name` names.

    Raises:
        AppError: there is no such module or name, or it is no application.
    """
    module, colon, name = text.partition(":")
    if not colon:
        raise AppError(f"{text!r} names no application; write package.module:name")
    sys.path.insert(0, os.getcwd())
    try:
        with ExitStack() as stack:  # what is wrong in the module of the application itself joins its report
            openers = [collecting, *(component.collecting for component in installed())]
            lists = [stack.enter_context(each()) for each in openers]
            found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise  # something that the application itself imports
        raise AppError(f"there is no module {error.name!r}") from None
    except AttributeError:
        raise AppError(f"{module} has no {name!r}") from None
    if not isinstance(found, App):
        raise AppError(f"{text} is a {type(found).__name__}, not an App")
    found.container.add_faults([fault for each in lists for fault in each])
    return found


async def started(app: App, show: Callable[[], None]) -> int:
    async with app.running():
        show()
    return 0


def compiled(app: App) -> Http:
    if app.http is None:
        raise StartError(["The application has not started."])
    return app.http


def print_routes(app: App) -> None:
    for route in compiled(app).routes.routes:
        print(f"{route.method:7} {route.path}  {route.name}")


if __name__ == "__main__":
    sys.exit(main())
