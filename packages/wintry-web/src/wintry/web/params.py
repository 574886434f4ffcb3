"""The parameters of a method: where each one's value comes from.

A source is stated by a marker (`Annotated[int, Query()]`) or inferred: a name in the path is a path parameter, what
the container provides is injected, scalars and lists of scalars are query parameters, everything else that pydantic
can read is the body. What a type is, is read from the core schema that pydantic makes of it, so that whatever pydantic
accepts (models, dataclasses, typed dictionaries, a library's own classes) is understood without being known.
`read_parameters` reports every parameter that has no source.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Field, InstanceOf, TypeAdapter, WithJsonSchema
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from starlette.datastructures import UploadFile
from starlette.requests import HTTPConnection, Request

from .errors import DefinitionError, report

EMPTY: Final[Any] = inspect.Parameter.empty


class Source(Enum):
    """Where a parameter comes from; the values of the first four are OpenAPI's words for it."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    COOKIE = "cookie"
    BODY = "body"
    FORM = "form"
    FILE = "file"
    SERVICE = "service"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Marker:
    """The base of the markers. `alias` is the name on the wire, `description` goes into the documentation.

    Constraints are pydantic's: `Annotated[int, Query(), Field(ge=1)]`.
    """

    alias: str | None = None
    description: str | None = None


class Path(Marker):
    """A segment of the path."""


class Query(Marker):
    """The query string; on a pydantic model, one parameter for each field."""


class Header(Marker):
    """A header; `x_token` is read from `x-token` unless `alias` says otherwise."""


class Cookie(Marker):
    """A cookie."""


class Form(Marker):
    """A field of a form, urlencoded or multipart; on a pydantic model, one for each field."""


class File(Marker):
    """A file of a multipart form, as `UploadFile` or as `bytes`."""


@dataclass(frozen=True, slots=True)
class Body(Marker):
    """The JSON body. Several, or one with `embed=True`, are members of one object, by name."""

    embed: bool = False


_sources: Final[Mapping[type[Marker], Source]] = {
    Path: Source.PATH,
    Query: Source.QUERY,
    Header: Source.HEADER,
    Cookie: Source.COOKIE,
    Body: Source.BODY,
    Form: Source.FORM,
    File: Source.FILE,
}


@dataclass(frozen=True, slots=True)
class Wire:
    """One name on the wire. `field` is the model's field that it fills, None if it is the parameter itself."""

    name: str
    field: str | None
    many: bool
    annotation: Any
    required: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method: `annotation` is what pydantic validates, without our marker."""

    name: str
    source: Source
    annotation: Any
    default: Any
    marker: Marker
    wires: tuple[Wire, ...] = ()

    @property
    def required(self) -> bool:
        """Whether the client must send it."""
        return self.default is EMPTY

    @property
    def grouped(self) -> bool:
        """Whether it is a model whose fields come by their own names."""
        return any(wire.field is not None for wire in self.wires)


def read_parameters(
    function: Callable[..., Any],
    hints: Mapping[str, Any],
    place: str,
    path: str,
    has_body: bool,
    provides: Callable[[Any], bool],
) -> list[Parameter]:
    """The parameters of a method but the first, in order; faults are reported and left out.

    `hints` are its annotations, `path` is the full path of the route, `has_body` whether its verb has a body, `provides` whether the container
    fills a type.
    """
    in_path = set(re.findall(r"\{(\w+)(?::path)?\}", path))
    found = []
    for each in list(inspect.signature(function).parameters.values())[1:]:
        where = f"{place}({each.name})"
        try:
            found.append(_parameter(each, hints.get(each.name, EMPTY), where, in_path, has_body, provides))
        except DefinitionError as fault:
            report(fault)
    taken = {wire.name for parameter in found if parameter.source is Source.PATH for wire in parameter.wires}
    if not any(parameter.source is Source.REQUEST for parameter in found):
        for name in sorted(in_path - taken):
            report(
                DefinitionError(
                    place,
                    f'the path "{path}" has {{{name}}}, which the method does not take',
                    f"add a parameter `{name}`",
                )
            )
    return found


def resolved_hints(function: Callable[..., Any], place: str) -> dict[str, Any] | None:
    """The annotations of a function, resolved; None after a report if one cannot be."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 - evaluating an annotation runs anything
        hint = "import the name where the module can see it at run time, not only under TYPE_CHECKING"
        report(DefinitionError(place, f"an annotation cannot be resolved: {error}", hint))
        return None


def _parameter(
    each: inspect.Parameter,
    hint: Any,
    place: str,
    in_path: Iterable[str],
    has_body: bool,
    provides: Callable[[Any], bool],
) -> Parameter:
    if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
        raise DefinitionError(place, "can be filled only by name", "make it an ordinary parameter")
    if hint is EMPTY:
        raise DefinitionError(place, "has no annotation", "annotate it with its type")
    if isinstance(each.default, Marker):
        name = type(each.default).__name__
        raise DefinitionError(place, f"{name}() stands as a default", f"write Annotated[<type>, {name}()]")
    annotation, marker = _unmarked(hint)
    if annotation is Request or annotation is HTTPConnection:
        return Parameter(each.name, Source.REQUEST, Request, each.default, Marker())
    alias = _pydantic_alias(annotation)
    if alias is not None:
        stated = type(marker or (Path() if each.name in in_path else Query())).__name__
        reason = f"Field() gives it the alias {alias!r}, which binding does not read"
        raise DefinitionError(place, reason, f"write {stated}(alias={alias!r})")
    if marker is None:
        source = _inferred(each.name, annotation, place, in_path, has_body, provides)
        marker = Marker()
    else:
        source = _sources[type(marker)]
        if source is Source.PATH and (marker.alias or each.name) not in in_path:
            raise DefinitionError(place, f'"{marker.alias or each.name}" is not in the path', "name it there: {name}")
    if source is Source.SERVICE:
        return Parameter(each.name, source, annotation, each.default, marker)
    annotation = _files(annotation)
    return Parameter(each.name, source, annotation, each.default, marker, _wires(each, annotation, marker, source))


def _unmarked(hint: Any) -> tuple[Any, Marker | None]:
    """The annotation without our marker, and the marker."""
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *metadata = get_args(hint)
    marker = None
    rest = []
    for each in metadata:
        each = each() if isinstance(each, type) and issubclass(each, Marker) and each is not Marker else each
        if isinstance(each, Marker):
            marker = each
        else:
            rest.append(each)
    for each in rest:
        base = Annotated[base, each]
    return base, marker


def _pydantic_alias(annotation: Any) -> str | None:
    """The alias that pydantic would know a parameter by, if its annotation has one."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    fields = [each for each in metadata if isinstance(each, FieldInfo)]
    aliases = [alias for each in fields for alias in (each.validation_alias, each.alias) if alias is not None]
    return str(aliases[0]) if aliases else None


def _inferred(
    name: str,
    annotation: Any,
    place: str,
    in_path: Iterable[str],
    has_body: bool,
    provides: Callable[[Any], bool],
) -> Source:
    if name in in_path:
        return Source.PATH
    if provides(annotation):
        return Source.SERVICE
    if UploadFile in _members(annotation):
        return Source.FILE
    shape = shape_of(annotation, place)
    if shape in ("scalar", "list"):
        return Source.QUERY
    if not has_body:
        raise DefinitionError(
            place, f"{describe(annotation)} would be the body, and this verb has none", "mark it Query(), or use @post"
        )
    return Source.BODY


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types inside of unions, lists and `Annotated`, or the type itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType, list):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


def _files(annotation: Any) -> Any:
    """The annotation with `UploadFile` made acceptable to pydantic."""
    if annotation is UploadFile:
        return Annotated[InstanceOf[UploadFile], WithJsonSchema({"type": "string", "format": "binary"})]
    origin = get_origin(annotation)
    if origin is list:
        return GenericAlias(list, (_files(get_args(annotation)[0]),))
    if origin in (Union, UnionType):
        return Union[tuple(_files(part) for part in get_args(annotation))]  # noqa: UP007 - as many as there are
    if origin is Annotated:
        base, *metadata = get_args(annotation)
        made = _files(base)
        for each in metadata:
            made = Annotated[made, each]
        return made
    return annotation


def _wires(each: inspect.Parameter, annotation: Any, marker: Marker, source: Source) -> tuple[Wire, ...]:
    """The names under which a parameter arrives: its own, or those of the fields of a model."""
    if source is Source.BODY:
        return ()
    model = _model(annotation)
    if model is None or source is Source.PATH:
        many = source is not Source.PATH and shape_of(annotation, each.name) == "list"
        name = marker.alias or _spelled(each.name, source)
        return (Wire(name, None, many, annotation, each.default is EMPTY),)
    wires = []
    for name, info in model.model_fields.items():
        alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
        typed = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        many = shape_of(typed, name) == "list"
        required = info.is_required() and each.default is EMPTY
        wires.append(Wire(alias or _spelled(name, source), alias or name, many, typed, required))
    return tuple(wires)


def _model(annotation: Any) -> type[BaseModel] | None:
    found = [member for member in _members(annotation) if member is not NoneType]
    if len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], BaseModel):
        return found[0]
    return None


def _spelled(name: str, source: Source) -> str:
    return name.replace("_", "-") if source is Source.HEADER else name


_scalars: Final = frozenset(
    [
        "any",
        "bool",
        "bytes",
        "complex",
        "date",
        "datetime",
        "decimal",
        "enum",
        "float",
        "int",
        "is-instance",
        "literal",
        "multi-host-url",
        "none",
        "str",
        "time",
        "timedelta",
        "url",
        "uuid",
    ]
)
_lists: Final = frozenset(["list", "set", "frozenset", "tuple", "generator"])


def shape_of(annotation: Any, place: str) -> str:
    """`"scalar"`, `"list"` (of scalars) or `"object"`: how pydantic would read it.

    Raises `DefinitionError` for what pydantic cannot read at all.
    """
    try:
        schema = TypeAdapter(annotation).core_schema
    except PydanticUndefinedAnnotation as error:
        raise DefinitionError(place, f"{describe(annotation)}: {error}") from None
    except (PydanticSchemaGenerationError, PydanticUserError):
        hint = "mark its provider with @provider, or take a type that pydantic reads"
        raise DefinitionError(
            place, f"{describe(annotation)} is neither provided nor readable from a request", hint
        ) from None
    return _shape(schema)


def _shape(schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    if kind in _scalars:
        return "scalar"
    if kind in _lists:
        items = schema.get("items_schema", {"type": "any"})
        inner = items if isinstance(items, list) else [items]
        return "list" if all(_shape(each) == "scalar" for each in inner) else "object"
    if kind == "union":
        choices = [each[0] if isinstance(each, tuple) else each for each in schema["choices"]]
        shapes = {_shape(each) for each in choices}
        return shapes.pop() if len(shapes) == 1 else "object"
    if kind in ("json-or-python", "lax-or-strict"):
        return _shape(schema["json_schema"] if kind == "json-or-python" else schema["lax_schema"])
    if kind == "chain":
        return _shape(schema["steps"][0])
    if "schema" in schema and kind not in ("model", "dataclass"):
        return _shape(schema["schema"])
    return "object"


def described_as(parameter: Parameter) -> Any:
    """The annotation with its default, as a field of a record and in the documentation."""
    if parameter.required:
        return parameter.annotation
    return Annotated[parameter.annotation, Field(default=parameter.default)]


def describe(annotation: Any) -> str:
    """The name of a type in messages."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
