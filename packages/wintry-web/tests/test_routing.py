"""Which route a path belongs to."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, NoMatchFound, compile_path
from starlette.routing import Route as StarletteRoute

from wintry.web import collecting, controller, get, post, put
from wintry.web.routing import Route, Routes

pytestmark = pytest.mark.anyio


@controller
class Paths:
    @get("/products/{sku:path}")
    async def product(self, sku: str) -> str:
        return f"product {sku}"

    @get("/orders/{orderid}")
    async def order(self, orderid: str) -> str:
        return f"order {orderid}"

    @get("/orders/latest")
    async def latest(self) -> str:
        return "latest"

    @post("/orders/{orderid}")
    async def change(self, orderid: str) -> str:
        return f"changed {orderid}"

    @put("/orders/latest")
    async def put_latest(self) -> str:
        return "put"

    @get("/orders/{orderid}/lines/{sku}")
    async def line(self, orderid: str, sku: str) -> str:
        return f"{orderid} {sku}"


@pytest.mark.contract("WEB-080")
async def test_a_static_segment_beats_a_parameter(serving) -> None:
    async with serving(Paths) as served:
        assert (await served.client.get("/orders/latest")).json() == "latest"
        assert (await served.client.get("/orders/first")).json() == "order first"


@pytest.mark.contract("WEB-080")
async def test_a_place_without_the_method_does_not_hide_one_that_has_it(serving) -> None:
    async with serving(Paths) as served:
        assert (await served.client.post("/orders/latest")).json() == "changed latest"
        answer = await served.client.delete("/orders/latest")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST, PUT")


@pytest.mark.contract("WEB-081")
async def test_segments_are_decoded_after_the_path_is_split(serving) -> None:
    async with serving(Paths) as served:
        assert (await served.send("GET", b"/orders/a%2Fb")).body == b'"order a/b"'
        assert (await served.send("GET", b"/orders/a%2Fb/lines/%E2%82%AC")).body == '"a/b €"'.encode()
        assert (await served.send("GET", b"/%6Frders/l%61test")).body == b'"latest"'
        assert (await served.send("GET", b"/products/a/b%2Fc//d/")).body == b'"product a/b/c//d/"'
        assert (await served.send("GET", b"/orders/a%252Fb")).body == b'"order a%2Fb"'


@pytest.mark.contract("WEB-081")
async def test_bytes_that_are_no_text_are_answered(serving) -> None:
    async with serving(Paths) as served:
        for path in (b"/orders/%FF", b"/orders/%ED%A0%80", b"/orders/%00", b"/orders/%", b"/orders/%zz"):
            assert (await served.send("GET", path)).status == 200
        assert (await served.send("GET", b"/orders/")).status == 404


@pytest.mark.contract("WEB-082")
async def test_it_works_below_a_mount_and_without_a_raw_path(serving) -> None:
    async with serving(Paths) as served:
        inner = served.app
        outer = Starlette(routes=[Mount("/api/v1", app=inner)])
        mounted = type(served)(served.client, outer, served.http, served.container)
        for raw in (True, False):
            assert (await served.send("GET", b"/orders/7", raw=raw)).body == b'"order 7"'
            assert (await mounted.send("GET", b"/api/v1/orders/7", raw=raw)).body == b'"order 7"'
        assert (await served.send("GET", b"/prefix/orders/7", root_path="/prefix")).body == b'"order 7"'
        assert (await served.send("GET", b"/orders/7", root_path="/prefix")).body == b'"order 7"'


@pytest.mark.contract("WEB-082")
async def test_what_it_does_not_know_goes_on_to_other_routes(serving) -> None:
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async with serving(Paths) as served:
        served.app.router.routes.append(StarletteRoute("/hello", hello))
        served.app.router.routes.append(StarletteRoute("/orders/{x}", hello, methods=["DELETE"]))
        assert (await served.client.get("/hello")).text == "hello"
        assert (await served.client.delete("/orders/7")).text == "hello"


@pytest.mark.contract("WEB-083")
async def test_routes_are_named_after_controller_and_method(serving) -> None:
    async with serving(Paths) as served:
        assert served.app.url_path_for("paths.latest") == "/orders/latest"
        assert served.app.url_path_for("paths.line", orderid="a/b", sku="ä ") == "/orders/a%2Fb/lines/%C3%A4%20"
        assert served.app.url_path_for("paths.product", sku="a/b c") == "/products/a/b%20c"
        for name, parameters in (("paths.nix", {}), ("paths.line", {"sku": "a"}), ("paths.order", {"orderid": ""})):
            with pytest.raises(NoMatchFound):
                served.app.url_path_for(name, **parameters)


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def table(*declared: tuple[str, str]) -> tuple[Routes, list[str]]:
    routes = Routes()
    with collecting() as faults:
        for number, (method, path) in enumerate(declared):
            routes.add(Route(method, path, app, f"r{number}", f"place{number}"))
    return routes, [str(each) for each in faults]


@pytest.mark.contract("WEB-084")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a", "/a"),
        ("/a/{x}", "/a/{y}"),
        ("/{p:path}", "/{x}"),
        ("/{p:path}", "/{x}/b"),
        ("/a/{p:path}", "/a/{x}/{q:path}"),
        ("/a/{x}/{p:path}", "/a/{y}/{z}/c"),
    ],
)
def test_a_route_that_is_never_reached_is_a_fault(first: str, second: str) -> None:
    _, [fault] = table(("GET", first), ("GET", second))
    assert fault.startswith(f"place1: <GET {second}> is never reached: <GET {first}> of place0")
    assert not table(("GET", first), ("POST", second))[1]


@pytest.mark.contract("WEB-084")
def test_routes_that_only_overlap_are_none() -> None:
    overlapping = ["/{x}", "/a", "/{x}/b", "/a/{y}", "/a/{p:path}", "/{p:path}"]
    assert not table(*(("GET", path) for path in overlapping))[1]
    assert not table(("GET", "/{p:path}"), ("GET", "/a"))[1]


@pytest.mark.contract("WEB-084")
def test_names_are_unique(faults) -> None:
    def made(place: str) -> type[Any]:
        @controller(prefix=place)
        class ItemsController:
            @get("/x")
            async def item(self) -> None: ...

        return ItemsController

    [fault] = faults(made("/one"), made("/two"))
    assert 'its name "items.item" is that of' in fault


segments = st.sampled_from(["a", "b", "{x}", "{y}"])
paths = st.lists(segments, min_size=0, max_size=3).flatmap(
    lambda front: st.sampled_from(["", "/{p:path}"]).map(
        lambda end: "/" + "/".join(front) + end if front else end or "/"
    )
)
asked = st.lists(st.sampled_from(["a", "b", "c", "", "a%2Fb", "%61", "%2F"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


def by_regex(routes: list[Route], path: str, method: str) -> tuple[Route, list[str]] | None:
    """Starlette's expressions on every route; of those that match the one with the most static front."""
    decoded = "/".join(unquote(part).replace("/", "\1") for part in path.split("/"))
    found = []
    for route in routes:
        match = compile_path(route.path)[0].match(decoded)
        if match is not None and route.method == method:
            rank = [1 + segment.endswith(":path}") if segment.startswith("{") else 0 for segment in route.segments]
            found.append((rank, len(found), route, [value.replace("\1", "/") for value in match.groups()]))
    return min(found)[2:] if found else None


@pytest.mark.contract("WEB-085")
@given(declared=st.lists(st.tuples(st.sampled_from(["GET", "POST"]), paths), max_size=8), path=asked)
def test_it_finds_what_starlette_s_expressions_find(declared: list[tuple[str, str]], path: str) -> None:
    distinct = [(method, each) for method, each in declared if each.count("{x}") < 2 and each.count("{y}") < 2]
    routes, _ = table(*distinct)
    for method in ("GET", "POST"):
        route, values, allowed = routes.find(path, method)
        expected = by_regex(routes.routes, path, method)
        assert ((route, values) if route else None) == expected
        if route is None:
            known = {each for each in ("GET", "POST") if by_regex(routes.routes, path, each)}
            assert allowed - {"HEAD"} == known


@pytest.mark.contract("WEB-083")
@given(value=st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_a_reversed_path_leads_back(value: str) -> None:
    routes, _ = table(("GET", "/a/{x}"), ("GET", "/b/{p:path}"))
    one, rest = routes.url_path_for("r0", x=value), routes.url_path_for("r1", p=value)
    assert routes.find(str(one), "GET")[1] == [value]
    assert routes.find(str(rest), "GET")[1] == [value]
