"""Which endpoint a path belongs to.

Routes without parameters are found by one look-up of the raw path. The others are a trie of segments: the path is
split first and decoded after, so that an encoded slash stays inside of its segment. At each node a static segment is
tried before the parameter and the parameter before the rest of the path; a branch that leads nowhere, or to a place
that lacks the method, is left again. The cost depends on the number of segments, not on that of routes.

The whole is one Starlette `BaseRoute`. `matches` does all the work and hands the endpoint on in the child scope; a
place that lacks the method is a partial match, which is answered 405 with `Allow` unless a later route takes it.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, unquote

from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import DefinitionError, report

_parameter: Final = re.compile(r"\{(\w+)(:path)?\}")


class Route:
    """One path with one method. `path_format` is what telemetry groups requests by: the path as it was declared."""

    __slots__ = ("app", "method", "name", "names", "path", "path_format", "place", "segments")

    def __init__(self, method: str, path: str, app: ASGIApp, name: str, place: str) -> None:
        self.method = method
        self.path = path
        self.path_format = path.replace(":path}", "}")
        self.app = app
        self.name = name
        self.place = place
        self.segments = path.split("/")[1:]
        self.names = _parameter.findall(path)

    def shape(self) -> tuple[str, ...]:
        """The path without the names of its parameters: two routes of one shape are one place."""
        return tuple(_kind(segment) for segment in self.segments)

    def __repr__(self) -> str:
        return f"<{self.method} {self.path}>"


class _Leaf:
    """A place: its routes by method."""

    __slots__ = ("methods",)

    def __init__(self) -> None:
        self.methods: dict[str, Route] = {}

    def add(self, route: Route) -> None:
        """Put a route here; GET answers HEAD too, unless HEAD has a route of its own."""
        self.methods[route.method] = route
        if route.method == "GET":
            self.methods.setdefault("HEAD", route)


class _Node:
    """One step of the trie."""

    __slots__ = ("leaf", "parameter", "rest", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _Leaf | None = None
        self.leaf: _Leaf | None = None


class Routes(BaseRoute):
    """All routes of the controllers, as one Starlette route: mount it, or put it into an application's routes."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._static: dict[str, _Leaf] = {}
        self._root = _Node()
        self._by_name: dict[str, Route] = {}
        self._by_shape: dict[tuple[str, tuple[str, ...]], Route] = {}

    def add(self, route: Route) -> None:
        """Add a route. A name that is taken, and a route that would never be reached, are reported."""
        taken = self._by_name.get(route.name)
        if taken is not None:
            report(
                DefinitionError(
                    route.place,
                    f'its name "{route.name}" is that of {taken.place}',
                    f'give one of them another: @{route.method.lower()}(…, name="…")',
                )
            )
            return
        above = self._shadow(route)
        if above is not None:
            report(
                DefinitionError(
                    route.place,
                    f"{route!r} is never reached: {above!r} of {above.place} takes its paths",
                    "change its path, or define it first",
                )
            )
            return
        self.routes.append(route)
        self._by_name[route.name] = self._by_shape[route.method, route.shape()] = route
        leaf = self._leaf(route)
        leaf.add(route)
        if not route.names:
            self._static[route.path] = leaf

    def has(self, path: str) -> bool:
        """Whether a route without parameters stands at this path."""
        return path in self._static

    def _shadow(self, route: Route) -> Route | None:
        """The earlier route that takes every request for this one: of the same shape, or a rest before a parameter."""
        shape = route.shape()
        above = [(*shape[:at], "{:path}") for at, kind in enumerate(shape) if kind in ("{}", "{:path}")]
        found = (self._by_shape.get((route.method, each)) for each in (shape, *above))
        return next((each for each in found if each is not None), None)

    def _leaf(self, route: Route) -> _Leaf:
        node = self._root
        for segment in route.segments:
            kind = _kind(segment)
            if kind == "{:path}":
                node.rest = node.rest or _Leaf()
                return node.rest
            if kind == "{}":
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
        node.leaf = node.leaf or _Leaf()
        return node.leaf

    # ---- finding

    def find(self, path: str, method: str) -> tuple[Route | None, list[str], set[str]]:
        """The route of a raw path, the values of its parameters, and, if there is none, what would be allowed."""
        leaf = self._static.get(path)
        if leaf is not None:
            route = leaf.methods.get(method)
            if route is not None:
                return route, [], set()
        segments = path.split("/")[1:]
        if "%" in path:
            segments = [unquote(segment) for segment in segments]
        return self._walk(segments, method)

    def _walk(self, segments: list[str], method: str) -> tuple[Route | None, list[str], set[str]]:
        allowed: set[str] = set()
        last = len(segments)
        # What is left to try, the best on top: node, position, values so far; a leaf instead of a node is an end.
        waiting: list[tuple[_Node | _Leaf, int, tuple[str, ...]]] = [(self._root, 0, ())]
        while waiting:
            place, position, values = waiting.pop()
            if isinstance(place, _Node) and position < last:
                segment = segments[position]
                if place.rest is not None:
                    waiting.append((place.rest, last, (*values, "/".join(segments[position:]))))
                if place.parameter is not None and segment:
                    waiting.append((place.parameter, position + 1, (*values, segment)))
                deeper = place.static.get(segment)
                if deeper is not None:
                    waiting.append((deeper, position + 1, values))
                continue
            leaf = place.leaf if isinstance(place, _Node) else place
            if leaf is not None:
                route = leaf.methods.get(method)
                if route is not None:
                    return route, list(values), set()
                allowed.update(leaf.methods)
        return None, [], allowed

    # ---- Starlette

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """FULL with the endpoint and its path parameters, PARTIAL where the method is not allowed, else NONE."""
        if scope["type"] != "http":
            return Match.NONE, {}
        route, values, allowed = self.find(raw_path(scope), scope["method"])
        if route is not None:
            parameters: dict[str, Any] = scope.get("path_params") or {}
            if values:
                parameters = {
                    **parameters,
                    **{name: value for (name, _), value in zip(route.names, values, strict=True)},
                }
            return Match.FULL, {"endpoint": route.app, "route": route, "path_params": parameters}
        if allowed:
            return Match.PARTIAL, {"wintry.web.allow": ", ".join(sorted(allowed))}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the endpoint that `matches` found. Raises a 405 `HTTPException` where it found none."""
        allow = scope.get("wintry.web.allow")
        if allow is not None:
            raise HTTPException(405, headers={"Allow": allow})
        await scope["endpoint"](scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of a route by its name (`products.allocate`), parameters percent-encoded.

        Raises Starlette's `NoMatchFound` for an unknown name or other parameters than the path has.
        """
        route = self._by_name.get(name)
        if route is None or {each for each, _ in route.names} != path_params.keys():
            raise NoMatchFound(name, path_params)
        path = route.path
        for each, rest in route.names:
            value = quote(str(path_params[each]), safe="/" if rest else "")
            if not value and not rest:
                raise NoMatchFound(name, path_params)
            path = path.replace("{" + each + rest + "}", value)
        return URLPath(path, protocol="http")


def raw_path(scope: Scope) -> str:
    """The path as it was sent, below the point where the application is mounted."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"], safe="/!$&'()*+,;=:@~") if raw is None else raw.decode("latin-1")
    root = scope.get("root_path", "").rstrip("/")
    if root and (scope["path"] + "/").startswith(root + "/"):
        steps = root.count("/")
        path = "/" + "/".join(path.split("/")[1 + steps :])
    return path


def _kind(segment: str) -> str:
    found = _parameter.fullmatch(segment)
    if found is None:
        return segment
    return "{:path}" if found[2] else "{}"
