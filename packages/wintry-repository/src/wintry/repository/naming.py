"""How a Model's name becomes that of a table or a collection: the same words on every store that has names.

Names longer than 63 bytes, PostgreSQL's limit, keep their beginning and end in a hash of the whole.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

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


def collection_of(model: type) -> str:
    """What holds the roots of `model`: `OrderLine` → `order_lines`."""
    return fit(plural(snake(model.__name__)))
