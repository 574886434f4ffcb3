"""Where the arguments of a method come from, and what is answered when they do not fit."""

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.routing import Mount

from wintry.web import (
    Body,
    Cookie,
    File,
    Form,
    Header,
    HttpOptions,
    Limits,
    Path,
    Query,
    controller,
    delete,
    get,
    post,
    put,
)

pytestmark = pytest.mark.anyio


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str
    qty: int = Field(gt=0)


@dataclass(kw_only=True)
class Plain:
    name: str
    eta: date | None = None


class Filters(BaseModel):
    sku: str = "any"
    tags: list[str] = []
    above: int = Field(0, alias="min")


class Clock:
    def now(self) -> str:
        return "noon"


@controller(prefix="/b")
class Binding:
    @get("/path/{number}/{text}")
    async def path(self, number: int, text: str) -> list[Any]:
        return [number, text]

    @get("/renamed/{orderid}")
    async def renamed(self, order: Annotated[str, Path("orderid")]) -> str:
        return order

    @get("/untouched/{orderid}")
    async def untouched(
        self, order: Annotated[str, Path("orderid")], request: Request, extra: int = 0
    ) -> dict[str, str]:
        return request.path_params

    @get("/renamed-only/{orderid}")
    async def renamed_only(self, order: Annotated[str, Path("orderid")], request: Request) -> dict[str, str]:
        return request.path_params

    @get("/query")
    async def query(
        self,
        limit: Annotated[int, Field(ge=1, le=9)] = 5,
        flag: bool = False,
        when: date | None = None,
        key: UUID | None = None,
        colour: Colour | None = None,
        order: Literal["up", "down"] = "up",
        tags: list[str] = [],  # noqa: B006 - the default of every request is a fresh one
    ) -> list[Any]:
        tags.append("end")
        return [limit, flag, when, key, colour, order, tags]

    @get("/filters")
    async def filters(self, filters: Annotated[Filters, Query()]) -> Filters:
        return filters

    @get("/headers")
    async def headers(
        self,
        x_token: Annotated[str, Header()],
        agent: Annotated[str, Header("user-agent")] = "",
        session: Annotated[int | None, Cookie("sid")] = None,
        x_many: Annotated[list[int], Header()] = [],  # noqa: B006
    ) -> list[Any]:
        return [x_token, agent, session, x_many]

    @post("/body")
    async def body(self, line: Line) -> Line:
        return line

    @post("/plain")
    async def plain(self, plain: Plain) -> Plain:
        return plain

    @post("/list")
    async def lines(self, lines: list[Line]) -> int:
        return len(lines)

    @post("/scalar")
    async def scalar(self, number: Annotated[float, Body()]) -> float:
        return number

    @post("/several")
    async def several(self, line: Line, note: Annotated[str, Body()] = "none") -> list[Any]:
        return [line, note]

    @post("/embedded")
    async def embedded(self, line: Annotated[Line, Body(embed=True)]) -> str:
        return line.sku

    @put("/optional")
    async def optional(self, line: Line | None = None) -> str:
        return "none" if line is None else line.sku

    @delete("/all/{number}")
    async def everything(self, number: int, line: Line, dry: bool, clock: Clock, request: Request) -> list[Any]:
        return [number, line.sku, dry, clock.now(), (await request.body()).decode()]

    @post("/form")
    async def form(self, name: Annotated[str, Form()], ages: Annotated[list[int], Form()] = []) -> list[Any]:  # noqa: B006
        return [name, ages]

    @post("/files")
    async def files(
        self, first: UploadFile, content: Annotated[bytes, File()], note: Annotated[str, Form()] = ""
    ) -> list[Any]:
        return [first.filename, (await first.read()).decode(), content.decode(), note]


@pytest.fixture
async def client(serving):
    async with serving(Binding, services=[Clock]) as served:
        yield served.client


@pytest.mark.contract("WEB-010")
async def test_a_name_in_the_path_is_a_path_parameter(client) -> None:
    assert (await client.get("/b/path/7/a%2Fb%20c")).json() == [7, "a/b c"]
    assert (await client.get("/b/renamed/o1")).json() == "o1"


async def test_binding_leaves_the_request_as_it_was(client) -> None:
    assert (await client.get("/b/untouched/o1?extra=1")).json() == {"orderid": "o1"}
    assert (await client.get("/b/renamed-only/o1")).json() == {"orderid": "o1"}


@controller
class Swapped:
    @get("/swap/{a}/{b}")
    async def swap(self, a: Annotated[str, Path(alias="b")], b: Annotated[str, Path(alias="a")]) -> list[str]:
        return [a, b]

    @get("/query/{b}")
    async def query(self, b: str, tenant: str = "none", x: Annotated[str, Header()] = "none") -> list[str]:
        return [b, tenant, x]


@pytest.mark.contract("WEB-121")
async def test_aliases_of_path_parameters_may_swap_their_names(serving) -> None:
    async with serving(Swapped) as served:
        assert (await served.client.get("/swap/1/2")).json() == ["2", "1"]


@pytest.mark.contract("WEB-121")
async def test_what_a_mount_takes_from_the_path_fills_no_parameter_of_another_source(serving) -> None:
    async with serving(Swapped) as served:
        app = Starlette(routes=[Mount("/{tenant}/{x}", app=served.app)])
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
            assert (await client.get("/acme/y/query/1")).json() == ["1", "none", "none"]
            assert (await client.get("/acme/y/query/1?tenant=other")).json() == ["1", "other", "none"]
            assert (await client.get("/acme/y/swap/1/2")).json() == ["2", "1"]


@pytest.mark.contract("WEB-010")
async def test_a_path_parameter_that_does_not_fit_is_a_422_that_names_it(client) -> None:
    answer = await client.get("/b/path/seven/x")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "in": "path",
            "name": "number",
            "detail": "Input should be a valid integer, unable to parse string as an integer",
            "code": "int_parsing",
        }
    ]


@pytest.mark.contract("WEB-011")
async def test_scalars_and_lists_of_them_come_from_the_query(client) -> None:
    key = uuid4()
    asked = {"limit": 9, "flag": "true", "when": "2026-01-02", "key": str(key), "colour": "red", "order": "down"}
    answer = await client.get("/b/query", params={**asked, "tags": ["a", "b"]})
    assert answer.json() == [9, True, "2026-01-02", str(key), "red", "down", ["a", "b", "end"]]


@pytest.mark.contract("WEB-011")
async def test_defaults_are_the_method_s_and_are_never_shared(client) -> None:
    for _ in range(2):
        assert (await client.get("/b/query")).json() == [5, False, None, None, None, "up", ["end"]]


@pytest.mark.contract("WEB-011")
async def test_of_several_values_for_a_scalar_the_last_one_counts(client) -> None:
    assert (await client.get("/b/query?limit=1&limit=2&nothing&=")).json()[0] == 2


@pytest.mark.contract("WEB-011")
async def test_a_plus_in_the_query_is_a_space(client) -> None:
    assert (await client.get("/b/filters?sku=a+b")).json()["sku"] == "a b"


@given(value=st.text(min_size=1).filter(lambda text: not any(0xD800 <= ord(each) <= 0xDFFF for each in text)))
async def test_every_text_survives_the_query_and_the_path(value: str) -> None:
    from urllib.parse import quote

    from wintry.web.binding import compile_binder
    from wintry.web.params import read_parameters

    async def method(self: object, text: str) -> None: ...

    parameters = read_parameters(method, {"text": str}, "method", "/x", False, lambda key: False)
    strings = compile_binder(parameters, "method", Limits(), 10).strings
    assert strings is not None
    scope = {"path_params": {}, "query_string": b"text=" + quote(value, safe="").encode()}
    assert strings(scope) == {"text": value}


@pytest.mark.contract("WEB-012")
async def test_a_model_in_the_query_takes_its_fields_by_name_or_alias(client) -> None:
    answer = await client.get("/b/filters?sku=LAMP&tags=a&tags=b&min=3")
    assert answer.json() == {"sku": "LAMP", "tags": ["a", "b"], "min": 3}
    assert (await client.get("/b/filters")).json() == {"sku": "any", "tags": [], "min": 0}
    wrong = (await client.get("/b/filters?min=x")).json()["errors"]
    assert [(each["in"], each["name"]) for each in wrong] == [("query", "min")]


@pytest.mark.contract("WEB-013")
async def test_headers_and_cookies_are_stated(client) -> None:
    headers = [("x-token", "t"), ("user-agent", "me"), ("cookie", "sid=7; other=8"), ("x-many", "1"), ("x-many", "2")]
    assert (await client.get("/b/headers", headers=headers)).json() == ["t", "me", 7, [1, 2]]
    missing = await client.get("/b/headers")
    assert missing.status_code == 422
    assert missing.json()["errors"][0]["name"] == "x-token"


@pytest.mark.contract("WEB-014")
async def test_what_pydantic_reads_as_an_object_is_the_body(client) -> None:
    assert (await client.post("/b/body", json={"sku": "LAMP", "qty": 1})).json() == {"sku": "LAMP", "qty": 1}
    answer = await client.post("/b/plain", json={"name": "n", "eta": "2026-01-02"})
    assert answer.json() == {"name": "n", "eta": "2026-01-02"}
    assert (await client.post("/b/list", json=[{"sku": "a", "qty": 1}] * 3)).json() == 3


@pytest.mark.contract("WEB-014")
async def test_bodies_can_be_stated_embedded_and_several(client) -> None:
    assert (await client.post("/b/scalar", json=1.5)).json() == 1.5
    line = {"sku": "LAMP", "qty": 1}
    assert (await client.post("/b/several", json={"line": line, "note": "n"})).json() == [line, "n"]
    assert (await client.post("/b/several", json={"line": line})).json() == [line, "none"]
    assert (await client.post("/b/embedded", json={"line": line})).json() == "LAMP"
    assert (await client.put("/b/optional")).json() == "none"
    assert (await client.put("/b/optional", json=line)).json() == "LAMP"


@pytest.mark.contract("WEB-015")
async def test_what_the_container_provides_and_the_request_are_injected_beside_all_else(client) -> None:
    content = json.dumps({"sku": "LAMP", "qty": 1})
    headers = {"content-type": "application/json"}
    answer = await client.request("DELETE", "/b/all/7?dry=yes", content=content, headers=headers)
    assert answer.json() == [7, "LAMP", True, "noon", content]


@controller(prefix="/asks")
class Asks:
    request: Request

    @post("/json")
    async def json(self, line: Line) -> list[Any]:
        return [line.sku, (await self.request.body()).decode(), await self.request.json()]

    @post("/optional")
    async def optional(self, line: Line | None = None) -> list[Any]:
        return [line, (await self.request.body()).decode()]

    @post("/form")
    async def form(self, name: Annotated[str, Form()]) -> list[Any]:
        return [name, (await self.request.form())["name"]]

    @post("/both")
    async def both(self, name: Annotated[str, Form()], request: Request) -> list[Any]:
        return [name, (await request.form())["name"], request is self.request]

    @post("/raw")
    async def raw(self) -> str:
        return (await self.request.body()).decode()


@pytest.mark.contract("WEB-120")
async def test_a_request_injected_into_a_controller_has_the_body_that_was_bound(serving) -> None:
    async with serving(Asks) as served:
        client = served.client
        with anyio.fail_after(5):
            assert (await client.post("/asks/json", json={"sku": "LAMP", "qty": 1})).json() == [
                "LAMP",
                '{"sku":"LAMP","qty":1}',
                {"sku": "LAMP", "qty": 1},
            ]
            assert (await client.post("/asks/optional")).json() == [None, ""]
            for form in ({"data": {"name": "Ann"}}, {"files": {"name": (None, b"Ann")}}):
                assert (await client.post("/asks/form", **form)).json() == ["Ann", "Ann"]
                assert (await client.post("/asks/both", **form)).json() == ["Ann", "Ann", True]
            assert (await client.post("/asks/raw", content="raw")).json() == "raw"


@pytest.mark.contract("WEB-016")
async def test_forms_urlencoded_and_multipart(client) -> None:
    assert (await client.post("/b/form", data={"name": "Ann", "ages": ["1", "2"]})).json() == ["Ann", [1, 2]]
    files = {"first": ("a.txt", b"one"), "content": ("b.txt", b"two")}
    assert (await client.post("/b/files", files=files, data={"note": "n"})).json() == ["a.txt", "one", "two", "n"]


@pytest.mark.contract("WEB-122")
async def test_a_file_as_bytes_may_have_another_name_on_the_wire(serving) -> None:
    @controller
    class Uploads:
        @post("/one")
        async def one(self, data: Annotated[bytes, File(alias="up-load")]) -> str:
            return data.decode()

        @post("/many")
        async def many(self, data: Annotated[list[bytes], File(alias="up-load")], note: Annotated[str, Form()]) -> str:
            return "".join(each.decode() for each in data) + note

    async with serving(Uploads) as served:
        one = ("up-load", ("a.txt", b"one"))
        assert (await served.client.post("/one", files=[one])).json() == "one"
        assert (await served.client.post("/many", files=[one, one], data={"note": "!"})).json() == "oneone!"


@pytest.mark.contract("WEB-016")
async def test_a_form_that_does_not_fit(client) -> None:
    assert (await client.post("/b/form", json={})).status_code == 415
    answer = await client.post("/b/form", data={"ages": "x"})
    assert answer.status_code == 422
    assert [(each["in"], each["name"]) for each in answer.json()["errors"]] == [("form", "name"), ("form", "ages")]
    broken = {"content-type": "multipart/form-data"}
    assert (await client.post("/b/files", content=b"x", headers=broken)).status_code == 400


@pytest.mark.contract("WEB-017")
@pytest.mark.parametrize("content", ["", "{", "nonsense", "[" * 100_000, '{"sku": "\\ud800", "qty": 1}', "\\x00"])
async def test_malformed_json_is_400(client, content: str) -> None:
    answer = await client.post("/b/body", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("malformed JSON")


@pytest.mark.contract("WEB-017")
@pytest.mark.parametrize("content", ["NaN", "Infinity", "-Infinity"])
async def test_constants_that_json_does_not_have_are_malformed(client, content: str) -> None:
    answer = await client.post("/b/scalar", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400


async def test_their_names_inside_of_texts_are_not(client) -> None:
    assert (await client.post("/b/body", json={"sku": "NaN Infinity", "qty": 1})).json()["sku"] == "NaN Infinity"


@pytest.mark.contract("WEB-018")
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_type_than_json_is_415(client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = await client.post("/b/body", content=b'{"sku": "a", "qty": 1}', headers=headers)
    assert answer.status_code == 415


@pytest.mark.contract("WEB-018")
@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
async def test_json_has_several_spellings(client, kind: str) -> None:
    content = b'{"sku": "a", "qty": 1}'
    assert (await client.post("/b/body", content=content, headers={"content-type": kind})).status_code == 200


@pytest.mark.contract("WEB-019")
async def test_an_invalid_body_is_422_with_pointers(client) -> None:
    answer = await client.post("/b/list", json=[{"sku": "a", "qty": 1}, {"qty": 0, "a/b~": 1}])
    assert answer.status_code == 422
    found = {(each["pointer"], each["code"]) for each in answer.json()["errors"]}
    assert found == {("#/1/sku", "missing"), ("#/1/qty", "greater_than"), ("#/1/a~1b~0", "extra_forbidden")}


@pytest.mark.contract("WEB-020")
@pytest.mark.parametrize("text", ["a\0b", "'; drop table", "$where", "../../etc", "😀", "\u202e"])
async def test_odd_texts_are_texts(client, text: str) -> None:
    assert (await client.post("/b/body", json={"sku": text, "qty": 1})).json()["sku"] == text


class Counted:
    instances = 0

    def __init__(self, request: Request) -> None:
        self.path = request.url.path
        Counted.instances += 1


@pytest.mark.contract("WEB-021")
async def test_a_request_that_does_not_validate_costs_no_injection(serving) -> None:
    @controller
    class Guarded:
        counted: Counted

        @post("/line")
        async def line(self, line: Line) -> str:
            return self.counted.path

    Counted.instances = 0
    async with serving(Guarded, services=[Counted]) as served:
        assert (await served.client.post("/line", json={})).status_code == 422
        assert Counted.instances == 0
        assert (await served.client.post("/line", json={"sku": "a", "qty": 1})).json() == "/line"
        assert Counted.instances == 1


# ---- what cannot work is said at the start


@pytest.mark.contract("WEB-030")
def test_faults_of_signatures_come_together_and_name_place_and_next_step(faults) -> None:
    class Unknown: ...

    @controller
    class Wrong:
        @get("/a/{x}")
        async def lacks(self) -> None: ...

        @get("/b")
        async def body_of_get(self, line: Line) -> None: ...

        @get("/c")
        async def unreadable(self, it: Unknown) -> None: ...

        @get("/d")
        async def bare(self, it) -> None: ...  # type: ignore[no-untyped-def]  # the fault under test

        @get("/e")
        async def default(self, it: int = Query()) -> None: ...  # type: ignore[assignment]

        @post("/f")
        async def two(self, line: Line, name: Annotated[str, Form()]) -> None: ...

        @get("/g")
        async def star(self, *args: int) -> None: ...

        @get("/i")
        async def unresolved(self, it: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the same

        @get("/h")
        async def no_such_path(self, it: Annotated[int, Path()]) -> None: ...

    found = "\n".join(faults(Wrong))
    for place, reason in {
        "lacks": "which the method does not take",
        "body_of_get(line)": "this verb has none",
        "unreadable(it)": "neither provided nor readable",
        "bare(it)": "has no annotation",
        "default(it)": "write Annotated[<type>, Query()]",
        "two": "a request has one body",
        "star(args)": "can be filled only by name",
        "no_such_path(it)": "is not in the path",
        "unresolved": "an annotation cannot be resolved",
    }.items():
        line = next(each for each in faults(Wrong) if f"Wrong.{place}:" in each)
        assert reason in line, found
    assert len(faults(Wrong)) == 9


@pytest.mark.contract("WEB-124")
def test_an_alias_of_pydantic_s_is_a_fault_that_names_ours(faults) -> None:
    @controller
    class Aliased:
        @get("/query")
        async def query(self, x: Annotated[int, Query(), Field(alias="num")]) -> None: ...

        @get("/inferred")
        async def inferred(self, x: Annotated[int, Field(ge=1, validation_alias="num")]) -> None: ...

        @post("/body")
        async def body(self, x: Annotated[Line, Body(embed=True), Field(alias="num")]) -> None: ...

        @post("/form")
        async def form(self, x: Annotated[int | None, Form(), Field(alias="num")] = None) -> None: ...

    found = faults(Aliased)
    assert len(found) == 4
    for name, marker in {"query": "Query", "inferred": "Query", "body": "Body", "form": "Form"}.items():
        line = next(each for each in found if f"Aliased.{name}(x):" in each)
        assert "Field() gives it the alias 'num'" in line
        assert f"write {marker}(alias='num')" in line


# ---- limits


@controller
class Limited:
    @post("/default")
    async def default(self, text: Annotated[str, Body()]) -> int:
        return len(text)

    @post("/small", max_body_size=10)
    async def small(self, text: Annotated[str, Body()]) -> int:
        return len(text)

    @post("/raw", max_body_size=10)
    async def raw(self, request: Request) -> int:
        return len(await request.body())


JSON = [(b"content-type", b"application/json")]


@pytest.mark.contract("WEB-040")
async def test_a_body_over_a_mebibyte_is_413_and_is_not_read(serving) -> None:
    async with serving(Limited) as served:
        fits = json.dumps("x" * (1 << 20))[: (1 << 20) - 1] + '"'
        assert (await served.send("POST", b"/default", body=fits.encode(), headers=JSON)).status == 200
        assert (await served.send("POST", b"/default", body=fits.encode() + b" ", headers=JSON)).status == 413
        told = [*JSON, (b"content-length", b"9" * 5000)]
        assert (await served.send("POST", b"/default", body=b'"x"', headers=told)).status == 413


@pytest.mark.contract("WEB-040")
async def test_the_limit_counts_what_arrives_whatever_is_announced(serving) -> None:
    async with serving(Limited) as served:
        for path in (b"/small", b"/raw"):
            lies = [*JSON, (b"content-length", b"3")]
            answer = await served.send("POST", path, body=[b'"aaaa', b"bbbb", b'cccc"', b""], headers=lies)
            assert answer.status == 413
            assert json.loads(answer.body)["detail"] == "the body is larger than 10 bytes"


@pytest.mark.contract("WEB-041")
async def test_headers_are_limited_in_number_and_size(serving) -> None:
    options = HttpOptions(limits=Limits(headers=3, header_size=50))
    async with serving(Limited, options=options) as served:
        few = [(b"a", b"b")] * 3
        assert (await served.send("POST", b"/raw", headers=few)).status == 200
        assert (await served.send("POST", b"/raw", headers=few * 2)).status == 431
        assert (await served.send("POST", b"/raw", headers=[(b"a", b"b" * 50)])).status == 431


async def test_a_client_that_goes_away_is_sent_nothing(serving) -> None:
    async with serving(Limited) as served:
        with pytest.raises(IndexError):  # no first message
            await served.send("POST", b"/default", body=[], headers=JSON)


def test_the_schemas_of_types_are_read_as_pydantic_reads_them() -> None:
    from wintry.web.params import shape_of

    for annotation in (int, str | None, UUID, Colour, Literal["a"], Annotated[date, Field()], bool | int):
        assert shape_of(annotation, "x") == "scalar", annotation
    for annotation in (list[int], set[str], tuple[int, ...], list[str] | None):
        assert shape_of(annotation, "x") == "list", annotation
    for annotation in (Line, Plain, list[Line], dict[str, int], Line | None):
        assert shape_of(annotation, "x") == "object", annotation
    assert TypeAdapter(Plain).core_schema["type"] == "dataclass"
