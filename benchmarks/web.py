"""Requests through controllers, in process, against endpoints written by hand on Starlette and pydantic.

Everybody gives a request an id and logs it through a thread; the peers have the limit's middleware for it. A round is
short, so that what waits for that thread is written between two turns, not in the neighbour's.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.types import ASGIApp

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits import web as limit
from wintry.ioc import Container, provider
from wintry.web import App, DataResponse, Problems, WinterSettings, compile_routes, controller, get, post

Answered = tuple[int, bytes]
BOMB = json.dumps({"xs": ["x"] * 100_000}).encode()
HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"bench"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
]


# ---- ours


@provider
class Ledger:
    """What the endpoints stand on."""

    def allocate(self, command: limit.Allocate) -> str:
        return f"batch of {command.sku}"

    def rows(self, limit_: int, offset: int) -> list[limit.Row]:
        return limit.ROWS[offset : offset + limit_]


@provider(lifetime="scoped")
class Service:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger


@controller
class OrdersController:
    service: Service
    ledger: Ledger

    @get("/ping")
    async def ping(self) -> DataResponse[str]:
        return DataResponse(data="pong")

    @post("/allocate")
    async def allocate(self, cmd: limit.Allocate) -> DataResponse[str]:
        return DataResponse(data=self.ledger.allocate(cmd), status_code=202)

    @get("/orders/{orderid}/rows")
    async def rows(
        self, orderid: str, limit: Annotated[int, Field(ge=1)] = 50, offset: int = 0
    ) -> DataResponse[list[limit.Row]]:
        return DataResponse(data=self.ledger.rows(limit, offset))

    @post("/numbers")
    async def numbers(self, numbers: limit.Numbers) -> DataResponse[str]:
        return DataResponse(data=str(sum(numbers.xs)))


def filler(number: int) -> type[Any]:
    """A controller of ten routes in front of the measured ones."""

    def method(at: int) -> Callable[..., Any]:
        async def item(self: object, item: str) -> DataResponse[str]:
            return DataResponse(data="pong")

        return get(f"/filler{at}/{{item}}", name=f"filler{at}")(item)

    members = {f"item{at}": method(at) for at in range(number * 10, number * 10 + 10)}
    return controller(type(f"Filler{number}", (), {"__module__": __name__, **members}))


@asynccontextmanager
async def wintry() -> AsyncIterator[ASGIApp]:
    """The application with all its defaults: request id, access log, problems, limits, injection."""
    with silenced("wintry"):
        async with App(__name__, settings=WinterSettings(name="bench"), components=()).running() as app:
            yield app


@contextmanager
def silenced(name: str) -> Iterator[None]:
    """Make the log lines and let them go nowhere."""
    logger = logging.getLogger(name)
    before = (logger.level, logger.propagate, list(logger.handlers))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        logger.level, logger.propagate, logger.handlers = before


@asynccontextmanager
async def wintry_routes(extra: int) -> AsyncIterator[ASGIApp]:
    """The routes alone, behind `extra` others."""
    container, problems = Container(), Problems()
    container.register(Ledger, lifetime="singleton")
    container.register(Service, lifetime="scoped")
    fillers = [filler(number) for number in range(extra // 10)]
    http = compile_routes(container, [*fillers, OrdersController], problems)
    async with container:
        yield Starlette(routes=[http.routes], exception_handlers=problems.handlers)


# ---- the limit and the peers


@asynccontextmanager
async def by_hand() -> AsyncIterator[ASGIApp]:
    with silenced("limit"):
        async with limit.AccessLog(limit.application()).running() as app:
            yield app


@asynccontextmanager
async def starlette_routes(extra: int) -> AsyncIterator[ASGIApp]:
    yield limit.application(extra)


@asynccontextmanager
async def fastapi() -> AsyncIterator[ASGIApp]:
    framework: Any = importlib.import_module("fastapi")
    app: Any = framework.FastAPI()

    def service() -> Service:
        return Service(ledger)

    ledger = Ledger()
    depends = framework.Depends(service)

    async def ping(service: Any = depends) -> limit.Text:
        return limit.Text(data="pong")

    async def allocate(cmd: limit.Allocate, service: Any = depends) -> limit.Text:
        return limit.Text(data=service.ledger.allocate(cmd), status_code=202)

    async def rows(
        orderid: str, limit: Annotated[int, framework.Query(ge=1)] = 50, offset: int = 0, service: Any = depends
    ) -> Rows:
        return Rows(data=service.ledger.rows(limit, offset))

    async def numbers(numbers: limit.Numbers) -> limit.Text:
        return limit.Text(data=str(sum(numbers.xs)))

    # said again, as the postponed annotations name what only this function knows
    allocate.__annotations__ = {"cmd": limit.Allocate, "return": limit.Text, "service": Any}
    rows.__annotations__ = {
        "orderid": str, "limit": Annotated[int, framework.Query(ge=1)], "offset": int, "service": Any,
    }  # fmt: skip
    numbers.__annotations__ = {"numbers": limit.Numbers}
    ping.__annotations__ = {"return": limit.Text, "service": Any}
    app.get("/ping", response_model=limit.Text)(ping)
    app.post("/allocate", response_model=limit.Text, status_code=202)(allocate)
    app.get("/orders/{orderid}/rows", response_model=limit.Rows)(rows)
    app.post("/numbers", response_model=limit.Text)(numbers)
    with silenced("limit"):
        async with limit.AccessLog(app).running() as logged:
            yield logged


Rows = limit.Rows


@asynccontextmanager
async def litestar() -> AsyncIterator[ASGIApp]:
    framework: Any = importlib.import_module("litestar")
    di: Any = importlib.import_module("litestar.di")
    ledger = Ledger()

    async def provide_service() -> Service:
        return Service(ledger)

    class Orders(framework.Controller):  # type: ignore[misc]  # a peer that the type checker may not have
        dependencies = {"service": di.Provide(provide_service)}  # noqa: RUF012 - as its documentation writes it

        @framework.get("/ping")  # type: ignore[untyped-decorator]
        async def ping(self, service: Service) -> limit.Text:
            return limit.Text(data="pong")

        @framework.post("/allocate", status_code=202)  # type: ignore[untyped-decorator]
        async def allocate(self, data: limit.Allocate, service: Service) -> limit.Text:
            return limit.Text(data=service.ledger.allocate(data), status_code=202)

        @framework.get("/orders/{orderid:str}/rows")  # type: ignore[untyped-decorator]
        async def rows(self, orderid: str, service: Service, limit: int = 50, offset: int = 0) -> Rows:
            return Rows(data=service.ledger.rows(limit, offset))

        @framework.post("/numbers", status_code=200)  # type: ignore[untyped-decorator]
        async def numbers(self, data: limit.Numbers) -> limit.Text:
            return limit.Text(data=str(sum(data.xs)))

    with silenced("limit"):
        async with limit.AccessLog(framework.Litestar([Orders], openapi_config=None)).running() as logged:
            yield logged


# ---- one request


async def request(app: ASGIApp, method: str, path: str, query: bytes = b"", body: bytes = b"") -> Answered:
    """Send one request through an ASGI application, as a server does."""
    headers = list(HEADERS)
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status, chunks = 0, []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(chunks)


def operations(opened: Callable[[], Any], *arguments: Any) -> Callable[[], Any]:
    """A contender: an application, and one request to it."""

    @asynccontextmanager
    async def contender() -> AsyncIterator[Operation]:
        async with opened() as app:
            operation: Callable[[], Awaitable[Answered]] = partial(request, app, *arguments)
            yield operation

    return contender


def contend(case: Case, *arguments: Any, peers: bool = True) -> Case:
    """Set the four contenders of a request."""
    case.ours(operations(wintry, *arguments))
    case.limit(operations(by_hand, *arguments))
    for name, opened in (("FastAPI", fastapi), ("Litestar", litestar)) if peers else ():
        if importlib.util.find_spec(name.lower()) is None:
            case.left_out(name, "not installed")
        else:
            case.peer(name)(operations(opened, *arguments))
    return case


def same(answered: Answered) -> object:
    """The status and the JSON, whatever its spacing."""
    return answered[0], json.loads(answered[1])


SHORT: Any = {"loops": 300, "rounds": 45}
REQUEST_GOALS = [Goal("limit", at_most=1.0), Goal("FastAPI", at_most=0.30), Goal("Litestar", at_most=0.6)]
COMMAND = json.dumps({"orderid": "order-7", "sku": "SKU-1", "qty": 3}).encode()

ping = contend(Case(name="ping", goals=REQUEST_GOALS, compare=same, **SHORT), "GET", "/ping")
post_model = contend(
    Case(name="post a model", goals=REQUEST_GOALS, compare=same, **SHORT), "POST", "/allocate", b"", COMMAND
)
get_query = contend(
    Case(name="path and query", goals=REQUEST_GOALS, compare=same, **SHORT),
    "GET",
    "/orders/order-7/rows",
    b"limit=2&offset=1",
)
get_list = contend(
    Case(
        name="list of 50",
        goals=[Goal("limit", at_most=1.0), Goal("FastAPI", at_most=0.60), Goal("Litestar", at_most=0.6)],
        compare=same,
        **SHORT,
    ),
    "GET",
    "/orders/order-7/rows",
)
bomb = contend(
    Case(
        name="validation bomb of 500 KB",
        goals=[Goal("limit", at_most=1.1), Goal("FastAPI", at_most=0.05)],
        compare=lambda answered: answered[0] in (400, 422),
        rounds=5,
    ),
    "POST",
    "/numbers",
    b"",
    BOMB,
)

routes = Case(name="400 routes, to 10", goals=[Goal("limit", at_most=1.1)], compare=same)
routes.ours(operations(partial(wintry_routes, 400), "GET", "/orders/order-7/rows", b"limit=1"))
routes.limit(operations(partial(wintry_routes, 10), "GET", "/orders/order-7/rows", b"limit=1"))
routes.peer("Starlette, 400 routes")(
    operations(partial(starlette_routes, 400), "GET", "/orders/order-7/rows", b"limit=1")
)
