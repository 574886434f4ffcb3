"""What is told: the table for people, and one JSON file an area for comparison over time.

The file is a list with one object a case. A run of a single case replaces that case's object and keeps the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.case import LIMIT, OURS
from benchmarks.harness.measure import Measurement

HEADER = ("case", "contender", "value", "unit", "ours ÷ it", "spread", "goal", "status")
Row = tuple[str, str, str, str, str, str, str, str]


def table(measurements: Sequence[Measurement], *, judged: bool) -> str:
    """Each case: a row for us, one for each other contender with the ratio, one for each peer left out."""
    rows: list[Row] = [HEADER]
    for measurement in measurements:
        rows += _rows(measurement, judged)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    numbers = {2, 4}
    lines = []
    for row in rows:
        cells = [t.rjust(w) if i in numbers else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    notes = [f"{m.case.name}: {m.case.note}" for m in measurements if judged and m.case.note and m.missed()]
    return "\n".join([*lines, *notes])


def _rows(measurement: Measurement, judged: bool) -> list[Row]:
    case, rows = measurement.case, list[Row]()
    missed = measurement.missed()
    for name in sorted(measurement.rounds, key=lambda name: (name != OURS, name != LIMIT, name)):
        value = f"{measurement.value(name):,.2f}"
        if name == OURS:
            rows.append((case.name, name, value, case.unit, "", "", "", ""))
            continue
        ratio = measurement.ratio(name)
        goals = [str(goal) for goal in case.goals if goal.against == name]
        status = ("MISSED" if set(goals) & set(missed) else "OK") if goals and judged else ""
        spread = f"{ratio.low:.2f}–{ratio.high:.2f}"
        rows.append(("", name, value, case.unit, f"{ratio.median:.2f}", spread, ", ".join(goals), status))
    rows += [("", name, "–", "", "", "", f"left out: {reason}", "") for name, reason in case.absent.items()]
    return rows


def results(area: str, measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The objects of the results file."""
    return [
        {
            "area": area,
            "case": m.case.name,
            "unit": m.case.unit,
            "better": m.case.better,
            "ours": round(m.value(OURS), 3),
            "limit": round(m.value(LIMIT), 3) if LIMIT in m.rounds else None,
            "peers": {name: round(m.value(name), 3) for name in m.rounds if name not in {OURS, LIMIT}},
            "goal": ", ".join(map(str, m.case.goals)),
            "status": "MISSED" if m.missed() else "OK",
            "note": m.case.note if m.missed() else "",
        }
        for m in measurements
    ]


def store(path: Path, fresh: list[dict[str, Any]], known: Sequence[str]) -> None:
    """Put `fresh` objects into the file; keep those of other cases that are still `known`."""
    old = json.loads(path.read_text("utf-8")) if path.exists() else []
    objects = {entry["case"]: entry for entry in [*old, *fresh]}
    kept = [objects[name] for name in known if name in objects]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
