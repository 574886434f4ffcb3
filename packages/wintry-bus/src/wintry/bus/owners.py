"""Who holds a lease: one runtime of one process of one host.

A lease ends by itself some time after its process has died. On the same host one need not wait: the name of an owner
tells its process, and whether that has ended can be seen. A wrong guess costs an attempt and nothing else, because
every write-back of a delivery is fenced by its owner.
"""

from __future__ import annotations

import os
import socket
from typing import Final

_PROCESS: Final = os.urandom(4).hex()
"""Tells this process from an earlier one with its number, as the first process of a container always has."""


def new_owner() -> str:
    """A name for a runtime of this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{_PROCESS}:{os.urandom(4).hex()}"


def is_gone(owner: str) -> bool:
    """Whether an owner's process was one of this host and has ended."""
    host, number, process, _ = (*owner.rsplit(":", 3), "", "", "")[:4]
    if host != socket.gethostname() or not number.isdecimal():
        return False
    if int(number) == os.getpid():
        return process != _PROCESS
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        return False
    return False
