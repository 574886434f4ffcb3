"""The bench harness: declare a `Case`, and the runner measures, judges and reports it."""

from benchmarks.harness.case import Case, Contender, Goal, Operation
from benchmarks.harness.measure import Measurement, ResultsDiffer, measure

__all__ = ["Case", "Contender", "Goal", "Measurement", "Operation", "ResultsDiffer", "measure"]
