"""PostgreSQL: `initdb` into the folder, then `postgres` itself, over TCP only.

It refuses to run as root, so there it runs as `nobody`, who can neither enter root's home nor the environment in it:
a wheel's programs, which may be moved, are linked into the folder then. Durability against a crash of the machine is
switched off, against that of the server it is not: an acknowledged commit survives `kill`.

A killed PostgreSQL leaves a System V segment behind, which the next start on the same data takes over. So that none
is left in the end, the signal on the supervisor's death is SIGQUIT, an immediate shutdown that removes it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
from pathlib import Path

from .daemon import Daemon
from .programs import open_to_all

IPC_RMID = 0
SETTINGS = {
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "wal_level": "minimal",
}


class Postgres(Daemon):
    """A PostgreSQL whose superuser `postgres` needs no password."""

    title = "PostgreSQL"
    stop_signal = signal.SIGINT
    death_signal = signal.SIGQUIT

    def __init__(self, program: Path, folder: Path) -> None:
        super().__init__(program, folder)
        self.data = folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def prepare(self) -> None:
        if os.geteuid() == 0:
            self.user = nobody()
            os.chown(self.folder, self.user, self.user)
        if not (os.access(self.program, os.X_OK) if self.user is None else open_to_all(self.program.parent)):
            self.program = linked(self.program, self.folder / "program")
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        initdb = self.program.with_name("initdb")
        await self.run([initdb, "--pgdata", self.data, "--username", "postgres", *options])

    def command(self) -> list[str | Path]:
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [self.program, "-D", self.data, "-h", "127.0.0.1", "-p", str(self.port), "-k", "", *settings]

    async def ready(self) -> bool:
        status = self.status()
        return len(status) > 7 and status[0] == str(self.process and self.process.pid) and status[7].strip() == "ready"

    async def discard(self) -> None:
        await super().discard()
        if segment := [int(word) for line in self.status()[6:7] for word in line.split()[1:2]]:
            ctypes.CDLL(None).shmctl(segment[0], IPC_RMID, None)

    def status(self) -> list[str]:
        """The lines of the file that is there while the server runs, or after it was killed."""
        try:
            return (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return []


def nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def linked(program: Path, folder: Path) -> Path:
    """The same program of the same wheel in another folder, by hard links where the file system lets."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    package = program.parents[2]  # PACKAGE/pginstall/bin/postgres; its libraries are beside it, in PACKAGE.libs
    for source in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(source, folder / source.name, copy_function=link, symlinks=True)
    folder.chmod(0o755)
    return folder / program.relative_to(package.parent)
