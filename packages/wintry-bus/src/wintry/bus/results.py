"""The result of a command that is handled inside a delivery: kept as JSON, and given again when the delivery comes again.

The record of such a command is stored with its effect, which is before its handler returns. Where the handler says that
it returns None, the record says so at once; another result is added to the record when it is there. It is kept where
it can be read back as it was: the annotation of the handler tells how.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter

from .errors import ResultUnknown
from .journal.journal import Seen

NOTHING: Final = b"null"
"""None as it is kept."""


class Results:
    """The results of one handler."""

    def __init__(self, function: Callable[..., Any], target: str) -> None:
        self._function = function
        self._target = target

    @property
    def beforehand(self) -> bytes | None:
        """The result as it is kept, where it is known before the handler returns."""
        return NOTHING if self._type is type(None) else None

    def encode(self, result: Any) -> bytes | None:
        """A result as it is kept; None if it could not be read back."""
        try:
            kept = NOTHING if result is None else self._adapter.dump_json(result)
            return kept if self._decode(kept) == result else None
        except Exception:  # noqa: BLE001 - whatever keeps a type from being written or read
            return None

    def recorded(self, seen: Seen) -> Any:
        """The result that the record of a command holds.

        Raises:
            ResultUnknown: it holds none.
        """
        if seen.result is None:
            raise ResultUnknown(
                f"{self._target} has been handled at {seen.at:%Y-%m-%d %H:%M:%S}, and its effect is stored, but its "
                "result is not: the process ended before it was, or the result cannot be kept as JSON of the "
                "handler's return annotation; catch ResultUnknown and read the state instead"
            )
        return self._decode(seen.result)

    def _decode(self, kept: bytes) -> Any:
        return None if kept == NOTHING else self._adapter.validate_json(kept)

    @cached_property
    def _type(self) -> Any:
        return _returned(self._function)  # asked for when every name exists

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._type)


def _returned(function: Callable[..., Any]) -> Any:
    """What a handler is annotated to return; Any where that is not said or not known at run time."""
    try:
        return get_type_hints(function).get("return", Any)
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        given = getattr(function, "__annotations__", {}).get("return", Any)
        return type(None) if given in (None, "None") else Any
