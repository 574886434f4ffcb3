"""The description of the application, and the page that shows it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, TypeVar

import openapi_pydantic
import pytest
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.requests import Request

from wintry.web import (
    Cookie,
    DataResponse,
    File,
    Form,
    Header,
    HttpOptions,
    NotFoundError,
    Path,
    Query,
    ServerSentEvent,
    catches,
    controller,
    delete,
    get,
    post,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Line(BaseModel):
    sku: str
    qty: int = Field(gt=0)


class Box(BaseModel, Generic[T]):
    content: T


class Filters(BaseModel):
    sku: str = ""
    above: Annotated[int, Field(ge=0)] = 0


class InvalidSku(Exception): ...


@controller(prefix="/lines", tags=["Lines"])
class LinesController:
    @post("", response_model=DataResponse[str], status_code=201, tags=["More"], responses={409: "Known already"})
    async def add(self, line: Line) -> Any:
        """Add a line.

        It is added at the end.
        """

    @get("/{orderid}")
    async def of_order(
        self,
        orderid: str,
        limit: Annotated[int, Query(description="At most so many"), Field(ge=1)] = 50,
        x_token: Annotated[str | None, Header()] = None,
        sid: Annotated[str, Cookie()] = "",
    ) -> DataResponse[list[Line]]:
        raise NotFoundError(orderid)

    @get("/filtered")
    async def filtered(self, filters: Annotated[Filters, Query()]) -> Box[Line]:
        return Box(content=Line(sku="a", qty=1))

    @catches(InvalidSku, 422)
    @delete("/{path:path}", deprecated=True, summary="Away with it", name="remove")
    async def drop(self, path: str) -> None: ...

    @post("/upload")
    async def upload(self, file: UploadFile, note: Annotated[str, Form()]) -> int:
        return 1

    @get("/events")
    async def events(self) -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent()

    @get("/hidden", include_in_schema=False)
    async def hidden(self) -> None: ...


OPTIONS = HttpOptions(title="Lines & more", version="3.1", description="All about lines")


@pytest.fixture
async def served(serving):
    async with serving(LinesController, options=OPTIONS, errors={KeyError: 410}) as served:
        yield served


@pytest.fixture
async def document(served) -> dict[str, Any]:
    found: dict[str, Any] = (await served.client.get("/openapi.json")).json()
    return found


@pytest.mark.contract("WEB-100")
async def test_it_is_openapi_3_1(document) -> None:
    openapi_pydantic.OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1.")
    assert document["info"] == {"title": "Lines & more", "version": "3.1", "description": "All about lines"}


@pytest.mark.contract("WEB-100")
async def test_every_reference_leads_somewhere(document) -> None:
    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    assert found
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


@pytest.mark.contract("WEB-101")
async def test_operations_have_stable_names_and_words(document) -> None:
    add = document["paths"]["/lines"]["post"]
    assert add["operationId"] == "lines.add"
    assert (add["summary"], add["description"]) == ("Add a line", "It is added at the end.")
    assert add["tags"] == ["Lines", "More"]
    drop = document["paths"]["/lines/{path}"]["delete"]
    assert (drop["operationId"], drop["summary"], drop["deprecated"]) == ("remove", "Away with it", True)


@pytest.mark.contract("WEB-102")
async def test_parameters(document) -> None:
    found = {each["name"]: each for each in document["paths"]["/lines/{orderid}"]["get"]["parameters"]}
    assert [(name, each["in"], each["required"]) for name, each in found.items()] == [
        ("orderid", "path", True),
        ("limit", "query", False),
        ("x-token", "header", False),
        ("sid", "cookie", False),
    ]
    assert found["limit"]["schema"] == {"type": "integer", "minimum": 1, "default": 50}
    assert found["limit"]["description"] == "At most so many"
    filtered = document["paths"]["/lines/filtered"]["get"]["parameters"]
    assert [each["name"] for each in filtered] == ["sku", "above"]


@pytest.mark.contract("WEB-102")
async def test_bodies(document) -> None:
    add = document["paths"]["/lines"]["post"]["requestBody"]
    assert add == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Line"}}},
    }
    [(kind, content)] = document["paths"]["/lines/upload"]["post"]["requestBody"]["content"].items()
    assert kind == "multipart/form-data"
    schema = content["schema"]
    schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    assert schema["properties"]["file"]["format"] == "binary"
    assert schema["required"] == ["file", "note"]


class Login(BaseModel):
    user: str
    password: str = Field(min_length=3, alias="pass-word")
    stay: bool = False


@controller
class Places:
    @get("/o/{x}")
    async def segment(self, x: int) -> None: ...

    @get("/o/{x:path}")
    async def rest(self, x: str) -> None: ...

    @get("/p/{x}/of/{y}")
    async def read(self, x: int, y: str) -> None: ...

    @post("/p/{y}/of/{x}")
    async def write(self, y: str, z: Annotated[int, Path(alias="x")]) -> None: ...

    @delete("/p/{any}/of/{thing}")
    async def drop(self, request: Request) -> None: ...

    @post("/login")
    async def login(self, form: Annotated[Login, Form()]) -> str:
        return form.user

    @post("/fields")
    async def fields(
        self,
        user: Annotated[str, Form(alias="user-name", description="Who")],
        files: Annotated[list[bytes], File(alias="up-load")],
        login: Annotated[Login | None, Form()] = None,
        age: Annotated[int, Form(), Field(ge=1)] = 7,
    ) -> str:
        return user


@pytest.mark.contract("WEB-126")
async def test_routes_at_one_place_are_one_path_and_no_operation_is_lost(serving) -> None:
    async with serving(Places, options=HttpOptions(docs=False)) as served:
        document = served.http.document.as_dict
    openapi_pydantic.OpenAPI.model_validate(document)
    names = {
        (path, method): [(each["name"], each["schema"]["type"]) for each in operation["parameters"]]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "parameters" in operation
    }
    assert names == {
        ("/o/{x}", "get"): [("x", "integer")],
        ("/o/{x_path}", "get"): [("x_path", "string")],
        ("/p/{x}/of/{y}", "get"): [("x", "integer"), ("y", "string")],
        ("/p/{x}/of/{y}", "post"): [("x", "string"), ("y", "integer")],
        ("/p/{x}/of/{y}", "delete"): [("x", "string"), ("y", "string")],
    }


@pytest.mark.contract("WEB-127")
async def test_a_form_is_described_as_it_is_sent(serving) -> None:
    async with serving(Places) as served:
        paths = served.http.document.as_dict["paths"]
        schemas = served.http.document.as_dict["components"]["schemas"]
        data = {"user": "ann", "pass-word": "secret"}
        assert (await served.client.post("/login", data=data)).json() == "ann"

    def body(path: str, kind: str) -> dict[str, Any]:
        schema = paths[path]["post"]["requestBody"]["content"][kind]["schema"]
        found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        return found

    login = body("/login", "application/x-www-form-urlencoded")
    assert login["required"] == ["user", "pass-word"]
    assert login["properties"].keys() == {"user", "pass-word", "stay"}
    assert login["properties"]["pass-word"]["minLength"] == 3
    fields = body("/fields", "multipart/form-data")
    assert fields["required"] == ["user-name", "up-load"]
    assert fields["properties"].keys() == {"user-name", "up-load", "user", "pass-word", "stay", "age"}
    assert fields["properties"]["user-name"]["description"] == "Who"
    assert fields["properties"]["up-load"]["items"]["format"] == "binary"
    assert (fields["properties"]["age"]["minimum"], fields["properties"]["age"]["default"]) == (1, 7)


@pytest.mark.contract("WEB-103")
async def test_every_status_that_can_be_sent_is_there(document) -> None:
    statuses = {
        (path, method): sorted(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    always = ["410", "431", "500"]  # 410 is mapped for the whole application
    body = ["400", "413", "415", "422"]
    assert statuses["/lines", "post"] == sorted(["201", "409", *body, *always])
    assert statuses["/lines/{orderid}", "get"] == sorted(["200", "404", "422", *always])
    assert statuses["/lines/{path}", "delete"] == sorted(["204", "422", *always])
    problem = document["components"]["responses"]["Problem404"]["content"]
    assert problem == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.mark.contract("WEB-104")
async def test_generic_models_have_names_that_people_can_read(document) -> None:
    schemas = document["components"]["schemas"]
    assert {"DataResponse_str", "DataResponse_list_Line", "Box_Line", "Line", "Problem"} <= schemas.keys()
    envelope = schemas["DataResponse_list_Line"]["properties"]
    assert envelope.keys() == {"data", "message", "status_code"}


@pytest.mark.contract("WEB-105")
async def test_streams_and_what_is_left_out_are_not_there(document) -> None:
    assert document["paths"].keys() == {
        "/lines", "/lines/{orderid}", "/lines/filtered", "/lines/{path}", "/lines/upload",
    }  # fmt: skip


@pytest.mark.contract("WEB-106")
async def test_the_document_has_an_entity_tag(served) -> None:
    first = await served.client.get("/openapi.json")
    assert first.headers["content-type"] == "application/json"
    for known in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
        again = await served.client.get("/openapi.json", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert (await served.client.get("/openapi.json", headers={"if-none-match": '"x"'})).status_code == 200


@pytest.mark.contract("WEB-106")
async def test_two_starts_write_the_same_document(serving, served) -> None:
    async with serving(LinesController, options=OPTIONS, errors={KeyError: 410}) as again:
        assert again.http.document.content == served.http.document.content


@pytest.mark.contract("WEB-110")
async def test_the_page_loads_nothing_from_elsewhere(served) -> None:
    page = await served.client.get("/docs")
    assert page.status_code == 200
    assert "<title>Lines &amp; more</title>" in page.text
    assert "http" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name, kind in (
        ("swagger-ui.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("start.js", "text/javascript"),
    ):
        assert f'"/docs/{name}"' in page.text
        file = await served.client.get(f"/docs/{name}")
        assert file.status_code == 200
        assert file.headers["content-type"].startswith(kind)
    assert 'url: "/openapi.json"' in (await served.client.get("/docs/start.js")).text


@pytest.mark.contract("WEB-110")
async def test_the_page_knows_where_the_application_is_mounted(served) -> None:
    answer = await served.send("GET", b"/docs/start.js", root_path="/api")
    assert b'url: "/api/openapi.json"' in answer.body
    page = await served.send("GET", b"/docs", root_path="/api")
    assert b'src="/api/docs/start.js"' in page.body


@pytest.mark.contract("WEB-111")
async def test_without_the_extra_the_page_says_how_to_get_it(serving, monkeypatch) -> None:
    monkeypatch.setattr("wintry.web.docs.find_spec", lambda name: None)
    async with serving(LinesController) as served:
        page = await served.client.get("/docs")
        assert page.status_code == 501
        assert "wintry-web[docs]" in page.text
        assert (await served.client.get("/openapi.json")).status_code == 200


@pytest.mark.contract("WEB-112")
async def test_the_documentation_can_be_left_away_moved_and_replaced(serving) -> None:
    @controller
    class Own:
        @get("/docs")
        async def docs(self) -> str:
            return "my own"

    async with serving(Own, options=HttpOptions(docs=False)) as served:
        assert (await served.client.get("/openapi.json")).status_code == 404
    async with serving(Own) as served:
        assert (await served.client.get("/docs")).json() == "my own"
    async with serving(Own, options=HttpOptions(docs_path="/d", openapi_path="/d.json")) as served:
        assert 'href="/d' in (await served.client.get("/d")).text
        assert (await served.client.get("/d.json")).status_code == 200
