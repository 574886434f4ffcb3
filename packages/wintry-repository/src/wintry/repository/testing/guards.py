"""What keeps a store from losing anything without a word: what it refuses, and what a write is guarded by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Final

from wintry.models import Array, Model, RequiredId, same

from ..errors import Unsupported
from ..repository import Repository
from .contract import Case, case
from .models import Order

if TYPE_CHECKING:
    from ..connections import Backends


class Gift(Order):
    """An aggregate of a class that another stored class begins."""

    wrapping: str = "paper"


class Dated(Model):
    """What several aggregates have, without an identity."""

    made: date = date(2026, 1, 1)
    tags: list[str] = Array()


class Note(Dated):
    """An aggregate that begins with another Model's fields."""

    id: str = RequiredId()
    text: str = ""


class Notes(Repository[Note, str], entity=Note):
    """A repository of an aggregate that inherits fields and no identity."""


class Gifts(Repository[Gift, str], entity=Gift):
    """A repository of what cannot be stored whole."""


@case("REPO-084")
async def refuses_a_part_of_an_inheritance_tree(backends: Backends) -> None:
    """A Model that inherits its identity is refused, since its own fields would have no place; the root is stored."""
    backend = backends["default"]
    for attempt in (lambda: Gifts(backends), lambda: backend.bind(Gift)):
        error = refused(attempt)
        assert "Gift" in error.place, error
        assert "Order" in error.reason, error
        assert error.hint is not None, error
    backend.bind(Order)


@case("REPO-084")
async def stores_fields_that_are_inherited(backends: Backends) -> None:
    """A Model may have fields from one without an identity."""
    repository, note = Notes(backends), Note(id="x", made=date(2026, 2, 2), tags=["a"], text="t")
    await repository.create(entity=note)
    assert same(await repository.one("x"), note)


def refused(attempt: Callable[[], object]) -> Unsupported:
    """The `Unsupported` that `attempt` raises; AssertionError where it raises none."""
    try:
        attempt()
    except Unsupported as error:
        return error
    raise AssertionError("Unsupported expected")


CASES: Final = tuple(found for found in list(globals().values()) if isinstance(found, Case))
"""Every case of this module, in its order."""
