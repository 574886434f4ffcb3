"""From a request to the arguments of a method.

A `Binder` is compiled for a route once. What comes as text (path, query, headers, cookies) is gathered into one
dictionary and validated in one go; a body is validated straight from its bytes. `strings` and `body` are closures made
for just what the route takes, and None where it takes nothing, so that a route pays only for what it uses. pydantic's
errors leave as `InvalidInput`, which knows where each name came from: a `ValidationError` of the method's own code
must not look like the client's fault.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Final, NotRequired, TypeAlias
from urllib.parse import parse_qsl

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request, cookie_parser
from starlette.types import Receive, Scope
from typing_extensions import TypedDict

from .errors import DefinitionError, InvalidInput, InvalidRequestError, UnsupportedMediaType, report
from .limits import Limits, read_body
from .params import Body, Parameter, Source, Wire, described_as

Values: TypeAlias = dict[str, Any]
Reader: TypeAlias = Callable[[Scope, Values], None]

TEXT: Final = (Source.PATH, Source.QUERY, Source.HEADER, Source.COOKIE)
FORMS: Final = (Source.FORM, Source.FILE)
_typed_dict: Any = TypedDict  # the fields are known at run time only, which checkers do not follow
_form_types: Final = (b"application/x-www-form-urlencoded", b"multipart/form-data")


class Binder:
    """The arguments that a request brings: `strings(scope)` and `await body(scope, receive, request)`, where not None.

    `form` says that the body is a form, whose files are to be closed at the end (`scope[FORM]`).
    """

    __slots__ = ("body", "form", "strings")

    def __init__(
        self,
        strings: Callable[[Scope], Values] | None,
        body: Callable[[Scope, Receive, Request | None], Awaitable[Values]] | None,
        form: bool,
    ) -> None:
        self.strings = strings
        self.body = body
        self.form = form


BODY: Final = "wintry.web.body"  # where in the scope the bytes of a body stand that was read without a Request
FORM: Final = "wintry.web.form"


def compile_binder(parameters: Sequence[Parameter], place: str, limits: Limits, max_body_size: int) -> Binder:
    """The binder of a route; reports bodies that exclude one another and a missing extra."""
    text = [each for each in parameters if each.source in TEXT]
    bodies = [each for each in parameters if each.source is Source.BODY]
    forms = [each for each in parameters if each.source in FORMS]
    if bodies and forms:
        names = f"{bodies[0].name} is JSON and {forms[0].name} a form"
        report(DefinitionError(place, f"a request has one body: {names}", "take both from the form"))
    if forms and find_spec("python_multipart") is None:
        report(DefinitionError(place, "reading a form needs python-multipart", "install wintry-web[forms]"))
    body = None
    if bodies:
        body = _json_body(bodies, max_body_size)
    elif forms:
        body = _form_body(forms, limits)
    return Binder(_strings(text) if text else None, body, bool(forms))


def media_types(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """The types of body that a route reads, the first one for its documentation."""
    sources = {each.source for each in parameters}
    if Source.FILE in sources:
        return ("multipart/form-data",)
    if Source.FORM in sources:
        return ("application/x-www-form-urlencoded", "multipart/form-data")
    return ("application/json",) if Source.BODY in sources else ()


def body_type(parameters: Sequence[Parameter]) -> Any:
    """What the body is validated as: the type of the one parameter, or a typed dictionary of several."""
    bodies = [each for each in parameters if each.source is Source.BODY]
    if len(bodies) == 1 and not _embedded(bodies[0]):
        return bodies[0].annotation
    named = bodies or [each for each in parameters if each.source in FORMS]
    return _record("Body", {_member(each): described_as(each) for each in named})


def described_body(parameters: Sequence[Parameter]) -> Any:
    """What the body is documented as: `body_type`, but a form by the names that its fields have on the wire."""
    forms = [each for each in parameters if each.source in FORMS]
    if not forms:
        return body_type(parameters)
    return _record("Body", {wire.name: _form_field(each, wire) for each in forms for wire in each.wires})


# ---- text


def _strings(parameters: Sequence[Parameter]) -> Callable[[Scope], Values]:
    """Gather and validate what comes as text."""
    validator = _validator(_record("Parameters", {each.name: described_as(each) for each in parameters}))
    places = _places(parameters)
    readers = [
        make(parameters)
        for source, make in (
            (Source.QUERY, _query_reader),
            (Source.HEADER, _header_reader),
            (Source.COOKIE, _cookie_reader),
        )
        if any(each.source is source for each in parameters)
    ]
    path = [(each.name, each.wires[0].name) for each in parameters if each.source is Source.PATH]
    as_they_are = not readers and all(name == wire for name, wire in path)

    def strings(scope: Scope) -> Values:
        values: Values = scope["path_params"]
        if not as_they_are:  # those of a mount above are not the method's
            values = {name: values[wire] for name, wire in path}
        for read in readers:
            read(scope, values)
        try:
            found: Values = validator.validate_python(values)
        except ValidationError as error:
            raise InvalidInput(error, places) from None
        return found

    return strings


class _Targets:
    """Where the values of some sources go: by name on the wire, (parameter, field or None, whether there are many)."""

    def __init__(self, parameters: Sequence[Parameter], sources: Sequence[Source]) -> None:
        self.by_name = {
            wire.name: (each.name, wire.field, wire.many)
            for each in parameters
            if each.source in sources
            for wire in each.wires
        }
        self.grouped = [each.name for each in parameters if each.source in sources and each.grouped and each.required]

    def start(self, values: Values) -> None:
        """A required model is there even if none of its fields is: its own defaults and errors decide."""
        for name in self.grouped:
            values.setdefault(name, {})

    def put(self, values: Values, name: str, value: Any) -> None:
        """Store one value, if anything takes its name; of several for a scalar the last one stays."""
        target = self.by_name.get(name)
        if target is None:
            return
        key, field, many = target
        if field is not None:
            values, key = values.setdefault(key, {}), field
        if many:
            values.setdefault(key, []).append(value)
        else:
            values[key] = value


def _query_reader(parameters: Sequence[Parameter]) -> Reader:
    targets = _Targets(parameters, (Source.QUERY,))

    def read(scope: Scope, values: Values) -> None:
        targets.start(values)
        query = scope["query_string"].decode("latin-1")
        if "%" in query or "+" in query:
            for name, value in parse_qsl(query, keep_blank_values=True):
                targets.put(values, name, value)
        elif query:
            for part in query.split("&"):
                name, _, value = part.partition("=")
                targets.put(values, name, value)

    return read


def _header_reader(parameters: Sequence[Parameter]) -> Reader:
    targets = _Targets(parameters, (Source.HEADER,))
    wanted = {name.lower().encode("latin-1"): name for name in targets.by_name}

    def read(scope: Scope, values: Values) -> None:
        targets.start(values)
        for key, value in scope["headers"]:
            name = wanted.get(key)
            if name is not None:
                targets.put(values, name, value.decode("latin-1"))

    return read


def _cookie_reader(parameters: Sequence[Parameter]) -> Reader:
    targets = _Targets(parameters, (Source.COOKIE,))

    def read(scope: Scope, values: Values) -> None:
        targets.start(values)
        for key, value in scope["headers"]:
            if key == b"cookie":
                for name, text in cookie_parser(value.decode("latin-1")).items():
                    targets.put(values, name, text)

    return read


# ---- bodies


def _json_body(
    parameters: Sequence[Parameter], limit: int
) -> Callable[[Scope, Receive, Request | None], Awaitable[Values]]:
    """Read and validate a JSON body; alone it is the parameter, else an object of the parameters."""
    only = parameters[0] if len(parameters) == 1 and not _embedded(parameters[0]) else None
    validator = _validator(body_type(parameters))
    renamed = {_member(each): each.name for each in parameters}
    optional = all(not each.required for each in parameters)

    async def body(scope: Scope, receive: Receive, request: Request | None) -> Values:
        kind = length = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"content-length":
                length = value
        if request is None:
            content = scope[BODY] = await read_body(receive, length, limit)
        else:
            content = await request.body()
        if not content and optional:
            return {}
        if kind != b"application/json":
            check_json(kind)
        if b"NaN" in content or b"Infinity" in content:
            refuse_constants(content)
        try:
            value = validator.validate_json(content)
        except ValidationError as error:
            raise InvalidInput(error, {}) from None
        return {only.name: value} if only is not None else {renamed[name]: each for name, each in value.items()}

    return body


def _form_body(
    parameters: Sequence[Parameter], limits: Limits
) -> Callable[[Scope, Receive, Request | None], Awaitable[Values]]:
    """Read and validate a form."""
    validator = _validator(body_type(parameters))
    targets = _Targets(parameters, FORMS)
    as_bytes = {
        wire.name
        for each in parameters
        if each.source is Source.FILE
        for wire in each.wires
        if "UploadFile" not in str(wire.annotation)
    }
    places = _places(parameters)
    optional = all(not each.required for each in parameters)

    async def body(scope: Scope, receive: Receive, request: Request | None) -> Values:
        assert request is not None  # a form is read by the Request that the container gives too
        kind = request.headers.get("content-type", "").encode("latin-1")
        if kind.partition(b";")[0].strip().lower() not in _form_types:
            if optional and not await request.body():
                return {}
            raise UnsupportedMediaType(f"the body has to be a form, not {kind.decode('latin-1') or 'untyped'}")
        form = scope[FORM] = await _read_form(request, limits)
        values: Values = {}
        targets.start(values)
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in as_bytes:
                targets.put(values, name, await value.read())
            else:
                targets.put(values, name, value)
        try:
            found: Values = validator.validate_python(values)
        except ValidationError as error:
            raise InvalidInput(error, places) from None
        return found

    return body


async def _read_form(request: Request, limits: Limits) -> FormData:
    try:
        return await request.form(
            max_files=limits.form_files, max_fields=limits.form_fields, max_part_size=limits.form_part_size
        )
    except MultiPartException as error:
        raise InvalidRequestError(error.message) from None


def check_json(kind: bytes | None) -> None:
    """Raises `UnsupportedMediaType` unless a `Content-Type` is JSON."""
    if kind is None:
        raise UnsupportedMediaType("the body has no Content-Type: send application/json")
    name = kind.partition(b";")[0].strip().lower()
    if name != b"application/json" and not (name.startswith(b"application/") and name.endswith(b"+json")):
        shown = name[:80].decode("latin-1")
        raise UnsupportedMediaType(f"the body has to be application/json, not {shown}")


def refuse_constants(content: bytes) -> None:
    """Raises `InvalidRequestError` for NaN and Infinity, which pydantic reads and JSON does not have."""
    try:
        from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"malformed JSON: {error}") from None


# ---- validators


def _validator(annotation: Any) -> SchemaValidator:
    validator = TypeAdapter(annotation).validator
    assert isinstance(validator, SchemaValidator)
    return validator


def _record(title: str, fields: Mapping[str, Any]) -> Any:
    made = _typed_dict(title, dict(fields))
    made.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    return made


def _embedded(parameter: Parameter) -> bool:
    return isinstance(parameter.marker, Body) and parameter.marker.embed


def _member(parameter: Parameter) -> str:
    """The name of a parameter in a body of several."""
    return parameter.name if parameter.source in FORMS else parameter.marker.alias or parameter.name


def _form_field(parameter: Parameter, wire: Wire) -> Any:
    """A field of a form for the documentation."""
    if wire.field is not None:
        return wire.annotation if wire.required else NotRequired[wire.annotation]
    annotation, description = described_as(parameter), parameter.marker.description
    return annotation if description is None else Annotated[annotation, Field(description=description)]


def _places(parameters: Sequence[Parameter]) -> dict[str, tuple[str, str]]:
    """Parameter → (source, name on the wire); the name is empty where fields come by their own names."""

    def wire_of(wires: tuple[Wire, ...]) -> str:
        return wires[0].name if wires and wires[0].field is None else ""

    return {each.name: (each.source.value, wire_of(each.wires)) for each in parameters}
