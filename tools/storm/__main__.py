"""`./hatchw run storm --minutes 10 --seed N`: mixed traffic while servers and processes are killed in turn.

Prints who was killed, what was answered, and what is lost, doubled, oversold, mismatched, stuck and grown: exit 1
unless all of that is nothing. `--without-journal` is the control, in which a killed process loses what it had begun;
it ends with exit code 1, or the storm is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time

from .chaos import Chaos
from .gauges import Gauges
from .traffic import Traffic
from .verdict import Verdict, judge
from .world import world

SHOWN = 5  # of the faults of one kind


async def storm(minutes: float, seed: int, *, journal: bool) -> Verdict:
    chance = random.Random(seed)
    async with world(journal=journal) as made:
        until = time.monotonic() + minutes * 60
        traffic = Traffic(made, random.Random(chance.random()), until)
        chaos = Chaos(made, random.Random(chance.random()), minutes=minutes, until=until)
        gauges = Gauges(made)
        await traffic.prepare()
        looking = asyncio.create_task(gauges.run())
        _, ledger = await asyncio.gather(chaos.run(), traffic.run())
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        verdict = await judge(made, ledger)
        verdict.grown += gauges.grown()
    print(f"killed      {', '.join(f'{kind} {count}' for kind, count in sorted(chaos.kills.items()))}")
    print(f"answers     {', '.join(f'{name}: {count}' for name, count in sorted(ledger.answers.items()))}")
    print(f"orders      {len(ledger.accepted)} accepted, {len(ledger.refused)} refused")
    print(f"batches     {ledger.batches}, quantity changes {ledger.changes}")
    for name, (first, last) in gauges.flat().items():
        print(f"{name}: {first:g} in the first third, {last:g} in the last")
    for kind, faults in vars(verdict).items():
        print(f"{kind:<12}{len(faults)}")
        for fault in faults[:SHOWN]:
            print(f"            {fault}")
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--without-journal", action="store_true", help="the control: it must show losses")
    options = parser.parse_args()
    print(f"storm of {options.minutes:g} minutes, seed {options.seed}", flush=True)
    verdict = asyncio.run(storm(options.minutes, options.seed, journal=not options.without_journal))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
