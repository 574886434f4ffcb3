"""One process of a service: `python -m benchmarks.serve MODULE:APP SOCKET [--access-log]`.

SOCKET is the number of an inherited socket, bound and listening. All contenders run so: uvicorn on uvloop, and what the
start has made is kept from the garbage collector, as `python -m wintry.web serve` does.
"""

from __future__ import annotations

import ctypes
import gc
import signal
import socket
import sys

import uvicorn

PR_SET_PDEATHSIG = 1


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def main() -> None:
    if sys.platform == "linux":  # whatever ends the benchmark ends its services
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    app, number, *options = sys.argv[1:]
    config = uvicorn.Config(app, loop="uvloop", access_log="--access-log" in options, timeout_graceful_shutdown=5)
    Server(config).run(sockets=[socket.socket(fileno=int(number))])


if __name__ == "__main__":
    main()
