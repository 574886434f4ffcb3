"""Operations → rows.

An update applies its change set to an object made of the stored row, and stores the result: what is written is what
the change set says, not what the caller's object has become since. New rows are put where they belong only after all
old ones have let go of their unique values, so that these may pass between rows in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, assert_never

from wintry.models import info

from ..backend import Delete, Insert, Operation, Update
from ..errors import AlreadyExists, ConcurrentModification
from .load import dehydrate, hydrate, key_of
from .session import MemoryExecution
from .store import Stored, id_name

if TYPE_CHECKING:
    from wintry.models import Model


def write(execution: MemoryExecution, operations: Sequence[Operation]) -> None:
    """Run the operations in order. Raises `ConcurrentModification`, `AlreadyExists`, `InvalidValue`."""
    for operation in operations:  # nothing is written where one of the values cannot be
        match operation:
            case Insert(object):
                info(type(object)).check(object)
            case Update(_, changes, _):
                changes.check()
            case Delete():
                pass
    try:
        for model, id, stored, new in [_vacated(execution, operation) for operation in operations]:
            if new and id in execution.view(model).rows:
                raise AlreadyExists(model, id_name(model), id)
            if stored is not None:
                execution.put(model, id, stored)
    except Exception as error:
        execution.fail(error)
        raise


class _Place(NamedTuple):
    """The row that an operation leaves behind, None for a deletion; `new`: there must be none yet."""

    model: type[Model]
    id: object
    stored: Stored | None
    new: bool = False


def _vacated(execution: MemoryExecution, operation: Operation) -> _Place:
    match operation:
        case Insert(object):
            model, id = _key(object)
            return _Place(model, id, Stored(1, dehydrate(object)), new=True)
        case Update(object, changes, expected):
            model, id = _key(object)
            stored = _guarded(execution, model, id, expected)
            copy = hydrate(type(object), stored.row)
            changes.apply_to(copy)
            execution.vacate(model, id)
            return _Place(model, id, Stored(operation.becomes, dehydrate(copy)))
        case Delete(model, given, expected):
            id = key_of(given)
            if expected is not None:
                _guarded(execution, model, id, expected)
            execution.remove(model, id)
            return _Place(model, id, None)
        case _:
            assert_never(operation)


def _key(object: Model) -> tuple[type[Model], object]:
    model = type(object)
    return model, key_of(info(model).id_of(object))


def _guarded(execution: MemoryExecution, model: type[Model], id: object, expected: int) -> Stored:
    """The row of this id, if it still has the version that was loaded."""
    stored = execution.view(model).rows.get(id)
    if stored is None or stored.version != expected:
        raise ConcurrentModification(model, id, expected, None if stored is None else stored.version)
    return stored
