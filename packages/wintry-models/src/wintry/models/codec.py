"""Objects from data and data from objects.

There are two ways in. `build` takes what a stranger gives: pydantic validates and coerces it, through the schemas of
`pydantic.py`, mappings and JSON by a validator that makes the objects itself, anything else by one that reads
attributes. `restore` takes what a store gives back: a function generated for the class that sets the attributes and
nothing more. On the way out stand the serializers and `check`, generated too, which accepts exactly what every store
can keep: types without subclasses, 64-bit integers, finite floats, text without NUL and lone surrogates, aware datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import MISSING
from datetime import UTC, date, datetime
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import CoreConfig, SchemaSerializer, SchemaValidator, ValidationError

from wintry.models import pydantic
from wintry.models.errors import DuplicateChild, InvalidValue, SharedChild
from wintry.models.source import Source, variable
from wintry.models.tracking.changes import Key, Place, item_name, path_of

if TYPE_CHECKING:
    from wintry.models.info import FieldInfo, ModelInfo

_UNKNOWN_FORM = {"dataclass_type", "dataclass_exact_type"}  # pydantic's words for: neither a mapping nor an instance


class Codec:
    """The validators and the serializer of one class, each made at first use."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info

    @cached_property
    def _from_mapping(self) -> SchemaValidator:
        return self._validator("mapping")

    @cached_property
    def _from_attributes(self) -> SchemaValidator:
        return self._validator("attributes")

    @cached_property
    def _checking(self) -> SchemaValidator:
        return self._validator("checking")

    @cached_property
    def _serializer(self) -> SchemaSerializer:
        return SchemaSerializer(pydantic.schema(self._info, "mapping"))

    def _validator(self, style: pydantic.Style) -> SchemaValidator:
        # The title is the subject of every ValidationError.
        return SchemaValidator(pydantic.schema(self._info, style), CoreConfig(title=self._info.name))

    def build(self, source: object, strict: bool, forbid_extra: bool) -> Any:
        extra: Literal["forbid", "ignore"] = "forbid" if forbid_extra else "ignore"
        if isinstance(source, str | bytes | bytearray):
            return self._from_mapping.validate_json(source, strict=strict, extra=extra)
        if isinstance(source, Mapping):
            plain = source if type(source) is dict else dict(source)
            try:
                return self._from_mapping.validate_python(plain, strict=strict, extra=extra)
            except ValidationError as error:
                # An object with attributes may stand anywhere in the mapping: only the other validator reads those.
                if not any(fault["type"] in _UNKNOWN_FORM for fault in error.errors(include_url=False)):
                    raise
        return self._from_attributes.validate_python(source, strict=strict, extra=extra)

    def build_many(self, sources: Iterable[object], strict: bool, forbid_extra: bool) -> list[Any]:
        return [self.build(source, strict, forbid_extra) for source in sources]

    def validate(self, obj: object) -> None:
        self._checking.validate_python(obj, strict=True)

    def to_dict(self, obj: object, mode: str, exclude: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._serializer.to_python(obj, mode=mode, exclude=exclude, warnings=False)
        return result

    def to_json(self, obj: object, exclude: Any) -> str:
        return self._serializer.to_json(obj, exclude=exclude, warnings=False).decode()


def make_restore(info: ModelInfo) -> Callable[..., Any]:
    """Generate `restore(*values)`: see `ModelInfo.restore`."""
    source = Source(f"restore of {info.place}")
    new, cls = source.bind(object.__new__, "new"), source.bind(info.cls, info.name)
    names = [field.name for field in info.fields]
    arguments = {name: source.fresh(name) for name in names}
    self = source.fresh("self")
    with source.block(f"def restore({', '.join([*arguments.values(), '/'] if names else [])}):"):
        source.line(f"{self} = {new}({cls})")
        target = f"{self}.{{}}"
        if info.frozen:  # a frozen class refuses assignment, its dictionary does not
            state = source.fresh("state")
            source.line(f"{state} = {self}.__dict__")
            target = state + "[{!r}]"
        for name, argument in arguments.items():
            source.line(f"{target.format(name)} = {argument}")
        for field in info.transient:
            if field.default is not MISSING:
                value = source.bind(field.default, f"{field.name}_default")
            else:
                value = source.bind(field.default_factory, f"new_{field.name}") + "()"
            source.line(f"{target.format(field.name)} = {value}")
        if hasattr(info.cls, "__post_init__"):
            source.line(f"{self}.__post_init__()")
        source.line(f"return {self}")
    return source.compiled("restore")[0]


def make_copy(info: ModelInfo) -> Callable[[Any], Any]:
    """Generate `copy(object)`: see `ModelInfo.copy`."""
    source = Source(f"copy of {info.place}")
    restore = source.bind(info.restore, "restore")
    obj = source.fresh(variable(info.name))
    with source.block(f"def copy({obj}):"):
        with source.block(f"return {restore}("):
            for field in info.fields:
                source.line(f"{_copied(source, field, f'{obj}.{field.name}')},")
        source.line(")")
    return source.compiled("copy")[0]


def _copied(source: Source, field: FieldInfo, value: str) -> str:
    if field.model is None:
        if not field.is_array:
            return value
        return f"None if {value} is None else [*{value}]" if field.optional else f"[*{value}]"
    nested = field.model.__wintry_info__
    if nested.immutable:
        return f"[*{value}]" if field.is_array else value
    # Through the info, not the function: a class may contain itself.
    copy = source.bind(nested, f"{variable(nested.name)}_info") + ".copy"
    if field.is_array:
        return f"[*map({copy}, {value})]"
    return f"None if {value} is None else {copy}({value})" if field.optional else f"{copy}({value})"


_ACCEPTS = {
    str: "type({0}) is str and {0}.isascii() and '\\0' not in {0}",
    int: "type({0}) is int and -0x8000000000000000 <= {0} <= 0x7FFFFFFFFFFFFFFF",
    float: "type({0}) is float and {0} - {0} == 0",
    bool: "type({0}) is bool",
    date: "type({0}) is date",
    datetime: "type({0}) is datetime and {0}.tzinfo is utc",
}
"""A cheap test that most good values pass; what fails it is looked at by `refuse`."""


def make_check(info: ModelInfo) -> Callable[[Any, str, Place], None]:
    """Generate `check(object, root, at)`, which raises `InvalidValue` for what no store could keep."""
    source = Source(f"check of {info.place}")
    for value, name in ((date, "date"), (datetime, "datetime"), (UTC, "utc"), (refuse, "refuse")):
        source.bind(value, name)
    obj, root, at = (source.fresh(name) for name in (variable(info.name), "root", "at"))
    cls = source.bind(info.cls, info.name)
    with source.block(f"def check({obj}, {root}, {at}):"):
        with source.block(f"if type({obj}) is not {cls}:"):
            source.line(f"refuse({obj}, {cls}, {root}, {at})")
        for field in info.fields:
            _emit_field_check(source, field, obj, root, at)
        source.line(f"return {obj}")
    return source.compiled("check")[0]


def _emit_field_check(source: Source, field: FieldInfo, obj: str, root: str, at: str) -> None:
    value, here = source.fresh(field.name), f"({at}, {field.name!r})"
    with source.block("try:"):
        source.line(f"{value} = {obj}.{field.name}")
    with source.block("except AttributeError:"):
        source.line(f"{source.bind(_refuse_missing, 'refuse_missing')}({root}, {here})")
    with source.block(f"if {value} is not None:") if field.optional else nullcontext():
        if field.is_array:
            _emit_list_check(source, field, value, root, at)
        else:
            _emit_item_check(source, field, value, root, here)


def _emit_list_check(source: Source, field: FieldInfo, value: str, root: str, at: str) -> None:
    number, item = source.fresh("number"), source.fresh("item")
    with source.block(f"if type({value}) is not list:"):
        source.line(f"refuse({value}, list, {root}, ({at}, {field.name!r}))")
    with source.block(f"for {number}, {item} in enumerate({value}):"):
        named = f"({number}, {item}), {source.bind(item_name, 'item_name')}"
        _emit_item_check(source, field, item, root, f"({at}, {field.name!r}, {named})")
    if field.model is not None and field.model.__wintry_info__.is_entity:
        id_of = source.bind(field.model.__wintry_info__.id_of, f"id_of_{variable(field.model.__name__)}")
        with source.block(f"if len(set(map({id_of}, {value}))) != len({value}):"):
            twins = source.bind(_refuse_twins, "refuse_twins")
            source.line(f"{twins}({value}, {id_of}, {root}, ({at}, {field.name!r}))")


def _emit_item_check(source: Source, field: FieldInfo, item: str, root: str, here: str) -> None:
    if field.model is not None:
        nested = field.model.__wintry_info__
        source.line(f"{source.bind(nested, f'{variable(nested.name)}_info')}.check_at({item}, {root}, {here})")
    elif field.leaf is not None:
        with source.block(f"if not ({_ACCEPTS[field.leaf].format(item)}):"):
            source.line(f"refuse({item}, {source.bind(field.leaf, field.leaf.__name__)}, {root}, {here})")


def check_field(field: FieldInfo, value: object, root: str, at: Place) -> None:
    """The check of one field's value, which stands at `at`. Raises `InvalidValue`."""
    if value is None and field.optional:
        return
    if not field.is_array:
        check_item(field, value, root, at)
        return
    if not isinstance(value, list):
        refuse(value, list, root, at)
        return
    *around, name = path_of(at)
    for number, item in enumerate(value):
        check_item(field, item, root, ((tuple(around),), name, (number, item), item_name))


def check_item(field: FieldInfo, item: object, root: str, at: Place) -> None:
    """The check of a single value of a field, or of one item of its list. Raises `InvalidValue`."""
    if field.model is not None:
        field.model.__wintry_info__.check_at(item, root, at)
    elif field.leaf is not None:
        refuse(item, field.leaf, root, at)


def refuse(value: object, expected: type, root: str, at: Place) -> None:
    """Raise `InvalidValue` unless the value is good after all: generated code asks only what is cheap."""
    if type(value) is not expected:
        got = "None" if value is None else type(value).__qualname__
        raise InvalidValue(root, path_of(at), f"expected {expected.__qualname__}, got {got}")
    reason = _out_of_range(value)
    if reason is not None:
        raise InvalidValue(root, path_of(at), reason)


def _out_of_range(value: object) -> str | None:
    match value:
        case str():
            if "\0" in value:
                return "text must not contain NUL"
            if any("\ud800" <= character <= "\udfff" for character in value):
                return "text must not contain lone surrogates"
        case int() if not -(2**63) <= value < 2**63:
            return f"{value} does not fit into 64 bits"
        case float() if not isfinite(value):
            return f"expected a finite float, got {value}"
        case datetime():
            if value.utcoffset() is None:
                return "expected an aware datetime, got a naive one: give it a time zone"
            try:
                value.astimezone(UTC)
            except OverflowError:
                return f"{value.isoformat()} is out of range in UTC"
    return None


def _refuse_twins(items: list[Any], id_of: Callable[[Any], Any], root: str, at: Place) -> None:
    ids = [id_of(item) for item in items]
    twin = next(number for number, key in enumerate(ids) if key in ids[:number])
    path = (*path_of(at), Key(ids[twin]))
    if any(items[twin] is item for item in items[:twin]):
        raise SharedChild(root, path, "the same object stands in another place too; put in a copy")
    raise DuplicateChild(root, path, "two children of one id")


def _refuse_missing(root: str, at: Place) -> None:
    raise InvalidValue(root, path_of(at), "the attribute is missing")
