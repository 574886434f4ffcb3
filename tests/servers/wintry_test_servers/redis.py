"""Valkey or redis-server: one program, one protocol, two names.

Each write is in the append-only file, and on the disk, before its reply is sent: nothing acknowledged is lost by `kill`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from .daemon import Daemon

DATABASES = 256
SETTINGS = {
    "appendfsync": "always",
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "0",
    "bind": "127.0.0.1",
    "databases": str(DATABASES),
    "enable-debug-command": "local",
    "save": "",
}


class Redis(Daemon):
    """A Valkey or Redis without a password."""

    title = "Redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def prepare(self) -> None:
        """Nothing: it makes its files itself."""

    def command(self) -> list[str | Path]:
        settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        return [self.program, "--port", str(self.port), "--dir", self.folder, *settings]

    async def ready(self) -> bool:
        """It answers a PING with PONG: while it loads its file the answer is an error."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
