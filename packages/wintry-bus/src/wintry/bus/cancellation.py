"""Whose doing a CancelledError is.

A task that is cancelled counts that (`Task.cancelling`) until somebody takes it back. So an error that comes while
nothing is counted was raised by the code that runs in the task, or told by a client whose connection was lost, and is
a failure like any other.
"""

from __future__ import annotations

from asyncio import current_task


def is_cancelled() -> bool:
    """Whether somebody cancels the calling task."""
    task = current_task()
    return task is None or task.cancelling() > 0
