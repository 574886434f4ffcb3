"""Everything that can be said of the code without running it: all checks, each to its end, and one verdict.

The checks are the scripts of the environment `check` in hatch.toml. Two run at a time; what a check says is printed
as a block when it has ended, in the order of the list.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKS = ["types-mypy", "types-pyright", "types-quickstart", "code", "format", "imports", "contract"]


def commands() -> dict[str, str]:
    scripts = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))["envs"]["check"]["scripts"]
    return {name: scripts[name].replace("{args:.}", ".").replace("{args}", "") for name in CHECKS}


def run(command: str) -> tuple[float, int, str]:
    start = time.monotonic()
    done = subprocess.run(
        command, shell=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return time.monotonic() - start, done.returncode, done.stdout


def main() -> int:
    failed = []
    with ThreadPoolExecutor(2) as pool:
        running = {name: (command, pool.submit(run, command)) for name, command in commands().items()}
        for name, (command, future) in running.items():
            seconds, code, output = future.result()
            print(f"== {name}: {command.strip()} ({seconds:.1f} s)\n{output}", flush=True)
            if code:
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
