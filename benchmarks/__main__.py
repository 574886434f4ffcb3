"""`./hatchw run bench [AREA] [CASE] [--smoke]`: run the cases, print the tables, write benchmarks/results."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import sys
from pathlib import Path

import uvloop

from benchmarks.harness import kept
from benchmarks.harness.case import Case
from benchmarks.harness.measure import Measurement, ResultsDiffer, measure
from benchmarks.harness.report import results, store, table

AREAS = ("models", "repository", "uow", "ioc", "bus", "web")
RESULTS = Path(__file__).with_name("results")


def cases(area: str) -> list[Case]:
    """The cases that stand in the modules of an area, in their order there."""
    modules = [name for name in (area, f"{area}_on_servers") if importlib.util.find_spec(f"benchmarks.{name}")]
    scopes = [vars(importlib.import_module(f"benchmarks.{name}")) for name in modules]
    found = [value for scope in scopes for value in scope.values() if isinstance(value, Case)]
    names = [each.name for case in found for each in (case, *case.also)]
    if len(set(names)) != len(names):
        raise SystemExit(f"bench: two cases of {area} have one name: {', '.join(names)}")
    return found


def run(area: str, chosen: list[Case], smoke: bool) -> list[Measurement]:
    measured = []
    for case in chosen:
        # A loop of its own for each case: what one leaves behind is no other's burden.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(f"{area} {case.name} …", file=sys.stderr, flush=True)
            measurement = runner.run(measure(case, smoke=smoke))
            measured += [measurement, *measurement.also]
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Ratios to the limit and to the peers.")
    parser.add_argument("area", nargs="?", choices=AREAS)
    parser.add_argument("case", nargs="?")
    parser.add_argument("--smoke", action="store_true", help="run every case once; judge and write nothing")
    options = parser.parse_args()
    with kept:
        return bench(parser, options)


def bench(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    for area in [options.area] if options.area else AREAS:
        known = cases(area)
        chosen = [case for case in known if options.case in (None, case.name)]
        if options.case and not chosen:
            parser.error(f"{area} has no case {options.case!r}; it has: {', '.join(c.name for c in known) or 'none'}")
        if not chosen:
            continue
        try:
            measured = run(area, chosen, options.smoke)
        except ResultsDiffer as error:
            print(f"bench: {area}: results differ, so there is nothing to compare: {error}", file=sys.stderr)
            return 1
        print(f"\n{area}\n{table(measured, judged=not options.smoke)}\n", flush=True)
        if not options.smoke:
            store(
                RESULTS / f"{area}.json",
                results(area, measured),
                [each.name for case in known for each in (case, *case.also)],
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
