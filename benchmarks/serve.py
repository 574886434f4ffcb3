"""One process of a service: `python -m benchmarks.serve MODULE:APP SOCKET [--access-log]`.

SOCKET is the number of an inherited socket, bound and listening. All contenders run so: uvicorn on uvloop.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import sys

import uvicorn

PR_SET_PDEATHSIG = 1


def main() -> None:
    if sys.platform == "linux":  # whatever ends the benchmark ends its services
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    app, number, *options = sys.argv[1:]
    config = uvicorn.Config(app, loop="uvloop", access_log="--access-log" in options, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(number))])


if __name__ == "__main__":
    main()
