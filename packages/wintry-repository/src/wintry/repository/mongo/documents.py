"""Aggregates ↔ documents: generated functions, and where in a document a field is.

A root is one document: `_id` is its id (of a composite one a document in declared order), `_version` its version, every
other field stands under its own name, None as null. What a root owns is inside: a nested Model is a document, a list an
array. A field that a stored document lacks is read as its default; what a document has beyond its fields is let be.

One function a class is generated for each direction, so that a Model may contain itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from wintry.models import FieldInfo, Model, ModelInfo, info
from wintry.models.source import Source, variable

from ..errors import DefinitionError, StoreError
from ..naming import collection_of
from .codec import DECODERS, ENCODERS, decoder, encoder

if TYPE_CHECKING:
    from ..language.tree import Path

ID: Final = "_id"
VERSION: Final = "_version"


class Documents:
    """How the aggregates of one root are written as documents and read again. Raises `DefinitionError`."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self.info = info(model)
        if not self.info.is_entity:
            raise DefinitionError(
                self.info.place, "it has no identity and cannot be found again", "give it an id field"
            )
        for field in self.info.fields:
            if field.name == VERSION or (field.name == ID and self.info.identity != (field,)):
                raise DefinitionError(
                    f"{self.info.place}.{field.name}", f"a document has a {field.name} of its own", "rename the field"
                )
        self.name = collection_of(model)

    @cached_property
    def encode(self) -> Callable[[Any, int], dict[str, Any]]:
        """`encode(object, version)`: the whole document."""
        return _Encoding(self).compile()

    @cached_property
    def decode(self) -> Callable[[dict[str, Any]], tuple[Model, int]]:
        """`decode(document)`: a fresh object and its version. Raises `StoreError` for what is no such document."""
        return _Decoding(self).compile()

    @cached_property
    def id(self) -> Callable[[Any], Any]:
        """`id(x)`: an id, as `ModelInfo.id_of` gives it, as it stands in `_id`."""
        fields = self.info.identity
        if len(fields) == 1:
            return encoder(fields[0].leaf)
        parts = [(field.name, encoder(field.leaf)) for field in fields]
        return lambda id: {name: encode(value) for (name, encode), value in zip(parts, id, strict=True)}

    def dotted(self, path: Path) -> str:
        """Where in a document the end of a path from the root is."""
        first = path[0]
        if first.is_id:
            return ID if len(self.info.identity) == 1 else f"{ID}.{first.name}"
        return ".".join(field.name for field in path)


def encoded(field: FieldInfo, value: Any) -> Any:
    """The stored form of the value of a field."""
    if value is None:
        return None
    if field.is_array:
        return [encoded_item(field, item) for item in value]
    return encoded_item(field, value)


def encoded_item(field: FieldInfo, item: Any) -> Any:
    """The stored form of one item of a field's list, or of what a field holds."""
    if field.model is None:
        return encoder(field.leaf)(item)
    return {each.name: encoded(each, getattr(item, each.name)) for each in info(type(item)).fields}


def decoded(field: FieldInfo, value: Any) -> Any:
    """The scalar that is stored in a field."""
    return None if value is None else decoder(field.leaf)(value)


def models_of(root: ModelInfo) -> list[ModelInfo]:
    """The classes in an aggregate, the root first."""
    found = [root]
    for about in found:
        for field in about.fields:
            if field.model is not None and info(field.model) not in found:
                found.append(info(field.model))
    return found


class _Encoding:
    """Writes the functions that make documents."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.out = Source(f"{documents.info.name} to a document of {documents.name}")
        self.names = {about: self.out.fresh(f"document_of_{variable(about.name)}") for about in _below(documents.info)}

    def compile(self) -> Callable[[Any, int], dict[str, Any]]:
        out, about = self.out, self.documents.info
        for inner, name in self.names.items():
            with out.block(f"def {name}(o):"):
                out.line(f"return {{{', '.join(self._fields(inner))}}}")
        whole = out.fresh(f"document_of_{variable(about.name)}")
        values = [self._value(field) for field in about.identity]
        named = ", ".join(f"{field.name!r}: {value}" for field, value in zip(about.identity, values, strict=True))
        id = values[0] if len(values) == 1 else f"{{{named}}}"
        version = f"{out.bind(ENCODERS[int], 'Int64')}(version)"
        with out.block(f"def {whole}(o, version):"):
            rest = [part for part, field in zip(self._fields(about), about.fields, strict=True) if not field.is_id]
            out.line(f"return {{{', '.join([f'{ID!r}: {id}', *rest, f'{VERSION!r}: {version}'])}}}")
        return out.compiled(whole)[0]

    def _fields(self, about: ModelInfo) -> list[str]:
        return [f"{field.name!r}: {self._value(field)}" for field in about.fields]

    def _value(self, field: FieldInfo) -> str:
        value = f"o.{field.name}"
        item = "x" if field.is_array else value
        made = self._item(field, item)
        if field.is_array:
            made = f"list({value})" if made == item else f"[{made} for x in {value}]"
        return made if made == value or not field.optional else f"(None if {value} is None else {made})"

    def _item(self, field: FieldInfo, item: str) -> str:
        if field.model is not None:
            return f"{self.names[info(field.model)]}({item})"
        encode = None if field.leaf is None else ENCODERS.get(field.leaf)
        return item if encode is None else f"{self.out.bind(encode, encode.__name__)}({item})"


class _Decoding:
    """Writes the functions that make objects."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.out = Source(f"{documents.info.name} from a document of {documents.name}")
        self.names = {about: self.out.fresh(f"read_{variable(about.name)}") for about in _below(documents.info)}

    def compile(self) -> Callable[[dict[str, Any]], tuple[Model, int]]:
        out, about = self.out, self.documents.info
        for inner, name in self.names.items():
            self._function(name, inner, {field.name: f"d[{field.name!r}]" for field in inner.fields}, "")
        places = {field.name: f"d[{field.name!r}]" for field in about.fields}
        for field in about.identity:
            places[field.name] = f"d[{ID!r}]" if len(about.identity) == 1 else f"d[{ID!r}][{field.name!r}]"
        whole = out.fresh(f"read_{variable(about.name)}")
        self._function(whole, about, places, f", int(d[{VERSION!r}])")
        return out.compiled(whole)[0]

    def _function(self, name: str, about: ModelInfo, places: dict[str, str], version: str) -> None:
        out = self.out
        new = out.bind(about.restore, f"new_{variable(about.name)}")
        values = ", ".join(self._value(field, places[field.name]) for field in about.fields)
        complete = out.bind(_Completion(about, self.documents if version else None), f"complete_{variable(about.name)}")
        with out.block(f"def {name}(d):"):
            with out.block("try:"):
                out.line(f"return {new}({values}){version}")
            with out.block(f"except {out.bind(_STRANGE, 'STRANGE')} as error:"):
                out.line(f"return {name}({complete}(d, error))")

    def _value(self, field: FieldInfo, place: str) -> str:
        item = "x" if field.is_array else place
        made = self._item(field, item)
        if field.is_array:
            made = place if made == item else f"[{made} for x in {place}]"
        return made if made == place or not field.optional else f"(None if {place} is None else {made})"

    def _item(self, field: FieldInfo, item: str) -> str:
        if field.model is not None:
            return f"{self.names[info(field.model)]}({item})"
        decode = None if field.leaf is None else DECODERS.get(field.leaf)
        return item if decode is None else f"{self.out.bind(decode, decode.__name__)}({item})"


class _Unreadable(Exception):
    """Why a part of a document cannot be read."""


_STRANGE: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, _Unreadable)
"""What reading a document raises that is not as it should be."""


def _readable(field: FieldInfo, value: Any) -> bool:
    """Whether the value of a field is of the form in which it is stored; what is in it has been read by itself."""
    decode = decoder(field.leaf)
    try:
        if value is None and field.optional:
            return True
        if field.is_array:
            return value is not None and all(
                isinstance(item, dict) if field.model is not None else (decode(item), True)[1] for item in value
            )
        if field.model is not None:
            return isinstance(value, dict)
        decode(value)
    except _STRANGE:
        return False
    return True


class _Completion:
    """Puts the defaults into a document that lacks fields."""

    def __init__(self, about: ModelInfo, documents: Documents | None) -> None:
        self._about = about
        self._documents = documents

    def __call__(self, document: Any, error: Exception) -> dict[str, Any]:
        """A whole document. Raises `StoreError` where a field is missing that has no default, or nothing is missing.

        `error` is that of the attempt to read it.
        """
        if not isinstance(document, dict):
            raise error  # whoever holds it tells where
        try:
            if isinstance(error, _Unreadable):
                raise error
            missing = dict(self._missing(document))
            if not missing:
                raise _Unreadable(self._reason(document)) from error
        except _Unreadable as unreadable:
            if self._documents is None:
                raise
            place = f"{self._documents.name}: the document {document.get(ID)!r}"
            raise StoreError(f"{place}: {unreadable}") from unreadable
        return {**document, **missing}

    def _reason(self, document: dict[str, Any]) -> str:
        """What of `document`, which lacks nothing, cannot be read."""
        stored = "" if self._documents is not None else f"a stored {self._about.name}: "
        for field in self._about.fields:
            value = document.get(field.name)
            if self._documents is not None and field.is_id:
                value = document.get(ID)
                if len(self._about.identity) > 1:
                    if not isinstance(value, dict) or field.name not in value:
                        return f"its {ID} has no '{field.name}'"
                    value = value[field.name]
            if not _readable(field, value):
                return f"{stored}'{field.name}' is {value!r}"
        return f"{stored}'{VERSION}' is {document.get(VERSION)!r}"

    def _missing(self, document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        if self._documents is not None and VERSION not in document:
            raise _Unreadable(f"it has no {VERSION}")
        for field in self._about.fields:
            if field.name in document or (self._documents is not None and field.is_id):
                continue
            if field.default is not dataclasses.MISSING:
                yield field.name, encoded(field, field.default)
            elif field.default_factory is not dataclasses.MISSING:
                yield field.name, encoded(field, field.default_factory())
            elif field.optional:
                yield field.name, None
            else:
                raise _Unreadable(f"a stored {self._about.name} has no '{field.name}', which has no default")


def _below(root: ModelInfo) -> list[ModelInfo]:
    """The classes in an aggregate below its root; the root is among them where it contains itself."""
    everything = models_of(root)
    contains_itself = any(field.model is root.cls for about in everything for field in about.fields)
    return everything if contains_itself else everything[1:]
