"""The deep run: the same tests with thousands of random examples, long histories and every kind of server.

`test-deep [PART…] [-- PYTEST…]` runs the parts one after another, since the whole takes more than an hour on two cores,
and writes what each said into `tests/deep/summary.md`, which is committed: a part, the commit that it ran on, what came
of it. A row of a part that ran on changed files says so. The last two parts are the packages alone (`tools/lanes.py`):
with the lowest versions that they declare, and on a Python that is newer than the oldest one, if it is found.
`--slice` is for the continuous integration.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUMMARY = ROOT / "tests" / "deep" / "summary.md"
UV = os.environ.get("HATCH_UV", "uv")
NEWER = "3.13"
TESTS = {
    "models": ["packages/wintry-models"],
    "ioc": ["packages/wintry-ioc"],
    "repository": ["packages/wintry-repository"],
    "uow": ["packages/wintry-uow"],
    "bus": ["packages/wintry-bus"],
    "web": ["packages/wintry-web"],
    "application": ["apps", "tests"],
}
LANES = {"lowest": ["--resolution", "lowest-direct"], "newer": ["--python", NEWER]}
PARTS = [*TESTS, *LANES]
HEAD = """# The deep run

What `./hatchw run test-deep` said, part by part. Every part has to pass before an issue that it covers is resolved.

| part | commit | day | Python | minutes | passed | skipped | failed |
|---|---|---|---|---|---|---|---|
"""
COUNT = re.compile(r"(\d+) (passed|skipped|failed|errors?)")
LANE = re.compile(r"(ok|FAILED) +wintry-")


@dataclass(frozen=True)
class Outcome:
    """What one part said."""

    part: str
    seconds: float
    code: int
    counts: dict[str, int]
    python: str = platform.python_version()

    @property
    def failed(self) -> str:
        """How many; how it ended where none has, and it has not gone well."""
        count = sum(self.counts.get(name, 0) for name in ("failed", "error", "errors"))
        return f"ended with {self.code}" if self.code and not count else str(count)

    @property
    def row(self) -> str:
        passed, skipped = (str(self.counts.get(name, 0)) for name in ("passed", "skipped"))
        day, minutes = f"{datetime.now(UTC):%Y-%m-%d}", f"{self.seconds / 60:.1f}"
        cells = (self.part, commit(), day, self.python, minutes, passed, skipped, self.failed)
        return f"| {' | '.join(cells)} |"


def commit() -> str:
    """What is checked out, with a sign where files are changed; the summary itself does not count."""
    said = subprocess.run(
        ["git", "describe", "--always", "--abbrev=9", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", ".", f":!{SUMMARY.relative_to(ROOT)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def run(part: str, more: Sequence[str]) -> Outcome:
    """Run one part; its output is shown as it comes."""
    if part in LANES:
        return run_lanes(part)
    started = time.monotonic()
    words = ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-rfE", *TESTS[part], *more]
    code, lines = shown([sys.executable, *words], TEST_WINTRY_PROFILE="deep")
    last = next((line for line in reversed(lines) if COUNT.search(line)), "")
    counts = {name: int(number) for number, name in COUNT.findall(last)}
    return Outcome(part, time.monotonic() - started, code, counts)


def run_lanes(part: str) -> Outcome:
    """Each package twice, as `alone` counts them: with its extras and without."""
    python = platform.python_version()
    if "--python" in LANES[part]:
        asked = [UV, "python", "find", "--no-python-downloads", "--show-version", NEWER]
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        if found.returncode:
            return Outcome(part, 0.0, 0, {"skipped": 1}, NEWER)
        python = found.stdout.strip()
    started = time.monotonic()
    code, lines = shown([sys.executable, "tools/lanes.py", "alone", *LANES[part]])
    said = [match[1] for line in lines if (match := LANE.match(line))]
    counts = {"passed": said.count("ok"), "failed": said.count("FAILED")}
    return Outcome(part, time.monotonic() - started, code, counts, python)


def shown(command: Sequence[str], **variables: str) -> tuple[int, list[str]]:
    """Run it, print what it prints, and return its exit code and its lines."""
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, lines


def note(outcome: Outcome) -> None:
    """Write what a part said into the summary, in place of what it said before."""
    text = SUMMARY.read_text("utf-8") if SUMMARY.exists() else ""
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    rows[outcome.part] = outcome.row
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(HEAD + "".join(f"{rows[part]}\n" for part in PARTS if part in rows), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="test-deep", description="Run the deep form of the tests, part by part.")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--slice", action="store_true", help="three minutes of it, for the continuous integration")
    words = sys.argv[1:]
    own, more = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options = parser.parse_args(own)
    if unknown := [part for part in options.part if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.slice:
        print("the slice of test-deep is not built yet", file=sys.stderr)
        return 2
    failed = False
    for part in options.part or PARTS:
        print(f"\n== {part}", flush=True)
        outcome = run(part, more)
        failed |= outcome.code != 0
        if not more:
            note(outcome)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
