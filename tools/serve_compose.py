"""The servers of docker-compose.yml, and the allocation service on them.

`docker compose up -d --wait` returns when every server answers; then the service takes the place of this process, so
that a signal to the one is a signal to the other. The servers go on when the service ends: `docker compose down` stops
them, with `--volumes` it also forgets what they hold.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "apps" / "allocation" / "src" / "allocation" / "settings" / "servers.toml"
UP = ["docker", "compose", "up", "-d", "--wait"]


def main(arguments: list[str]) -> int:
    """Start the servers and become the service; the exit code where that cannot be."""
    try:
        code = subprocess.run(UP, cwd=ROOT, check=False).returncode
    except FileNotFoundError:
        return refuse("there is no `docker` on the PATH; install Docker with its plugin `compose`")
    except PermissionError as error:
        return refuse(f"`docker` cannot be run: {error.strerror}")
    except KeyboardInterrupt:
        return refuse("interrupted; `docker compose down` stops the servers that have started")
    if code:
        return refuse(f"`{' '.join(UP)}`, which needs the plugin `compose` and a running engine, ended with {code}")
    service = str(Path(sys.executable).with_name("allocation"))
    os.execv(service, [service, "--settings", str(SETTINGS), *arguments])


def refuse(reason: str) -> int:
    print(f"serve-compose: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
