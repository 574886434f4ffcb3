"""Collections and indexes: which ones the bound roots need, and how they are made.

A unique field has a unique index in which None has no place: it holds only values from the lowest of their type on. In
an array of Models it holds the documents in which the field is there; within one document nothing keeps two elements
apart but the write. Where a document can be in such an index with an element that lacks the field, the server would
take two documents' nothings for equal: that is `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from wintry.models import FieldInfo, ModelInfo, info

from ..errors import ConfigurationError, Unsupported
from ..naming import fit
from .client import settled
from .codec import LOWEST
from .documents import Documents

if TYPE_CHECKING:
    from .client import Client

NAMESPACE_EXISTS = 48
"""The server's code for a collection that is there."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index on one field; `partial` is the filter of what it holds."""

    name: str
    path: tuple[FieldInfo, ...]
    dotted: str
    unique: bool
    partial: dict[str, Any] | None

    @property
    def in_array(self) -> bool:
        """Whether the field is one of an array's elements."""
        return any(field.is_array for field in self.path[:-1])

    def model(self) -> IndexModel:
        """The index as the driver takes it."""
        options: dict[str, Any] = {"name": self.name}
        if self.unique:
            options["unique"] = True
        if self.partial is not None:
            options["partialFilterExpression"] = self.partial
        return IndexModel([(self.dotted, 1)], **options)


def indexes(documents: Documents) -> tuple[Index, ...]:
    """The indexes of a collection. Raises `Unsupported`."""
    return tuple(_index(documents, path) for path in _indexed(documents.info, (), ()))


def _indexed(
    about: ModelInfo, path: tuple[FieldInfo, ...], above: tuple[ModelInfo, ...]
) -> Iterator[tuple[FieldInfo, ...]]:
    for field in about.fields:
        here = (*path, field)
        if field.model is not None:
            if info(field.model) not in (*above, about):  # what contains itself is indexed at its first place
                yield from _indexed(info(field.model), here, (*above, about))
        elif (field.unique or field.index) and not (not path and about.identity == (field,)):
            yield here


def _index(documents: Documents, path: tuple[FieldInfo, ...]) -> Index:
    dotted, field = documents.dotted(path), path[-1]
    name = fit(f"{'ux' if field.unique else 'ix'}_{documents.name}_{dotted.replace('.', '_')}")
    if not field.unique:
        return Index(name, path, dotted, False, None)
    place = f"{documents.info.name}.{dotted}"
    arrays = [each for each in path if each.is_array]
    if field.is_array:
        raise Unsupported(place, "MongoDB keeps the single values of a list apart, not the lists", "drop unique=True")
    if arrays and (len(arrays) > 1 or any(each.optional for each in path)):
        reason = "MongoDB cannot keep a field unique that some elements of an array lack"
        raise Unsupported(place, reason, "drop unique=True, or make it a field that is always there, one array deep")
    assert field.leaf is not None, "what is unique is a scalar"
    partial = {dotted: {"$exists": True}} if arrays else {dotted: {"$gte": LOWEST[field.leaf]}}
    return Index(name, path, dotted, True, partial)


async def create(client: Client, bound: Sequence[tuple[Documents, Sequence[Index]]]) -> None:
    """Make missing collections and indexes. Raises `ConfigurationError` where an index is there and differs."""
    database = client.database
    there = set(await database.list_collection_names())
    for documents, wanted in bound:
        if documents.name not in there:
            await _create_collection(database, documents.name)
        if wanted:
            try:
                await settled(database[documents.name].create_indexes([index.model() for index in wanted]))
            except OperationFailure as error:
                if error.code not in (85, 86, 11000, 67):  # it differs, in options or keys; its values are not unique
                    raise
                reason = f"an index of {documents.name} cannot be made, migrate it first: {error}"
                raise ConfigurationError(f"{client}: {reason}") from error


async def _create_collection(database: Any, name: str) -> None:
    try:
        await database.create_collection(name)
    except CollectionInvalid:
        pass  # another process was faster
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
