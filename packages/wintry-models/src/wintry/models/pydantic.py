"""How pydantic sees a Model.

A Model is described to pydantic's core directly, from `ModelInfo`: a dataclass whose validator makes the objects in
native code. One builder serves four styles:

    field       what a pydantic model or a request body uses: instances pass as they are, named for JSON Schema
    mapping     what `build` uses for mappings and JSON: instances inside are taken apart and validated anew
    attributes  what `build` uses for anything else: attributes are read
    checking    what `validate` uses: attributes are read, no object is made
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pydantic_core import CoreSchema, core_schema

from wintry.models.kinds import unwrapped, without_none

if TYPE_CHECKING:
    from wintry.models.info import FieldInfo, ModelInfo
    from wintry.models.model import Model

Style = Literal["field", "mapping", "attributes", "checking"]

_LEAVES: dict[Any, Callable[[], CoreSchema]] = {
    str: core_schema.str_schema,
    int: core_schema.int_schema,
    float: lambda: core_schema.float_schema(allow_inf_nan=False),
    bool: core_schema.bool_schema,
    date: core_schema.date_schema,
    datetime: lambda: core_schema.datetime_schema(tz_constraint="aware"),
}


def schema(info: ModelInfo, style: Style) -> CoreSchema:
    """The core schema of a class. Raises `DefinitionError` if it or a class in it cannot be resolved."""
    builder = _Builder(style)
    found = builder.model(info)
    return core_schema.definitions_schema(found, builder.definitions) if builder.definitions else found


class _Builder:
    def __init__(self, style: Style) -> None:
        self._style = style
        self._open: list[type[Model]] = []
        self._recursive: set[type[Model]] = set()
        self._done: set[type[Model]] = set()
        self.definitions: list[CoreSchema] = []

    def model(self, info: ModelInfo) -> CoreSchema:
        """A class inside stands where it is used; one that contains itself, and every one that JSON Schema names, is a
        definition that others refer to."""
        reference = f"{info.cls.__module__}.{info.cls.__qualname__}:{id(info.cls)}"
        if info.cls in self._open:
            self._recursive.add(info.cls)
            return core_schema.definition_reference_schema(reference)
        if info.cls in self._done:
            return core_schema.definition_reference_schema(reference)
        self._open.append(info.cls)
        found = self._described(info)
        self._open.pop()
        if self._style != "field" and info.cls not in self._recursive:
            return found
        self._done.add(info.cls)
        self.definitions.append(cast(CoreSchema, {**found, "ref": reference}))
        return core_schema.definition_reference_schema(reference)

    def _described(self, info: ModelInfo) -> CoreSchema:
        if self._style in ("field", "mapping"):
            fields = [core_schema.dataclass_field(f.name, self._field(f), kw_only=True) for f in info.fields]
            fields += _transient(info, self._style == "field")
            return core_schema.dataclass_schema(
                info.cls,
                core_schema.dataclass_args_schema(info.name, fields),
                [field["name"] for field in fields],
                post_init=hasattr(info.cls, "__post_init__"),
                revalidate_instances="never" if self._style == "field" else "always",
                frozen=info.frozen,
            )
        attributes = core_schema.model_fields_schema(
            {field.name: core_schema.model_field(self._field(field)) for field in info.fields},
            model_name=info.name,
            from_attributes=True,
        )
        if self._style == "checking":
            return attributes
        restore, names = info.restore, [field.name for field in info.fields]

        def make(found: tuple[dict[str, Any], Any, Any]) -> Any:
            values = found[0]
            return restore(*[values[name] for name in names])

        return core_schema.no_info_after_validator_function(make, attributes)

    def _field(self, field: FieldInfo) -> CoreSchema:
        inner, optional = without_none(field.annotation)
        if field.model is not None:
            found = self.model(field.model.__wintry_info__)
            found = core_schema.list_schema(found) if field.is_array else found
        elif field.is_array and inner is unwrapped(inner):
            found = core_schema.list_schema(_leaf(get_args(inner)[0]))
        else:
            found = _leaf(inner)
        found = core_schema.nullable_schema(found) if optional else found
        if self._style == "checking":
            return found
        if field.default is not MISSING:
            return core_schema.with_default_schema(found, default=field.default)
        if field.default_factory is not MISSING:
            return core_schema.with_default_schema(found, default_factory=field.default_factory)
        return found


def _leaf(annotation: Any) -> CoreSchema:
    """The schema of a scalar, or of a whole annotation that carries constraints."""
    make = _LEAVES.get(annotation)
    if make is not None:
        return make()
    from pydantic import TypeAdapter  # only constraints need all of pydantic

    found = TypeAdapter(annotation).core_schema
    if found["type"] == "datetime":
        found = cast(CoreSchema, {**found, "tz_constraint": "aware"})
    return found


def _transient(info: ModelInfo, shown: bool) -> list[core_schema.DataclassField]:
    """What is not stored is neither read nor written nor described, but a new object has it."""
    described = []
    for field in info.transient:
        found = _undescribed() if shown else core_schema.any_schema()
        if field.default is not MISSING:
            found = core_schema.with_default_schema(found, default=field.default)
        else:
            assert field.default_factory is not MISSING
            found = core_schema.with_default_schema(found, default_factory=field.default_factory)
        described.append(core_schema.dataclass_field(field.name, found, init=False, serialization_exclude=True))
    return described


def _undescribed() -> CoreSchema:
    """Anything, and nothing in JSON Schema."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import SkipJsonSchema

    return TypeAdapter(SkipJsonSchema[Any]).core_schema
