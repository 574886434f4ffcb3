"""The marks: what `@controller`, `@get`, `@microservice`, `@on` and `@catches` write down.

A mark has no effect but an attribute on what it marks: a `RouteMark` for each verb on a function, a `ControllerMark`
in the class. They are read when an application starts (`controllers.py`; microservices by the transports). The verbs
are instances of one class, `Verb`. What is wrong with the mark itself, such as a malformed path, is reported at once
(`errors.report`); what needs the signature waits for the start, when names defined later can be resolved.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, dataclass_transform, overload

from wintry.ioc import injectable

from .errors import DefinitionError, report

C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=Callable[..., Any])

UNSET: Final[Any] = inspect.Parameter.empty
ROUTES = "__wintry_routes__"
CATCHES = "__wintry_catches__"
CONTROLLER = "__wintry_controller__"
MICROSERVICE = "__wintry_microservice__"
CHANNELS = "__wintry_channels__"

_parameter = re.compile(r"\{([A-Za-z_]\w*)(:path)?\}")


@dataclass(frozen=True, slots=True)
class RouteMark:
    """One verb on one method, as it was written."""

    method: str
    path: str
    response_model: Any
    status_code: int | None
    responses: Mapping[int, Any]
    name: str | None
    summary: str | None
    description: str | None
    tags: Sequence[str]
    deprecated: bool
    include_in_schema: bool
    max_body_size: int | None


@dataclass(frozen=True, slots=True)
class ControllerMark:
    """What `@controller` was given."""

    prefix: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MicroserviceMark:
    """What `@microservice` was given: the name of a transporter of the settings, None = the default one."""

    transporter: str | None


@dataclass(frozen=True, slots=True)
class ChannelMark:
    """What `@on` was given."""

    channel: str
    broadcast: bool


class Verb:
    """The decorator of one HTTP method: `@get("/products/{sku}")`.

    `path` is joined to the controller's prefix; `{x}` is one segment, `{x:path}` the rest of the path. Several verbs
    may stand on one method.
    """

    def __init__(self, method: str) -> None:
        self.method = method

    def __call__(
        self,
        path: str = "",
        *,
        response_model: Any = UNSET,
        status_code: int | None = None,
        responses: Mapping[int, Any] | None = None,
        name: str | None = None,
        summary: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        deprecated: bool = False,
        include_in_schema: bool = True,
        max_body_size: int | None = None,
    ) -> Callable[[F], F]:
        """Declare a route.

        `response_model` is what leaves, fields that it lacks are left out; not given, it is the return annotation;
        None, whatever the method returns. `status_code` is the status where the answer states none. `responses`
        documents further answers of the method, status → model or description. `name` is the operation's id, used by
        `url_path_for` too; not given, it is `controller.method`. `max_body_size` in bytes replaces the application's
        limit.

        Raises `DefinitionError` for a malformed path or a status code that is none.
        """

        def mark(function: F) -> F:
            place = f"{function.__module__}.{function.__qualname__}"
            check_path(path, place)
            for status in (*(() if status_code is None else (status_code,)), *(responses or ())):
                if not 200 <= status <= 599:
                    report(DefinitionError(place, f"{status} is no status of an answer", "take one from 200 to 599"))
            written = RouteMark(
                self.method,
                path,
                response_model,
                status_code,
                dict(responses or {}),
                name,
                summary,
                description,
                tuple(tags),
                deprecated,
                include_in_schema,
                max_body_size,
            )
            setattr(function, ROUTES, (written, *getattr(function, ROUTES, ())))
            return function

        return mark

    def __repr__(self) -> str:
        return self.method.lower()


get: Final = Verb("GET")
post: Final = Verb("POST")
put: Final = Verb("PUT")
patch: Final = Verb("PATCH")
delete: Final = Verb("DELETE")
head: Final = Verb("HEAD")
options: Final = Verb("OPTIONS")


@overload
def controller(cls: C, /) -> C: ...
@overload
def controller(*, prefix: str = "", tags: Sequence[str] = ()) -> Callable[[C], C]: ...
@dataclass_transform(kw_only_default=True)
def controller(cls: C | None = None, /, *, prefix: str = "", tags: Sequence[str] = ()) -> C | Callable[[C], C]:
    """Mark a class whose methods answer requests. Its annotated fields are injected, a fresh instance serves each.

    `prefix` precedes the paths of its routes, `tags` group them in the documentation.

    Raises `DefinitionError` for a malformed prefix.
    """

    def mark(marked: C) -> C:
        check_path(prefix, f"{marked.__module__}.{marked.__qualname__}")
        setattr(marked, CONTROLLER, ControllerMark(prefix.rstrip("/"), tuple(tags)))
        return injectable(marked)

    return mark if cls is None else mark(cls)


@overload
def microservice(transporter: C, /) -> C: ...
@overload
def microservice(transporter: str | None = None, /) -> Callable[[C], C]: ...
@dataclass_transform(kw_only_default=True)
def microservice(transporter: C | str | None = None, /) -> C | Callable[[C], C]:
    """Mark a class whose methods hear the channels of a transporter, the settings' entry of that name or the default.

    Its annotated fields are injected; a fresh instance serves each message.
    """
    if isinstance(transporter, type):
        return microservice()(transporter)
    name = None if transporter is None else str(transporter)

    def mark(marked: C) -> C:
        setattr(marked, MICROSERVICE, MicroserviceMark(name))
        return injectable(marked)

    return mark


def on(channel: str, *, broadcast: bool = False) -> Callable[[F], F]:
    """Mark a method that hears `channel`: one replica of the application each message, `broadcast=True` every one.

    Raises `DefinitionError` for an empty channel.
    """

    def mark(function: F) -> F:
        if not channel:
            place = f"{function.__module__}.{function.__qualname__}"
            report(DefinitionError(place, "the channel has no name", 'give it one: @on("orders")'))
        setattr(function, CHANNELS, (ChannelMark(channel, broadcast), *getattr(function, CHANNELS, ())))
        return function

    return mark


def catches(exception: type[Exception], status_code: int) -> Callable[[M], M]:
    """Mark a controller or one of its methods: where it raises `exception`, `status_code` is answered as a problem.

    The nearest declaration decides: method, controller, application. Up to 499 the client reads `str(exception)`.

    Raises `DefinitionError` if `status_code` is not that of an error.
    """

    def mark(marked: M) -> M:
        if not 400 <= status_code <= 599:
            place = f"{marked.__module__}.{marked.__qualname__}"
            report(DefinitionError(place, f"{status_code} is not the status of an error", "take one from 400 to 599"))
        setattr(marked, CATCHES, {**getattr(marked, CATCHES, {}), exception: status_code})
        return marked

    return mark


def check_path(path: str, place: str) -> None:
    """Report what is wrong with the path of a route or a prefix."""
    found = malformed(path)
    if found is not None:
        report(DefinitionError(place, *found))


def malformed(path: str) -> tuple[str, str] | None:
    """What is wrong with a path, and what to do about it."""
    if path and not path.startswith("/"):
        return f'the path "{path}" does not begin with a slash', f'write "/{path}"'
    names: list[str] = []
    segments = path.split("/")
    for position, segment in enumerate(segments, 1):
        found = _parameter.fullmatch(segment)
        if found is None and ("{" in segment or "}" in segment):
            hint = "write {name} or, for the rest of the path, {name:path}; the annotation of the method says the type"
            return f'"{segment}" in the path "{path}" is no parameter', hint
        if found is not None:
            names.append(found[1])
            if found[2] and position < len(segments):
                return f'"{segment}" stands before the end of "{path}"', "only the last segment takes the rest"
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        return f'the path "{path}" has two parameters named {double}', "name each once"
    return None
