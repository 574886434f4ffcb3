"""What is measured: a case holds its contenders, and its goals as ratios between them.

A contender is a context manager, sync or async, that sets up all that it needs and yields one operation: a callable
without arguments, sync or async. The decorators `ours`, `limit` and `peer` put contenders into their case; a case
stands in the module of its area as an ordinary object, and there the runner finds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

Operation = Callable[[], Any] | Callable[[], Awaitable[Any]]
Contender = Callable[[], AbstractAsyncContextManager[Operation] | AbstractContextManager[Operation]]

OURS = "ours"
LIMIT = "limit"


@dataclass(frozen=True)
class Goal:
    """How our value shall stand to another contender's: `Goal("limit", at_most=1.25)`."""

    against: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"a goal against {self.against!r} takes either at_most= or at_least=")

    def __str__(self) -> str:
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {bound:.3g} × {self.against}"

    def met(self, ratio: float) -> bool:
        return ratio <= self.at_most if self.at_most is not None else ratio >= (self.at_least or 0.0)


@dataclass(kw_only=True)
class Case:
    """One comparison.

    Args:
        name: unique in its area; the word on the command line.
        goals: bounds on the ratio of our value to a contender's.
        better: "lower" measures the time of one piece of work, "higher" the pieces of work in a second.
        work: pieces of work in one operation, such as the 64 commands that it starts together.
        loops: operations in a round; None lets a round last about 50 ms. Fix it where operations leave rows behind, so
            that all contenders' data grow alike.
        rounds: how often each contender's turn comes.
        compare: turns an operation's result into what must be equal among all contenders; runs outside of the timing.
        note: what limits us where a goal is out of reach: what was measured, and what it would take.
        figure: what the value of a round is instead of the clock's, of the results of its operations.
        unit: what the value is in; None for µs where less is better, 1/s where more is.
        smoke: set while the case runs once only, so that an operation of many pieces does but a few.
    """

    name: str
    goals: Sequence[Goal] = ()
    better: Literal["lower", "higher"] = "lower"
    work: int = 1
    loops: int | None = None
    rounds: int = 15
    compare: Callable[[Any], object] = lambda result: result
    note: str = ""
    figure: Callable[[list[Any]], float] | None = None
    unit: str = ""
    smoke: bool = field(default=False, init=False)
    also: list[Case] = field(default_factory=list, init=False)
    contenders: dict[str, Contender] = field(default_factory=dict, init=False)
    absent: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.unit = self.unit or ("µs" if self.better == "lower" else "1/s")

    def read(self, name: str, figure: Callable[[list[Any]], float], **options: Any) -> Case:
        """Another figure of the same rounds, as a case of its own in the tables: `figure` of the operations' results."""
        self.also.append(Case(name=f"{self.name}, {name}", figure=figure, **options))
        return self.also[-1]

    def ours(self, contender: Contender) -> Contender:
        """Decorate Wintry's side."""
        return self._add(OURS, contender)

    def limit(self, contender: Contender) -> Contender:
        """Decorate the limit: the same work by hand, from `benchmarks/limits/`."""
        return self._add(LIMIT, contender)

    def peer(self, name: str) -> Callable[[Contender], Contender]:
        """Decorate another library's side, written as its own documentation shows."""
        return lambda contender: self._add(name, contender)

    def left_out(self, name: str, reason: str) -> None:
        """Say in the table why a peer takes no part."""
        self.absent[name] = reason

    def _add(self, name: str, contender: Contender) -> Contender:
        if name in self.contenders:
            raise ValueError(f"case {self.name!r} has a contender {name!r} already")
        self.contenders[name] = contender
        return contender

    def check(self) -> None:
        """Raises ValueError: our side or a goal's other side is missing."""
        for name in (OURS, *(goal.against for goal in self.goals)):
            if name not in self.contenders and name not in self.absent:
                known = ", ".join(self.contenders) or "none"
                raise ValueError(f"case {self.name!r} has no contender {name!r}; it has: {known}")
        for case in self.also:
            case.contenders, case.absent = self.contenders, self.absent
            case.check()
