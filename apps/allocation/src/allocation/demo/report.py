"""What the demonstration prints in the end: the stock, and what was refused and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BAR = 24
ROOMY = 70  # columns of a terminal that has room for everything
FEW = ("Purchased", "Allocated", "Available")
ALL = ("Batches", "Lines", *FEW)


def print_report(
    console: Console, products: Iterable[Mapping[str, Any]], refused: Mapping[tuple[str, str], str]
) -> None:
    console.print(stock_table(products, roomy=console.width >= ROOMY))
    console.print(refused_table(refused))


def stock_table(products: Iterable[Mapping[str, Any]], *, roomy: bool) -> Table:
    """A row a product, and the totals."""
    rows = [(str(product["sku"]), numbers(product)) for product in products]
    shown = ALL if roomy else FEW
    table = titled("Stock")
    table.add_column("Product", footer="Total", no_wrap=True)
    for name in shown:
        total = sum(row[name] for _, row in rows)
        table.add_column(name, footer=f"{total:,}", justify="right", no_wrap=True)
    if roomy:
        table.add_column("", max_width=BAR)
    for sku, row in rows:
        bar = ProgressBar(row["Purchased"], row["Allocated"], complete_style="blue", finished_style="red")
        table.add_row(Text(sku), *(f"{row[name]:,}" for name in shown), *([bar] if roomy else []))
    return table


def numbers(product: Mapping[str, Any]) -> dict[str, int]:
    """What stands in the columns of `ALL`."""
    batches = product["batches"]
    purchased, available = (sum(batch[f"{word}_quantity"] for batch in batches) for word in ("purchased", "available"))
    lines = sum(len(batch["lines"]) for batch in batches)
    return dict(zip(ALL, (len(batches), lines, purchased, purchased - available, available), strict=True))


def refused_table(refused: Mapping[tuple[str, str], str]) -> Table:
    """A row a reason: how many steps, and which orders or batches, each with the quantity that was asked for."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for (_, what), reason in sorted(refused.items()):
        by_reason[reason].append(what)
    table = titled("Refused")
    table.add_column("Why", footer="Total", max_width=40)
    table.add_column("", footer=f"{len(refused):,}", justify="right", no_wrap=True)
    table.add_column("Order or batch × quantity")
    for reason, steps in sorted(by_reason.items()):
        table.add_row(Text(reason), f"{len(steps):,}", Text(", ".join(steps)))
    return table


def titled(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_footer=True)
    table.box, table.pad_edge, table.collapse_padding = box.SIMPLE_HEAD, False, True
    return table
