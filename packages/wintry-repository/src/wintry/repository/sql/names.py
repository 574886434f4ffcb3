"""What tables, columns and indexes are called: a contract, since databases outlive the code that made them.

A root's table is the snake-cased plural of its class (`OrderLine` → `order_lines`). Everything below it is named after
the root's class and the path of fields that leads there: the table of `Product.batches` is `product_batches`, and the
columns in it that point to the parent are `_product_sku`; one array deeper, `product_batches_allocations` has
`_product_sku` and `_batches_reference`. Columns that no Model declares begin with an underscore. A nested Model lies
in its owner's table, its columns prefixed by the field (`address_city`), with the flag `_address` where it may be None.

Names longer than 63 bytes, PostgreSQL's limit, keep their beginning and end in a hash of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..naming import collection_of, fit, snake

VERSION: Final = "_version"
POSITION: Final = "_position"


def root_table(model: type) -> str:
    """The table of a root."""
    return collection_of(model)


def child_table(root: type, path: Iterable[str]) -> str:
    """The table of the array at `path` of `root`."""
    return fit("_".join((snake(root.__name__), *path)))


def parent_key(root: type, path: Iterable[str], column: str) -> str:
    """The column that holds `column` of the parent: of the root for an empty `path`, else of the array at `path`."""
    owner = "_".join(path) or snake(root.__name__)
    return fit(f"_{owner}_{column.removeprefix('_')}")


def nested(prefix: str, field: str) -> str:
    """The column of a field of a nested Model; `prefix` is that of its owner, "" at the top."""
    return fit(f"{prefix}{field}")


def flag(prefix: str, field: str) -> str:
    """The column that says whether an optional nested Model is there."""
    return fit(f"_{prefix}{field}")


def index(table: str, column: str, *, unique: bool) -> str:
    """The index on one column."""
    return fit(f"{'ux' if unique else 'ix'}_{table}_{column}")
