"""How it is measured: interleaved rounds on one warm event loop, medians, ratios within a round.

All contenders of a case are set up first and stay open. Each runs one operation, and the results must be equal:
what is not the same work is not compared. Then the turns go round, the order shifted by one each round so that none
always follows the same neighbour; garbage is collected before a turn, and not held back during it. A ratio is taken
within each round and its median judged, so that a machine that slows down for a while slows both sides.
"""

from __future__ import annotations

import gc
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.harness.case import OURS, Case, Operation

ROUND_SECONDS = 0.05


class ResultsDiffer(AssertionError):
    """Two contenders of a case did not do the same work."""


@dataclass(frozen=True)
class Ratio:
    """Our value divided by another's: the median over the rounds and the quartiles about it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """The values of one case by contender, in the case's unit, one for each round."""

    case: Case
    rounds: dict[str, list[float]]
    also: Sequence[Measurement] = ()  # the further figures of the same rounds

    def value(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str) -> Ratio:
        ratios = [ours / other for ours, other in zip(self.rounds[OURS], self.rounds[name], strict=True)]
        low, middle, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return Ratio(middle, low, high)

    def missed(self) -> list[str]:
        """The goals that are not met; one against a contender that was left out is not judged."""
        judged = [goal for goal in self.case.goals if goal.against in self.rounds]
        return [str(goal) for goal in judged if not goal.met(self.ratio(goal.against).median)]


@dataclass
class Turn:
    """One contender, ready to run `loops` operations a round."""

    operation: Operation
    awaited: bool
    loops: int = 1

    async def run(self, results: list[Any] | None = None) -> float:
        """The seconds of one round. Its operations' results are put into `results`, if they are asked for."""
        gc.collect()
        if results is not None:
            return await self._keeping(results)
        return await self._awaiting() if self.awaited else self._calling()

    async def _awaiting(self) -> float:
        operation: Callable[[], Awaitable[Any]] = self.operation
        turns = range(self.loops)
        start = time.perf_counter()
        for _ in turns:
            await operation()
        return time.perf_counter() - start

    def _calling(self) -> float:
        operation, turns = self.operation, range(self.loops)
        start = time.perf_counter()
        for _ in turns:
            operation()
        return time.perf_counter() - start

    async def _keeping(self, results: list[Any]) -> float:
        start = time.perf_counter()
        for _ in range(self.loops):
            result = self.operation()
            results.append(await result if self.awaited else result)
        return time.perf_counter() - start

    async def calibrate(self, loops: int | None) -> None:
        """Choose the loops of a round: as many as given, else as fill ROUND_SECONDS. Warms up on the way."""
        if loops is not None:
            self.loops = loops
            await self.run()
            return
        while (seconds := await self.run()) < ROUND_SECONDS / 2:
            self.loops *= max(2, min(10, int(ROUND_SECONDS / max(seconds, 1e-9))))
        self.loops = max(1, round(self.loops * ROUND_SECONDS / seconds))


async def measure(case: Case, *, smoke: bool = False) -> Measurement:
    """Run a case; with `smoke`, each operation once more after the comparison and no more.

    Raises:
        ResultsDiffer: a contender's operation gave another result than ours.
        ValueError: the case lacks a contender.
    """
    case.check()
    case.smoke = smoke
    async with AsyncExitStack() as stack:
        turns: dict[str, Turn] = {}
        results: dict[str, object] = {}
        for name, contender in case.contenders.items():
            opened = contender()
            if isinstance(opened, AbstractAsyncContextManager):
                operation = await stack.enter_async_context(opened)
            else:
                operation = stack.enter_context(opened)
            result = operation()
            awaited = inspect.isawaitable(result)
            results[name] = case.compare(await result if awaited else result)
            turns[name] = Turn(operation, awaited)
        for name, compared in results.items():
            if compared != results[OURS]:
                ours, theirs = (shortened(repr(each)) for each in (results[OURS], compared))
                raise ResultsDiffer(f"{case.name}: ours gave {ours}, {name} gave {theirs}")
        if not smoke:
            for turn in turns.values():
                await turn.calibrate(case.loops)
        rounds, *also = await _rounds([case, *case.also], turns, 1 if smoke else case.rounds)
        return Measurement(case, rounds, [Measurement(*each) for each in zip(case.also, also, strict=True)])


def shortened(text: str, length: int = 1_000) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


async def _rounds(cases: Sequence[Case], turns: dict[str, Turn], count: int) -> list[dict[str, list[float]]]:
    """The rounds of the first case, as each of them reads it."""
    case = cases[0]
    values: list[dict[str, list[float]]] = [{name: [] for name in turns} for _ in cases]
    keep = any(each.figure for each in cases)
    order = list(turns)
    for _ in range(count):
        for name in order:
            turn = turns[name]
            results: list[Any] | None = [] if keep else None
            seconds = await turn.run(results) / (turn.loops * case.work)
            for each, into in zip(cases, values, strict=True):
                if each.figure is not None:
                    into[name].append(each.figure(results or []))
                else:
                    into[name].append(seconds * 1e6 if case.better == "lower" else 1 / seconds)
        order.append(order.pop(0))
    return values
