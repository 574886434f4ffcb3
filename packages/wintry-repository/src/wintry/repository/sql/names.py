"""What tables, columns and indexes are called: a contract, since databases outlive the code that made them.

A root's table is the snake-cased plural of its class (`OrderLine` → `order_lines`). Everything below it is named after
the root's class and the path of fields that leads there: the table of `Product.batches` is `product_batches`, and the
columns in it that point to the parent are `_product_sku`; one array deeper, `product_batches_allocations` has
`_product_sku` and `_batches_reference`. Columns that no Model declares begin with an underscore. A nested Model lies
in its owner's table, its columns prefixed by the field (`address_city`), with the flag `_address` where it may be None.

Names longer than 63 bytes, PostgreSQL's limit, keep their beginning and end in a hash of the whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

VERSION: Final = "_version"
POSITION: Final = "_position"

_LONGEST: Final = 63
_word = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[^A-Z_]+")


def snake(name: str) -> str:
    """`OrderLine` → `order_line`, `HTTPRoute` → `http_route`."""
    return "_".join(_word.findall(name)).lower() or name.lower()


def plural(noun: str) -> str:
    """The regular English plural of the last word of a snake-cased name."""
    if noun.endswith("y") and noun[-2:-1] not in ("a", "e", "i", "o", "u"):
        return f"{noun[:-1]}ies"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    return f"{noun}s"


def fit(name: str) -> str:
    """`name`, or a stable shorter one where it is longer than 63 bytes."""
    encoded = name.encode()
    if len(encoded) <= _LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: _LONGEST - 9].decode(errors='ignore')}_{digest}"


def root_table(model: type) -> str:
    """The table of a root."""
    return fit(plural(snake(model.__name__)))


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
