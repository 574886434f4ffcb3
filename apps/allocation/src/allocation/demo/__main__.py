"""`python -m allocation.demo`: feed a day to the service, and print what came of it.

The tables go to standard output, all else to standard error. What the surroundings refuse is one line and exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine

from allocation import settings
from allocation.demo.errors import DemoError
from wintry.web import SettingsError

EXTRA = ("httpx2", "rich")


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration and give its exit code."""
    options = parser().parse_args(arguments)
    os.environ[settings.DATA_VARIABLE] = options.data
    if options.settings is not None:
        os.environ[settings.SETTINGS_VARIABLE] = options.settings
    try:
        from allocation.demo.run import run

        asyncio.run(until_terminated(run(options.url.rstrip("/"))))
    except (DemoError, SettingsError) as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        return refuse(f"{missing} is missing; install allocation with the extra `demo`")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return refuse("interrupted; the next run goes on where this one ended")
    return 0


def parser() -> argparse.ArgumentParser:
    host, port = os.environ.get("ALLOCATION_HOST", "127.0.0.1"), os.environ.get("ALLOCATION_PORT", "8000")
    parser = argparse.ArgumentParser("python -m allocation.demo", description="Feed a day to the allocation service.")
    parser.add_argument("--url", default=f"http://{host}:{port}", help="where it answers, or is to be started")
    data = os.environ.get(settings.DATA_VARIABLE, "./var")
    parser.add_argument("--data", default=data, help="the folder of the service's SQLite files")
    parser.add_argument("--settings", metavar="FILE", help="the service's settings file")
    return parser


async def until_terminated(work: Coroutine[None, None, None]) -> None:
    """Do the work; SIGTERM cancels it as an interrupt does, so that a service it has started is ended."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def refuse(reason: str) -> int:
    print(f"demo: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
