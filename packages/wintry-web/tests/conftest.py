"""What the suites of this package share: an event loop, and a way to serve controllers in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx2
import pytest
from starlette.applications import Starlette

from wintry.ioc import Container
from wintry.web import Http, HttpOptions, Problems, compile_routes


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Answered:
    """What an ASGI application sent, message by message."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True)
class Served:
    """Controllers that answer: `client` sends requests, `send` raw ones."""

    client: httpx2.AsyncClient
    app: Starlette
    http: Http
    container: Container

    async def send(
        self,
        method: str,
        path: bytes,
        *,
        body: bytes | list[bytes] = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        query: bytes = b"",
        raw: bool = True,
        root_path: str = "",
    ) -> Answered:
        """Send what no client would: bytes as they are."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not chunks:
                return {"type": "http.disconnect"}
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "query_string": query,
            "headers": headers or [],
            "root_path": root_path,
            "scheme": "http",
            "server": ("test", 80),
            "state": {},
            **({"raw_path": path} if raw else {}),
        }
        await self.app(scope, receive, send)
        start = sent[0]
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answered(start["status"], list(start["headers"]), content)


Serving = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serving() -> Serving:
    """`async with serving(Controller, …, services=[Bus], …) as served:`; services are classes or (type, factory), scoped."""

    @asynccontextmanager
    async def serve(
        *controllers: type[Any],
        services: list[Any] | None = None,
        errors: Mapping[type[Exception], int] | None = None,
        options: HttpOptions | None = None,
    ) -> AsyncIterator[Served]:
        container, problems = Container(), Problems(errors)
        for each in services or []:
            key, factory = each if isinstance(each, tuple) else (each, each)
            container.register(key, factory, lifetime="scoped")
        http = compile_routes(container, controllers, problems, options)
        assert not http.faults, "\n".join(map(str, http.faults))
        app = Starlette(routes=[http.routes], exception_handlers=problems.handlers)
        app.router.redirect_slashes = False
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with container, httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Served(client, app, http, container)

    return serve


@pytest.fixture
def faults() -> Callable[..., list[str]]:
    """What compiling controllers reports, as text."""

    def found(*controllers: type[Any], services: list[Any] | None = None) -> list[str]:
        container = Container()
        for each in services or []:
            container.register(each, lifetime="scoped")
        return [str(each) for each in compile_routes(container, controllers, Problems()).faults]

    return found
