"""The bench harness: declare a `Case`, and the runner measures, judges and reports it."""

from contextlib import ExitStack

from benchmarks.harness.case import Case, Contender, Goal, Operation
from benchmarks.harness.measure import Measurement, ResultsDiffer, measure

__all__ = ["Case", "Contender", "Goal", "Measurement", "Operation", "ResultsDiffer", "kept", "measure"]

kept = ExitStack()
"""What stays open from one case to the next; the runner closes it after the last."""
