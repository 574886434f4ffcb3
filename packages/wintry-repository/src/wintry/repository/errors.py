"""What can go wrong with a store, in one tree for every backend; wintry-uow hands the same names on.

    RepositoryError
    ├── DefinitionError      (that of models) a repository, a method name or a signature that cannot work
    │   ├── AmbiguousQueryName              a method name with two readings that both fit its signature
    │   └── Unsupported                     this backend cannot do what is asked, and does not approximate it
    ├── ConfigurationError   (ValueError)   a backend's name, URL, driver or option that cannot work
    ├── InvalidArgument      (TypeError)    an argument of a query that its field can never hold
    ├── NotFound             (LookupError)  exactly one was asked for, and there is none
    ├── MultipleFound        (LookupError)  at most one was asked for, and there are more
    └── StoreError                          the store refused
        ├── Conflict                        another transaction came first: run the whole unit again
        │   └── ConcurrentModification      the stored version is not the one that was loaded
        ├── AlreadyExists                   the id or a unique value is taken
        ├── PreconditionFailed              the version that the caller expects is not the stored one
        ├── UnitTimeout                     the time of the unit or the call is over
        ├── UnitAborted                     a statement failed earlier in this transaction: nothing more can run in it
        └── Unreachable                     no connection

Only a `Conflict` is worth a second attempt, and only with fresh objects. A value that no store may hold is
`wintry.models.InvalidValue`. Messages never show what a URL says about users and passwords: `redacted` cuts it.

A definition error is its own fault, as those of Models are, and goes the same way: it is raised where the class is
defined, or joins the list of an open `wintry.models.collecting()`, which this library hands on as its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wintry.models import errors as _models

if TYPE_CHECKING:
    from wintry.models import Model

_credentials = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_secret_option = re.compile(r"(?P<name>(?:password|passwd|pwd|token|secret)=)[^&\s]*", re.IGNORECASE)


class RepositoryError(Exception):
    """The base of every error of this library."""


class DefinitionError(RepositoryError, _models.DefinitionError):
    """A repository cannot be what its definition says.

    `place` is the dotted name of the class or method, `drawing` the lines that show what is meant, `hint` what would
    do. An error that stands for several `faults` shows them all.
    """

    def __init__(
        self,
        place: str,
        reason: str,
        hint: str | None = None,
        *,
        drawing: Sequence[str] = (),
        faults: Sequence[_models.DefinitionError] = (),
    ) -> None:
        super().__init__(place, reason, hint)
        self.drawing = tuple(drawing)
        self.faults = tuple(faults) or (self,)

    def __str__(self) -> str:
        if self.faults != (self,):
            return "\n".join([f"{self.place}: {self.reason}", *(str(fault) for fault in self.faults)])
        lines = [f"{self.place}: {self.reason}", *(f"    {line}" for line in self.drawing)]
        return "\n".join([*lines, f"  {self.hint}"] if self.hint else lines)


class AmbiguousQueryName(DefinitionError):
    """A method name can be read in two ways, and the signature fits both."""


class Unsupported(DefinitionError):
    """A backend cannot do what a repository asks of it; said before the first statement is sent."""


class ConfigurationError(RepositoryError, ValueError):
    """A backend cannot be what its configuration says. `faults` holds every reason, `str()` shows them line by line."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class InvalidArgument(RepositoryError, TypeError):
    """An argument of a query is None where only a value has an order, or not a value of its field."""


class NotFound(RepositoryError, LookupError):
    """Exactly one object was asked for, and there is none."""


class MultipleFound(RepositoryError, LookupError):
    """At most one object was asked for, and the store holds more that fit."""


class StoreError(RepositoryError):
    """A store refused a statement or a commit."""


class Conflict(StoreError):
    """Another transaction came first. Running the whole unit again, with fresh objects, may succeed."""

    retryable: ClassVar[bool] = True
    """What a caller that knows exceptions by shape alone asks for before it tries again."""


class ConcurrentModification(Conflict):
    """The aggregate changed since it was loaded; `found` is its version now, None where it is gone or unknown."""

    def __init__(self, entity: type[Model], id: Any, expected: int, found: int | None) -> None:
        now = "is gone or changed" if found is None else f"is at version {found}"
        super().__init__(f"{entity.__name__} {id!r} was loaded at version {expected} and {now}: load it again")
        self.entity = entity
        self.id = id
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.entity, self.id, self.expected, self.found)


class AlreadyExists(StoreError):
    """`field` of `entity` is unique, and `value` is taken; `field` is dotted for a child's field.

    For an id, `field` names the id field, or all of a composite one joined by ", ".
    """

    def __init__(self, entity: type[Model], field: str, value: Any) -> None:
        super().__init__(f"{entity.__name__} with {field} {value!r} exists already")
        self.entity = entity
        self.field = field
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.entity, self.field, self.value)


class PreconditionFailed(StoreError):
    """The caller expects a version that is not the stored one; another attempt would meet the same."""

    def __init__(self, entity: type[Model], id: Any, expected: int, found: int | None) -> None:
        now = "does not exist" if found is None else f"is at version {found}"
        super().__init__(f"{entity.__name__} {id!r} {now}, and version {expected} was expected")
        self.entity = entity
        self.id = id
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.entity, self.id, self.expected, self.found)


class UnitTimeout(StoreError, TimeoutError):
    """The time that the unit or the call was given is over; everything was rolled back."""


class UnitAborted(StoreError):
    """A statement failed earlier in this transaction; only a rollback is possible."""


class Unreachable(StoreError, ConnectionError):
    """The store does not answer, or refuses the connection."""


def redacted(text: str) -> str:
    """`text` without the user and password of the URLs in it, fit for a log or an error."""
    return _secret_option.sub(r"\g<name>***", _credentials.sub(r"\g<scheme>***@", text))


def report(place: str, faults: Sequence[_models.DefinitionError]) -> None:
    """Hand over all that is wrong with `place`: to the open `collecting()`, else as one error that shows them all."""
    try:
        for fault in faults:
            _models.report(fault)
    except _models.DefinitionError:
        if len(faults) == 1:
            raise
        raise DefinitionError(place, f"{len(faults)} faults", faults=faults) from None
