"""Named points at which a test can make the process die.

`reach("committed")` does nothing unless a test has armed that point in the current context, which tasks and threads
inherit. The points are where a crash separates two things that belong together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

FAILPOINTS = {
    "acked": "a received message was acknowledged",
    "appended": "rows are written, their transaction is not committed",
    "buried": "a message that its listener gave up is a dead letter, and not yet acknowledged",
    "claimed": "a row was leased by a claim",
    "committed": "the transaction of state and rows has committed, nothing is delivered",
    "delivered": "a delivery's effect is stored, its row is not closed",
    "delivering": "a delivery's unit is open, its handler has not begun",
    "handled": "a command's handler has returned",
    "home-committed": "an effect is committed in another database than the journal's, its row is not closed",
    "kept": "the result of a command that a delivery handles is stored",
    "listened": "a listener has returned, its message is not acknowledged",
    "moved": "messages of another database are in the journal, and still where they came from",
    "published": "a send was published, its row is not closed",
    "publishing": "a send is about to be published",
    "received": "a transport gave out a message, no listener has seen it",
    "stored": "messages registered outside a transaction are stored",
}

armed: ContextVar[Callable[[str], None] | None] = ContextVar("wintry.bus.failpoint", default=None)


def reach(point: str) -> None:
    """The process has come to `point`."""
    act = armed.get()
    if act is not None:
        act(point)
