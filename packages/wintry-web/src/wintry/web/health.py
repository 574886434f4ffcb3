"""`/health/live` says that the process turns; `/health/ready` says whether it should be sent work.

Ready means: started, not draining, and no component down. A component that is degraded is listed, and leaves the
application ready: a broker that is away does not stop HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Phase = Literal["starting", "running", "draining", "closing"]


def health_routes(
    phase: Callable[[], Phase], check: Callable[[], Awaitable[Mapping[str, Mapping[str, str]]]]
) -> list[Route]:
    """The two routes of an application in `phase()`, whose parts `check()` asks."""

    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> JSONResponse:
        if (now := phase()) != "running":
            return JSONResponse({"status": now, "checks": {}}, status_code=503)
        checks = await check()
        status = worst(checks)
        return JSONResponse({"status": status, "checks": checks}, status_code=503 if status == "down" else 200)

    return [
        Route("/health/live", live, methods=["GET"], include_in_schema=False),
        Route("/health/ready", ready, methods=["GET"], include_in_schema=False),
    ]


def worst(checks: Mapping[str, Mapping[str, str]]) -> str:
    found = {check["status"] for check in checks.values()}
    return next((status for status in ("down", "degraded") if status in found), "ok")
