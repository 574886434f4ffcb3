"""`/openapi.json` and `/docs`: Swagger UI from files of this machine.

The files come from the package `offapi` (extra `docs`) and are read by path when they are first asked for: importing it
would hold all its documentation tools in memory. The page loads nothing from anywhere else, and its policy forbids it
to. Everything here is plain ASGI, so that it stands in the same table of routes as the controllers do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .openapi import JSON, Document

_files: Final = {
    "swagger-ui.css": ("swagger_style.css", "text/css; charset=utf-8"),
    "swagger-ui.js": ("swagger_bundle.js", "text/javascript; charset=utf-8"),
}
_policy: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_page: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{base}/swagger-ui.js"></script>
<script src="{base}/start.js"></script>
</body>
</html>
"""
_start: Final = """SwaggerUIBundle({{
  url: {url},
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
}});
"""
_missing: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,"></head>
<body>
<h1>{title}</h1>
<p>This page needs the extra <code>docs</code>: install <code>wintry-web[docs]</code>.</p>
<p>The description of the application itself is at <a href="{url}">{url}</a>.</p>
</body>
</html>
"""


class Static:
    """One document that does not change while the application runs, with an entity tag."""

    def __init__(
        self, media_type: str, content: bytes | Path | Document, headers: dict[str, str] | None = None
    ) -> None:
        self._media_type = media_type
        self._content = content
        self._etag: str | None = None
        self._headers = {"cache-control": "no-cache", "x-content-type-options": "nosniff", **(headers or {})}

    def _load(self) -> tuple[bytes, str]:
        if isinstance(self._content, Document):
            return self._content.content, self._content.etag
        if isinstance(self._content, Path):
            self._content = self._content.read_bytes()
        if self._etag is None:
            self._etag = f'"{hashlib.sha256(self._content).hexdigest()[:32]}"'
        return self._content, self._etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the document, or 304 to a client that has it."""
        content, etag = self._load()
        headers = {**self._headers, "etag": etag}
        known = Request(scope).headers.get("if-none-match", "")
        if known.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            await Response(status_code=304, headers=headers)(scope, receive, send)
        else:
            await Response(content, media_type=self._media_type, headers=headers)(scope, receive, send)


class Page:
    """The page of Swagger UI. Its links hold the path below which the application is mounted."""

    def __init__(self, title: str, docs_path: str, openapi_path: str, available: bool) -> None:
        self._title = title
        self._docs_path = docs_path
        self._openapi_path = openapi_path
        self._available = available

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or with how to get it."""
        root = scope.get("root_path", "").rstrip("/")
        base, url = escape(root + self._docs_path), escape(root + self._openapi_path)
        text = (_page if self._available else _missing).format(title=escape(self._title), base=base, url=url)
        headers = {
            "content-security-policy": _policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        await HTMLResponse(text, 200 if self._available else 501, headers)(scope, receive, send)


class Start:
    """The script that starts Swagger UI; a file of its own, since the page allows no inline scripts."""

    def __init__(self, openapi_path: str) -> None:
        self._openapi_path = openapi_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the script."""
        url = json.dumps(scope.get("root_path", "").rstrip("/") + self._openapi_path)
        headers = {"x-content-type-options": "nosniff", "cache-control": "no-cache"}
        response = Response(_start.format(url=url), media_type="text/javascript; charset=utf-8", headers=headers)
        await response(scope, receive, send)


def pages(document: Document, title: str, docs_path: str, openapi_path: str) -> Iterator[tuple[str, ASGIApp]]:
    """The paths of the documentation and what answers there."""
    yield openapi_path, Static(JSON, document)
    folder = _folder()
    yield docs_path, Page(title, docs_path, openapi_path, folder is not None)
    if folder is not None:
        yield f"{docs_path}/start.js", Start(openapi_path)
        for name, (file, media_type) in _files.items():
            yield f"{docs_path}/{name}", Static(media_type, folder / file)


def _folder() -> Path | None:
    """Where the files of Swagger UI are, without importing what ships them."""
    found = find_spec("offapi")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    return folder if all((folder / file).is_file() for file, _ in _files.values()) else None
