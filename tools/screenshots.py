"""The pictures of the documentation, docs/board.png and docs/docs.png: the service after the demo, in Chromium.

    ./hatchw run screenshots

The service runs in a folder of its own, and is fed once by the demo.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "servers"))

from wintry_test_servers.chromium import Browser, browser
from wintry_test_servers.programs import Missing

WIDTH, HEIGHT = 1120, 700
LIVE = "document.getElementById('state').className === 'live' && document.querySelectorAll('.product').length >= 40"


async def main() -> int:
    folder = Path(tempfile.mkdtemp())
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocation", "--port", str(free_port()), "--data", str(folder / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert service.stdout is not None
        url = (await service.stdout.readline()).decode().split()[-1].rstrip("/")
        demo = (sys.executable, "-m", "allocation.demo", "--url", url, "--data", str(folder / "data"))
        fed = await asyncio.create_subprocess_exec(*demo, stdout=asyncio.subprocess.DEVNULL)
        if await fed.wait():
            return 1
        async with browser(folder) as chromium:
            await picture(chromium, f"{url}/", LIVE, "board.png")
            await picture(chromium, f"{url}/docs", "document.querySelectorAll('.opblock').length >= 5", "docs.png")
    except Missing as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    finally:
        service.terminate()
        await service.wait()
        shutil.rmtree(folder)
    return 0


async def picture(chromium: Browser, url: str, ready: str, name: str) -> None:
    """Write what a reader sees of a page once it is ready, and nothing on it moves any more."""
    page = await chromium.open(width=WIDTH, height=HEIGHT)
    await page.go(url)
    await page.wait_for(ready)
    await page.wait_for("document.getAnimations().length === 0")
    (ROOT / "docs" / name).write_bytes(await page.screenshot())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
