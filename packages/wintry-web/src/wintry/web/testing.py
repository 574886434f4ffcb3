"""Testing an application without a server: its lifespan runs, requests go straight to it.

async with client(app, {Publisher: FakePublisher()}) as http:
    answer = await http.post("/allocate", json={...})
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .app import App

if TYPE_CHECKING:
    import httpx2


@asynccontextmanager
async def client(
    app: App, overrides: Mapping[Any, object] | None = None, *, base_url: str = "http://localhost"
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the running application, with these instances in place of what the container would provide.

    Raises:
        StartError: the application cannot start.
        ImportError: httpx2 is not installed.
    """
    import httpx2

    async with app.running(), app.container.override(dict(overrides or {})):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=base_url) as http:
            yield http
