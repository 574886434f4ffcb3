"""The way of a request: scope → bind → controller → call → respond. The one hot path.

An `Endpoint` is an ASGI application for one route; all that can be known before the request is compiled into it. The
arguments are bound before the container's scope opens, so a request that does not validate costs no injection. The
scope is closed before the first byte of a buffered answer leaves: what fails while it closes is answered as the error
that it is. A stream keeps its scope open to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wintry.ioc import Container, Plan
from wintry.ioc import Scope as ServiceScope

from .binding import BODY, FORM, Binder
from .limits import Limits, check_headers, guarded
from .problems import Answer, Problems, encoded
from .respond import BODILESS, Responder
from .streams import EventStream, Streams

STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


# The request that is being answered, or what it is made of until somebody asks for it.
_exchange: ContextVar[Request | tuple[Scope, Receive, int]] = ContextVar("wintry.web.exchange")


def current_request() -> Request:
    """The request that is being answered: the container's factory for `Request`, which few controllers need.

    Raises `RuntimeError` outside of a request.
    """
    found = _exchange.get(None)
    if found is None:
        raise RuntimeError("a Request was asked for, and none is being answered here")
    if isinstance(found, Request):
        return found
    scope, receive, limit = found
    request = Request(scope, guarded(receive, limit))
    if BODY in scope:  # what was bound is read already
        request._body = scope[BODY]
    return request


class Kind(Enum):
    """How a method is called: awaited, in a thread, or iterated over as a stream of events."""

    COROUTINE = "coroutine"
    FUNCTION = "function"
    GENERATOR = "generator"


def awaitable(method: Callable[..., Any], kind: Kind) -> Callable[..., Awaitable[Any]]:
    """The method as one that is awaited; a thread runs in a copy of the request's context."""
    if kind is Kind.COROUTINE:
        return method
    if kind is Kind.FUNCTION:
        return partial(run_in_threadpool, method)

    async def stream(controller: Any, **arguments: Any) -> EventStream:
        return EventStream(method(controller, **arguments))

    return stream


class Endpoint:
    """One route of a controller. `services` are parameters of the method that the container fills, `catches` what method and
    controller say of exceptions, the nearer first."""

    __slots__ = (
        "_binder", "_catches", "_container", "_controller", "_limits", "_max_body_size", "_method",
        "_problems", "_request_name", "_respond", "_services", "_streams",
    )  # fmt: skip

    def __init__(
        self,
        method: Callable[..., Any],
        controller: Plan[Any],
        container: Container,
        *,
        binder: Binder,
        responder: Responder,
        services: Mapping[str, Plan[Any]],
        request_name: str | None,
        kind: Kind,
        catches: Sequence[Mapping[type[Exception], int]],
        problems: Problems,
        streams: Streams,
        limits: Limits,
        max_body_size: int,
    ) -> None:
        self._method = awaitable(method, kind)
        self._controller = controller
        self._container = container
        self._binder = binder
        self._respond = responder.respond
        self._services = tuple(services.items())
        self._request_name = request_name
        self._catches = catches
        self._problems = problems
        self._streams = streams
        self._limits = limits
        self._max_body_size = max_body_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        binder = self._binder
        token = None
        streaming = False
        try:
            check_headers(scope, self._limits)
            arguments = {} if binder.strings is None else binder.strings(scope)
            request = None
            if self._request_name is not None or binder.form:
                request = Request(scope, guarded(receive, self._max_body_size))
                if self._request_name is not None:
                    arguments[self._request_name] = request
            if binder.body is not None:
                arguments.update(await binder.body(scope, receive, request))
            token = _exchange.set(request or (scope, receive, self._max_body_size))
            async with self._container.scope() as services:
                plan = self._controller
                controller = await plan.make(services) if plan.is_async else plan.make(services)
                if self._services:
                    await self._inject(services, arguments)
                result = await self._method(controller, **arguments)
                if isinstance(result, EventStream) or (isinstance(result, Response) and not hasattr(result, "body")):
                    streaming = True
                    return await self._stream(result, scope, receive, send)
                answer = result if isinstance(result, Response) else self._respond(result)
        except ClientDisconnect:
            return
        except Exception as error:
            if streaming:
                raise
            answer = self._problems.answer(error, scope, self._catches)
        finally:
            if token is not None:
                _exchange.reset(token)
            if binder.form and FORM in scope:
                await scope[FORM].close()
        if isinstance(answer, Response):
            answer.headers.setdefault("x-content-type-options", "nosniff")
            await answer(scope, receive, send)
        else:
            await sent(answer, scope, send)

    async def _inject(self, services: ServiceScope, arguments: dict[str, Any]) -> None:
        """Add the parameters that the container fills."""
        for name, each in self._services:
            arguments[name] = await each.make(services) if each.is_async else each.make(services)

    async def _stream(self, result: Response | EventStream, scope: Scope, receive: Receive, send: Send) -> None:
        """Send an answer that goes on while its scope is open."""
        if isinstance(result, Response):
            result.headers.setdefault("x-content-type-options", "nosniff")
            await result(scope, receive, send)
            return
        headers = [*STREAM_HEADERS, *encoded(result.headers)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await result.close()
            await send({"type": "http.response.body", "body": b""})
        else:
            await result.run(receive, send, self._streams)


async def sent(answer: Answer, scope: Scope, send: Send) -> None:
    """Send a buffered answer; to HEAD only what it would be."""
    status, headers, body = answer
    if status not in BODILESS:
        headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
