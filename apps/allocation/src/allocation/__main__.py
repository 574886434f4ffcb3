"""The command `allocation`: serve the service on one address until a signal says to stop.

What the surroundings refuse (a taken port, a folder that cannot be written, a settings file that cannot be read, a
database that is away) is one line on standard error and exit code 1; an application that cannot start is its report and exit code 3.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from allocation import settings
from wintry.web import AddressError, NotReachable, SettingsError, serve


def main(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code."""
    options = parser().parse_args(arguments)
    os.environ[settings.DATA_VARIABLE] = options.data
    if options.settings is not None:
        os.environ[settings.SETTINGS_VARIABLE] = options.settings
    try:
        prepare_folder(settings.data_folder())
        from allocation.app import app  # reads the two variables

        return serve(app, host=options.host, port=options.port, ready=tell)
    except (SettingsError, AddressError, FolderError, NotReachable) as error:
        print(f"allocation: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("allocation", description="The allocation service.")
    parser.add_argument("--host", default=os.environ.get("ALLOCATION_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("ALLOCATION_PORT", "8000"))
    parser.add_argument(
        "--data", default=os.environ.get(settings.DATA_VARIABLE, "./var"), help="the folder of the SQLite files"
    )
    parser.add_argument("--settings", metavar="FILE", help="a settings file, TOML or JSON")
    return parser


class FolderError(OSError):
    """The folder for the data cannot be made or written."""


def prepare_folder(folder: Path) -> None:
    """Make the folder, and try to write in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FolderError(f"cannot write in {folder}: {error.strerror}; choose another folder with --data") from None


def tell(url: str) -> None:
    print(f"Stock board  {url}/\nAPI docs     {url}/docs", flush=True)


if __name__ == "__main__":
    sys.exit(main())
