"""nats-server with JetStream, for itself.

Each message that it acknowledges is on the disk before: nothing acknowledged is lost by `kill`. What consumers have
acknowledged is written a little later, as in production.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from .daemon import Daemon

HELLO = b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n'
CONFIGURATION = """\
listen: "127.0.0.1:{port}"
jetstream {{
  store_dir: "{folder}"
  sync_interval: always
}}
"""


class Nats(Daemon):
    """A nats-server without a password, and its JetStream."""

    title = "NATS"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Path:
        return self.folder / "nats.conf"

    async def prepare(self) -> None:
        self.configuration.write_text(CONFIGURATION.format(port=self.port, folder=self.folder / "data"), "utf-8")

    def command(self) -> list[str | Path]:
        return [self.program, "--config", self.configuration]

    async def ready(self) -> bool:
        """It answers a PING; it listens once it has read what it has stored."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(HELLO)
            return (await reader.readline()).startswith(b"INFO ") and await reader.readline() == b"PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
