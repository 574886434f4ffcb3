"""From controller classes to routes: what happens once, when an application starts.

`compile_routes` reads the marks of each class, compiles binder, responder and endpoint of every method, adds the
documentation, and hands back one table of routes. Whatever cannot work is a fault; all of them are gathered, so that
the application can report them with those of the other libraries. It must come after everything is registered with the
container, as a parameter is injected if the container provides its type, and before the container is entered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final, get_args, get_origin

from starlette.requests import Request
from starlette.responses import Response

from wintry.ioc import Container

from .binding import compile_binder, described_body, media_types
from .docs import pages
from .endpoint import Endpoint, Kind, current_request
from .errors import DefinitionError, HTTPError, collecting, report
from .limits import Limits
from .marks import CATCHES, CONTROLLER, ROUTES, UNSET, ControllerMark, RouteMark, check_path, malformed
from .openapi import Described, Document, Operation
from .params import Parameter, Source, described_as, read_parameters, resolved_hints
from .problems import Problems
from .respond import BODILESS, compile_responder
from .routing import Route, Routes
from .streams import EventStream, ServerSentEvent, Streams

_with_body: Final = frozenset(["POST", "PUT", "PATCH", "DELETE"])
_iterators: Final = (AsyncIterator, AsyncGenerator, AsyncIterable)
_ending: Final = re.compile(r"(Controllers?|Resource|View)$")
_humps: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """What an application decides about its routes.

    `prefix` precedes every path. `docs=False` leaves `/docs` and `/openapi.json` away. `title`, `version` and
    `description` head the documentation.
    """

    title: str = "Application"
    version: str = "0"
    description: str | None = None
    prefix: str = ""
    docs: bool = True
    docs_path: str = "/docs"
    openapi_path: str = "/openapi.json"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Http:
    """The compiled controllers: `routes` for the application, `streams` to be closed when it ends, `faults` to report."""

    routes: Routes
    document: Document
    streams: Streams
    faults: tuple[DefinitionError, ...]


@dataclass(frozen=True, slots=True)
class _Controller:
    """One class and what its routes share."""

    cls: type[Any]
    mark: ControllerMark
    container: Container
    problems: Problems
    streams: Streams
    options: HttpOptions
    provides: Callable[[Any], bool]

    @property
    def stem(self) -> str:
        """`ProductsController` → `products`: the first part of the names of its operations."""
        bare = _ending.sub("", self.cls.__name__) or self.cls.__name__
        return _humps.sub("_", bare).lower()

    def catches(self, function: Callable[..., Any]) -> tuple[Mapping[type[Exception], int], ...]:
        """What a method and its controller catch, the method's own first."""
        levels = (getattr(function, CATCHES, None), getattr(self.cls, CATCHES, None))
        return tuple(each for each in levels if each)


def is_controller(value: object) -> bool:
    """Whether `@controller` stands on this very class, not on a base of it."""
    return isinstance(value, type) and CONTROLLER in vars(value)


def compile_routes(
    container: Container, controllers: Iterable[type[Any]], problems: Problems, options: HttpOptions | None = None
) -> Http:
    """Compile the controllers. Registers them and `Request` with the container, which is not entered yet."""
    options = options or HttpOptions()
    routes, streams = Routes(), Streams()
    operations: list[Operation] = []
    container.register(Request, current_request, lifetime="scoped", origin="library")
    provides = _provides(container)
    with collecting() as faults:
        for cls in controllers:
            container.register(cls, lifetime="scoped")
            shared = _Controller(cls, vars(cls)[CONTROLLER], container, problems, streams, options, provides)
            for name, function, mark, several in _marked(cls):
                operation = _add_route(shared, routes, name, function, mark, several)
                if operation is not None:
                    operations.append(operation)
        document = Document(operations, options.title, options.version, options.description)
        if options.docs:
            for path, app in pages(document, options.title, options.docs_path, options.openapi_path):
                if not routes.has(path):
                    routes.add(Route("GET", path, app, f"wintry:{path}", "wintry.web.docs"))
    return Http(routes, document, streams, tuple(faults))


def _marked(cls: type[Any]) -> Iterator[tuple[str, Callable[..., Any], RouteMark, bool]]:
    """The methods with verbs in order of definition, bases first: name, function, mark, whether it has several."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        function = inspect.getattr_static(cls, name)
        marks: tuple[RouteMark, ...] = getattr(function, ROUTES, ())
        for mark in marks:
            yield name, function, mark, len(marks) > 1


def _add_route(
    shared: _Controller, routes: Routes, name: str, function: Callable[..., Any], mark: RouteMark, several: bool
) -> Operation | None:
    """Compile one method for one verb and add its route. Returns its description, None if it has none."""
    place = f"{shared.cls.__module__}.{shared.cls.__qualname__}.{name}"
    path = f"{shared.options.prefix}{shared.mark.prefix}{mark.path}" or "/"
    hints = resolved_hints(function, place)
    if hints is None or malformed(shared.mark.prefix) or malformed(mark.path):
        return None  # the last two were reported where they stand
    check_path(path, place)
    parameters = read_parameters(function, hints, place, path, mark.method in _with_body, shared.provides)
    kind, streams_events = _kind(function, hints.get("return"), place)
    model = None if streams_events else _model(mark, hints)
    endpoint = _endpoint(shared, function, mark, place, parameters, kind, model)
    identifier = mark.name or f"{shared.stem}.{name}" + (f"_{mark.method.lower()}" if several else "")
    routes.add(Route(mark.method, path, endpoint, identifier, place))
    if streams_events or not mark.include_in_schema:
        return None
    return _operation(shared, function, mark, path, identifier, parameters, model)


def _endpoint(
    shared: _Controller,
    function: Callable[..., Any],
    mark: RouteMark,
    place: str,
    parameters: Sequence[Parameter],
    kind: Kind,
    model: Any,
) -> Endpoint:
    """Compile what answers the requests of a route."""
    container, limits = shared.container, shared.options.limits
    limit = limits.body if mark.max_body_size is None else mark.max_body_size
    injected = [each for each in parameters if each.source is Source.SERVICE]
    return Endpoint(
        function,
        container.compile(shared.cls),
        container,
        binder=compile_binder(parameters, place, limits, limit),
        responder=compile_responder(model, mark.status_code, place),
        services={each.name: container.compile(each.annotation) for each in injected},
        request_name=next((each.name for each in parameters if each.source is Source.REQUEST), None),
        kind=kind,
        catches=shared.catches(function),
        problems=shared.problems,
        streams=shared.streams,
        limits=limits,
        max_body_size=limit,
    )


def _provides(container: Container) -> Callable[[Any], bool]:
    """Whether a container fills a type."""

    def provides(key: Any) -> bool:
        try:
            return container.provides(key)
        except TypeError:  # an annotation whose metadata has no hash is the key of nothing
            return False

    return provides


def _kind(function: Callable[..., Any], returned: Any, place: str) -> tuple[Kind, bool]:
    """How a method is called, and whether it answers with events."""
    if inspect.isasyncgenfunction(function):
        element = get_args(returned)[0] if get_origin(returned) in _iterators and get_args(returned) else None
        if element is not ServerSentEvent:
            report(
                DefinitionError(
                    place,
                    "is an async generator, and does not say of what",
                    "annotate it -> AsyncIterator[ServerSentEvent]",
                )
            )
        return Kind.GENERATOR, True
    if inspect.isgeneratorfunction(function):
        report(DefinitionError(place, "is a generator", "write async def, -> AsyncIterator[ServerSentEvent]"))
    kind = Kind.COROUTINE if inspect.iscoroutinefunction(function) else Kind.FUNCTION
    return kind, returned is EventStream


def _model(mark: RouteMark, hints: Mapping[str, Any]) -> Any:
    """The response model: stated, or the return annotation unless that is a response of Starlette's."""
    if mark.response_model is not UNSET:
        return mark.response_model
    returned = hints.get("return")
    if isinstance(returned, type) and issubclass(returned, Response):
        return None
    return returned


def _raised(function: Callable[..., Any]) -> Iterator[int]:
    """The statuses of the errors that a method's own code names."""
    code, names = inspect.unwrap(function).__code__, inspect.unwrap(function).__globals__
    for name in code.co_names:
        found = names.get(name)
        if isinstance(found, type) and issubclass(found, HTTPError):
            yield found.status


def _operation(
    shared: _Controller,
    function: Callable[..., Any],
    mark: RouteMark,
    path: str,
    identifier: str,
    parameters: Sequence[Parameter],
    model: Any,
) -> Operation:
    """The description of a route for the documentation."""
    types = media_types(parameters)
    in_body = [each for each in parameters if each.source in (Source.BODY, Source.FORM, Source.FILE)]
    status = mark.status_code or (204 if model is NoneType else 200)
    levels = (*shared.catches(function), shared.problems.statuses)
    mapped = [status for level in levels for status in level.values()]
    problems = {431, 500, *_raised(function), *mapped}
    if types:
        problems |= {400, 413, 415, 422}
    if any(each.source in (Source.PATH, Source.QUERY, Source.HEADER, Source.COOKIE) for each in parameters):
        problems.add(422)
    text = inspect.getdoc(function) or ""
    summary, _, description = text.partition("\n")
    success = None if status in BODILESS else Any if model in (None, NoneType) else model
    return Operation(
        method=mark.method,
        path=path,
        name=identifier,
        summary=mark.summary or summary.rstrip(".") or function.__name__.replace("_", " ").capitalize(),
        description=mark.description or description.strip() or None,
        tags=(*shared.mark.tags, *mark.tags),
        deprecated=mark.deprecated,
        parameters=[each for parameter in parameters for each in _described(parameter)],
        body=described_body(parameters) if types else None,
        body_required=any(each.required for each in in_body),
        media_types=types,
        responses={**({} if _only_other(mark) else {status: success}), **mark.responses},
        problems=sorted(problems),
    )


def _only_other(mark: RouteMark) -> bool:
    """Whether `responses=` states the successful answers by itself."""
    return mark.status_code is None and mark.response_model is UNSET and any(each < 400 for each in mark.responses)


def _described(parameter: Parameter) -> Iterator[Described]:
    """A parameter in path, query, header or cookie for the documentation; a model is one for each field."""
    if parameter.source not in (Source.PATH, Source.QUERY, Source.HEADER, Source.COOKIE):
        return
    for wire in parameter.wires:
        annotation = wire.annotation if wire.field is not None else described_as(parameter)
        yield Described(wire.name, parameter.source.value, annotation, wire.required, parameter.marker.description)
