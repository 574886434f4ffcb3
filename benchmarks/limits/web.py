"""The limit of the web: Starlette and pydantic by hand, with the defaults that Wintry has.

Endpoints as a careful author writes them: the objects of a request are made by hand, the body is counted and its type
checked before it is read as a model, answers are models dumped to JSON with `nosniff`, and every error is a problem
document with its list capped. Requests have an id and are logged by a thread, as a service in production does.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 1 << 20
NOSNIFF = {"x-content-type-options": "nosniff"}
logger = logging.getLogger("limit")


class Allocate(BaseModel):
    orderid: str
    sku: str
    qty: int = Field(gt=0)


class Row(BaseModel):
    orderid: str
    sku: str
    batchref: str


class Numbers(BaseModel):
    xs: list[int]


class Envelope(BaseModel):
    data: Any = None
    message: str = ""
    status_code: int = 200


class Text(Envelope):
    data: str | None = None


class Rows(Envelope):
    data: list[Row] | None = None


class Paging(BaseModel):
    orderid: str
    limit: int = Field(50, ge=1)
    offset: int = 0


ROWS = [Row(orderid="order-7", sku=f"SKU-{n}", batchref=f"batch-{n}") for n in range(50)]


class Ledger:
    """What the endpoints stand on."""

    def allocate(self, command: Allocate) -> str:
        return f"batch of {command.sku}"

    def rows(self, limit: int, offset: int) -> list[Row]:
        return ROWS[offset : offset + limit]


class Service:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger


class Controller:
    def __init__(self, service: Service, ledger: Ledger) -> None:
        self.service = service
        self.ledger = ledger


def problem(status: int, title: str, path: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": title, "instance": path, **members}
    body |= {"data": None, "message": title, "status_code": status}
    return Response(json.dumps(body), status, {**NOSNIFF, **(headers or {})}, media_type="application/problem+json")


def invalid(error: ValidationError, path: str) -> Response:
    text = error.json(include_url=False, include_context=False, include_input=False)
    found = from_json(text[:32768], allow_partial=True)[:20]
    errors = [
        {"pointer": "#/" + "/".join(map(str, each["loc"])), "detail": each["msg"], "code": each["type"]}
        for each in found
    ]
    return problem(422, "invalid", path, errors_total=error.error_count(), errors=errors)


def check(request: Request) -> None:
    headers = request.scope["headers"]
    if len(headers) > 100 or sum(len(name) + len(value) for name, value in headers) > 32768:
        raise HTTPException(431)


async def read(request: Request) -> bytes:
    announced = request.headers.get("content-length")
    if announced is not None and int(announced) > LIMIT:
        raise HTTPException(413)
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            raise HTTPException(413)
    return body


def answer(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, NOSNIFF, media_type="application/json")


ledger = Ledger()


def controller() -> Controller:
    return Controller(Service(ledger), ledger)


async def ping(request: Request) -> Response:
    check(request)
    controller()
    return answer(Text(data="pong"))


async def allocate(request: Request) -> Response:
    check(request)
    content = await read(request)
    try:
        command = Allocate.model_validate_json(content)
    except ValidationError as error:
        return invalid(error, request.url.path)
    made = controller()
    return answer(Text(data=made.ledger.allocate(command), status_code=202), 202)


async def rows(request: Request) -> Response:
    check(request)
    try:
        asked = Paging.model_validate({**request.query_params, **request.path_params})
    except ValidationError as error:
        return invalid(error, request.url.path)
    made = controller()
    return answer(Rows(data=made.ledger.rows(asked.limit, asked.offset)))


numbers_adapter = TypeAdapter(Numbers)


async def numbers(request: Request) -> Response:
    check(request)
    try:
        total = sum(numbers_adapter.validate_json(await read(request)).xs)
    except ValidationError as error:
        return invalid(error, request.url.path)
    return answer(Text(data=str(total)))


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, request.url.path, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    identifier = uuid4().hex
    logger.error("problem %s", identifier, exc_info=error)
    return problem(500, "Internal Server Error", request.url.path, id=identifier)


class AccessLog:
    """An id for each request, and one line for it that a thread writes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.logger = logging.getLogger("limit.access")

    def write(self) -> None:
        while (line := self.lines.get()) is not None:
            self.logger.info(json.dumps(line))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ASGIApp]:
        thread = threading.Thread(target=self.write, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.lines.put(None)
            thread.join()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope["headers"]).get(b"x-request-id")
        identifier = sent.decode() if sent is not None and len(sent) <= 64 and sent.isalnum() else os.urandom(8).hex()
        scope.setdefault("state", {})["request_id"] = identifier
        status = 500
        began = time.perf_counter()

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", identifier.encode()))
            await send(message)

        try:
            await self.app(scope, receive, answered)
        finally:
            self.lines.put(
                {
                    "time": time.time(),
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round((time.perf_counter() - began) * 1000, 2),
                    "client": scope["client"][0],
                    "request_id": identifier,
                }
            )


def application(extra: int = 0) -> Starlette:
    """The endpoints behind `extra` other routes."""
    routes = [Route(f"/filler{n}/{{item}}", ping) for n in range(extra)]
    return Starlette(
        routes=[
            *routes,
            Route("/ping", ping),
            Route("/allocate", allocate, methods=["POST"]),
            Route("/orders/{orderid}/rows", rows),
            Route("/numbers", numbers, methods=["POST"]),
        ],
        exception_handlers={HTTPException: http_error, Exception: failed},
    )
