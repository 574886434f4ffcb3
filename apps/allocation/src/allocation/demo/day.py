"""The data file: one step a line, as `{"allocate": {"orderid": …, "sku": …, "qty": …}}`.

It is made by `tools/demo_data.py`, so that feeding it a second time ends in the same stock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch

FILE = Path(__file__).with_name("day.jsonl")


class Day:
    """The steps of a day by kind, each kind in the order of the file."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.batches: list[CreateBatch] = []
        self.lines: list[Allocate] = []
        self.changes: list[ChangeBatchQuantity] = []
        for text in lines:
            self.take(**json.loads(text))
        self.skus = {batch.ref: batch.sku for batch in self.batches}

    def take(
        self,
        add_batch: dict[str, object] | None = None,
        allocate: dict[str, object] | None = None,
        change_batch_quantity: dict[str, object] | None = None,
    ) -> None:
        """Add a step, which is exactly one of the three."""
        if add_batch is not None:
            self.batches.append(CreateBatch.model_validate(add_batch))
        if allocate is not None:
            self.lines.append(Allocate.model_validate(allocate))
        if change_batch_quantity is not None:
            self.changes.append(ChangeBatchQuantity.model_validate(change_batch_quantity))

    @classmethod
    def read(cls) -> Day:
        with FILE.open(encoding="utf-8") as file:
            return cls(file)
