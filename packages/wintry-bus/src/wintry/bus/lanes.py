"""Order by key inside this process.

A lane is a line of calls of one queue class and one key, in the order of their commits. Only its head may run. A call
joins when its commit is known, not when somebody comes round to running it, because that is what fixes the order.
The lines between processes are the journal's: this one only ever holds deliveries that this process has leased.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from .call import Call


class Lanes:
    """The lanes that have calls in them."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Call]] = {}

    def join(self, call: Call) -> None:
        """Queue at the end of the call's lane."""
        assert call.lane is not None
        line = self._lines.get(call.lane)
        if line is None:
            self._lines[call.lane] = deque((call,))
        else:
            line.append(call)

    def is_head(self, call: Call) -> bool:
        """Whether it is this call's turn; always, without a lane."""
        if call.lane is None:
            return True
        line = self._lines.get(call.lane)
        return line is not None and line[0] is call

    def line(self, lane: str | None) -> Sequence[Call]:
        """The calls of a lane, the head first."""
        return () if lane is None else tuple(self._lines.get(lane, ()))

    def leave(self, call: Call) -> Call | None:
        """The head is done: the call whose turn it is now, if any."""
        assert call.lane is not None
        line = self._lines[call.lane]
        line.popleft()
        if line:
            return line[0]
        del self._lines[call.lane]
        return None

    def dissolve(self, call: Call) -> list[Call]:
        """The head failed and will come back later: the calls that waited behind it, whose lane is gone."""
        assert call.lane is not None
        _, *waiting = self._lines.pop(call.lane)
        return waiting
