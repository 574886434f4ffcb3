"""Floats that are no numbers: how an answer that has one is found out at the cost of a search.

pydantic writes NaN and Infinity as `null`. Where the schema has a float that may not be null, `nulls` tells how that
would stand in the JSON: behind the name of its field, or as an item of a list. Only an answer in which one of these is
found is looked at more closely.
"""

from __future__ import annotations

import json
from typing import Any, Final

_items: Final = {
    "list": (b"[null", b",null"),
    "set": (b"[null", b",null"),
    "frozenset": (b"[null", b",null"),
    "tuple": (b"[null", b",null"),
    "generator": (b"[null", b",null"),
    "named-tuple": (b"[null", b",null"),
    "dict": (b":null",),
}
# The kinds of fields, and where their name stands; that of a `model-field` is its key in the model.
_field_names: Final = {
    "model-field": "",
    "typed-dict-field": "",
    "dataclass-field": "name",
    "computed-field": "property_name",
}


def nulls(schema: Any) -> tuple[bytes, ...]:
    """What is in the JSON of a core schema if one of its floats is no number.

    Empty if it has none, or says itself how they are written (`ser_json_inf_nan`).
    """
    found: set[bytes] = set()
    waiting: list[tuple[Any, str, tuple[bytes, ...]]] = [(schema, "", (b"null",))]
    while waiting:
        each, name, written = waiting.pop()
        if isinstance(each, list | tuple):
            waiting.extend((one, name, written) for one in each)
        if not isinstance(each, dict):
            continue
        if "ser_json_inf_nan" in each:
            return ()
        kind = str(each.get("type"))
        if kind == "float":
            found.update(written)
        elif kind == "nullable":
            written = ()  # it may be null
        elif kind in _field_names:
            alias = each.get("serialization_alias") or each.get("alias") or each.get(_field_names[kind], name)
            written = (json.dumps(alias, ensure_ascii=False).encode() + b":null",)
        else:
            written = _items.get(kind, written)
        waiting.extend((part, key, written) for key, part in each.items() if key != "metadata")
    return tuple(sorted(found))
