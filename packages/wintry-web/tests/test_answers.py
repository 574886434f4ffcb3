"""What leaves: envelopes, models, plain values, responses of Starlette, and when."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, computed_field
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from typing_extensions import TypedDict

from wintry.ioc import Container
from wintry.web import DataResponse, Problems, compile_routes, controller, delete, get, head, post
from wintry.web.errors import InvalidAnswer
from wintry.web.respond import compile_responder

pytestmark = pytest.mark.anyio


class Row(BaseModel):
    sku: str


class SecretRow(Row):
    password: str = "secret"


@dataclass
class Stored:
    sku: str
    password: str = "secret"


class Product(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    sku: str
    rows: list[Row]


@dataclass
class StoredProduct:
    sku: str
    rows: list[Stored]
    cost: int = 7


class Paged(DataResponse[list[Row]]):
    total: int = 0


@controller
class Answers:
    @get("/default")
    async def default(self) -> DataResponse[str]:
        return DataResponse(data="x")

    @get("/route", status_code=201)
    async def route(self) -> DataResponse[str]:
        return DataResponse(data="x")

    @get("/stated", status_code=201)
    async def stated(self) -> DataResponse[str]:
        return DataResponse(data="x", status_code=202, message="on its way", headers={"X-One": "1"})

    @get("/said-again", status_code=201)
    async def said_again(self) -> DataResponse[str]:
        return DataResponse(data="x", status_code=200)

    @get("/refused", response_model=DataResponse[str])
    async def refused(self) -> Any:
        return DataResponse(status_code=400, message="Invalid sku")

    @get("/empty")
    async def empty(self) -> DataResponse[str]:
        return DataResponse(status_code=204)

    @get("/rows", response_model=DataResponse[list[Row]])
    async def rows(self) -> Any:
        return DataResponse(data=[SecretRow(sku="a"), Stored("b"), {"sku": "c", "password": "secret"}])

    @get("/model", response_model=Row)
    async def model(self) -> Any:
        return SecretRow(sku="a")

    @get("/nested", response_model=Product)
    async def nested(self) -> Any:
        return StoredProduct("p", [Stored("a")])

    @get("/paged")
    async def paged(self) -> Paged:
        return Paged(data=[SecretRow(sku="a")], total=9, status_code=203)

    @get("/whatever", response_model=None)
    async def whatever(self) -> Any:
        return {"a": [1, Row(sku="b")]}

    @delete("/nothing")
    async def nothing(self) -> None:
        return None

    @get("/plain")
    async def plain(self) -> PlainTextResponse:
        return PlainTextResponse("hello", 203)

    @get("/wrong")
    async def wrong(self) -> DataResponse[int]:
        return DataResponse[Any](data="no number")

    @get("/unwritable", response_model=None)
    async def unwritable(self) -> Any:
        return object()

    @get("/located")
    async def located(self) -> DataResponse[str]:
        return DataResponse(headers={"Location": "/orders/ä b\r\nSet-Cookie: x=1"})

    @get("/split")
    async def split(self) -> DataResponse[str]:
        return DataResponse(headers={"X-Note": "a\r\nSet-Cookie: x=1"})

    @get("/seen")
    async def seen(self) -> int:
        self.times = getattr(self, "times", 0) + 1
        return int(self.times)

    @head("/only-head")
    async def only_head(self) -> Response:
        return Response(headers={"x-head": "1"})

    @head("/both")
    async def head_of_both(self) -> Response:
        return Response(headers={"x-head": "of its own"})

    @get("/both")
    async def both(self) -> str:
        return "both"


@pytest.fixture
async def client(serving):
    async with serving(Answers) as served:
        yield served.client


@pytest.mark.contract("WEB-050")
@pytest.mark.parametrize(("path", "status"), [("default", 200), ("route", 201), ("stated", 202), ("said-again", 200)])
async def test_the_status_is_the_envelope_s_then_the_route_s_then_200(client, path: str, status: int) -> None:
    answer = await client.get(f"/{path}")
    assert (answer.status_code, answer.json()["status_code"]) == (status, status)


@pytest.mark.contract("WEB-050")
async def test_the_envelope_has_three_members_and_its_headers_are_headers(client) -> None:
    answer = await client.get("/stated")
    assert answer.json() == {"data": "x", "message": "on its way", "status_code": 202}
    assert answer.headers["x-one"] == "1"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.contract("WEB-051")
async def test_a_returned_envelope_with_an_error_is_sent_as_that_envelope(client) -> None:
    answer = await client.get("/refused")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"data": None, "message": "Invalid sku", "status_code": 400}


@pytest.mark.contract("WEB-052")
async def test_no_undeclared_field_leaves(client) -> None:
    assert (await client.get("/rows")).json()["data"] == [{"sku": "a"}, {"sku": "b"}, {"sku": "c"}]
    assert (await client.get("/model")).json() == {"sku": "a"}
    assert (await client.get("/nested")).json() == {"sku": "p", "rows": [{"sku": "a"}]}


@given(extra=st.dictionaries(st.text(min_size=1), st.integers() | st.text(alphabet="abc"), max_size=4))
@pytest.mark.contract("WEB-052")
def test_no_undeclared_member_of_a_mapping_leaves(extra: dict[str, Any]) -> None:
    respond = compile_responder(DataResponse[list[Row]], None, "method").respond
    answer = respond(DataResponse[Any](data=[{**extra, "sku": "a"}]))
    assert answer.body == b'{"data":[{"sku":"a"}],"message":"","status_code":200}'


@pytest.mark.contract("WEB-053")
async def test_an_envelope_of_one_s_own_keeps_its_members(client) -> None:
    answer = await client.get("/paged")
    assert answer.status_code == 203
    assert answer.json() == {"data": [{"sku": "a"}], "message": "", "status_code": 203, "total": 9}


@pytest.mark.contract("WEB-054")
async def test_other_values_are_their_json_and_nothing_is_204(client) -> None:
    assert (await client.get("/whatever")).json() == {"a": [1, {"sku": "b"}]}
    for answer in (await client.delete("/nothing"), await client.get("/empty")):
        assert answer.status_code == 204
        assert answer.content == b""
        assert "content-length" not in answer.headers


@pytest.mark.contract("WEB-055")
async def test_a_response_of_starlette_passes_through(client) -> None:
    answer = await client.get("/plain")
    assert (answer.status_code, answer.text) == (203, "hello")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.contract("WEB-056")
@pytest.mark.parametrize("path", ["wrong", "unwritable", "split"])
async def test_an_answer_that_is_not_what_was_declared_is_a_500(client, caplog, path: str) -> None:
    with caplog.at_level(logging.ERROR, "wintry.web"):
        answer = await client.get(f"/{path}")
    assert answer.status_code == 500
    assert "InvalidAnswer" in caplog.text
    assert "set-cookie" not in answer.headers


class Measured(BaseModel):
    value: float = 0.0
    note: str | None = None


class Told(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    value: float
    note: str | None = None


@pytest.mark.contract("WEB-128")
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1.5"])
async def test_a_float_that_is_no_number_is_a_500(serving, caplog, number: str) -> None:
    value = float(number)

    @controller
    class Floats:
        @get("/enveloped")
        async def enveloped(self) -> DataResponse[list[Measured]]:
            return DataResponse(data=[Measured(), Measured(value=value, note="NaN")])

        @get("/bare")
        async def bare(self) -> dict[str, float]:
            return {"value": value}

        @get("/whatever", response_model=None)
        async def whatever(self) -> Any:
            return {"text": "NaN", "value": value}

        @get("/untyped")
        async def untyped(self) -> DataResponse:  # type: ignore[type-arg]  # a bare envelope is what is tried
            return DataResponse(data={"text": "Infinity", "value": value})

        @get("/told")
        async def told(self) -> Told:
            return Told(value=value)

    async with serving(Floats) as served:
        for path in ("enveloped", "bare", "whatever", "untyped"):
            caplog.clear()
            answer = await served.client.get(f"/{path}")
            if number == "1.5":
                assert "1.5" in answer.text
            else:
                assert answer.status_code == 500
                assert "answered what JSON cannot hold" in caplog.text
                assert "is no number" in caplog.text
        assert (await served.client.get("/told")).status_code == 200


class Fields(TypedDict):
    x: float


class Pair(NamedTuple):
    left: int
    right: float


@dataclass
class Reading:
    x: float = 1.5


class Computed(BaseModel):
    x: float = Field(1.5, serialization_alias="größe")

    @computed_field(alias="the total")  # type: ignore[prop-decorator]  # as pydantic's documentation writes it
    @property
    def total(self) -> float:
        return self.x


class Root(RootModel[tuple[str, float]]): ...


@pytest.mark.contract("WEB-128")
@pytest.mark.parametrize(
    ("model", "value"),
    [
        (float, lambda x: x),
        (list[float], lambda x: [1.5, x]),
        (set[float], lambda x: {x}),
        (dict[str, float], lambda x: {"a": x}),
        (Fields, lambda x: {"x": x}),
        (Pair, lambda x: Pair(1, x)),
        (Reading, lambda x: Reading(x)),
        (Computed, lambda x: Computed(x=x)),
        (Root, lambda x: Root(("a", x))),
        (list[Root | Reading | None], lambda x: [None, Reading(), Root(("a", x))]),
        (dict[str, list[Reading]] | int, lambda x: {"a": [Reading(x)]}),
    ],
    ids=[
        "bare",
        "list",
        "set",
        "dict",
        "typed-dict",
        "named-tuple",
        "dataclass",
        "computed",
        "root",
        "nullable",
        "union",
    ],
)
def test_it_is_found_wherever_it_stands(model: Any, value: Callable[[float], Any]) -> None:
    responder = compile_responder(model, None, "here")
    assert b"1.5" in responder.respond(value(1.5)).body
    with pytest.raises(InvalidAnswer, match="NaN is no number"):
        responder.respond(value(float("nan")))


@pytest.mark.contract("WEB-128")
def test_a_float_that_may_be_null_is_null() -> None:
    responder = compile_responder(dict[str, float | None], None, "here")
    assert responder.respond({"a": float("nan"), "b": None}).body == b'{"a":null,"b":null}'


@pytest.mark.contract("WEB-129")
@pytest.mark.parametrize("status", [100, 101, 199, 600])
def test_an_envelope_has_the_status_of_an_answer(status: int) -> None:
    with pytest.raises(ValidationError, match="status_code"):
        DataResponse(status_code=status)


@pytest.mark.contract("WEB-057")
async def test_a_location_is_percent_encoded(client) -> None:
    answer = await client.get("/located")
    assert answer.headers["location"] == "/orders/%C3%A4%20b%0D%0ASet-Cookie:%20x=1"
    assert "set-cookie" not in answer.headers


@pytest.mark.contract("WEB-058")
async def test_get_answers_head_without_the_body(client) -> None:
    full, bare = await client.get("/default"), await client.head("/default")
    assert bare.content == b""
    assert (bare.status_code, bare.headers) == (full.status_code, full.headers)
    assert (await client.head("/only-head")).headers["x-head"] == "1"


@pytest.mark.contract("WEB-058")
async def test_a_route_for_head_is_not_replaced_by_get(client) -> None:
    assert (await client.head("/both")).headers["x-head"] == "of its own"
    assert (await client.get("/both")).json() == "both"


@pytest.mark.contract("WEB-059")
async def test_every_answer_says_nosniff(client) -> None:
    for path in ("/default", "/nothing", "/plain", "/wrong", "/nowhere", "/empty"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff", path


# ---- how methods are called, and how long their scope lives

name: ContextVar[str] = ContextVar("name", default="nobody")
log: list[str] = []


class Unit:
    """Something that ends with its request, perhaps badly."""

    def __init__(self) -> None:
        self.fails = False


async def unit() -> AsyncIterator[Unit]:
    made = Unit()
    yield made
    log.append("closed")
    if made.fails:
        raise RuntimeError("the commit failed")


@controller
class Calls:
    unit: Unit

    @get("/thread")
    def thread(self) -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), name.get()]

    @get("/self")
    async def own(self) -> int:
        self.seen = getattr(self, "seen", 0) + 1
        return int(self.seen)

    @get("/buffered")
    async def buffered(self) -> DataResponse[list[str]]:
        return DataResponse(data=list(log))

    @get("/fails")
    async def fails(self) -> DataResponse[str]:
        self.unit.fails = True
        return DataResponse(data="committed")

    @get("/passed")
    async def passed(self) -> Response:
        self.unit.fails = True
        return RedirectResponse("/x")

    @get("/stream")
    async def stream(self) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for _ in range(2):
                yield f"{len(log)};"

        return StreamingResponse(chunks())


@pytest.fixture
async def calls(serving):
    log.clear()
    async with serving(Calls, services=[(Unit, unit)]) as served:
        yield served


@pytest.mark.contract("WEB-060")
async def test_a_synchronous_method_runs_in_a_thread_with_the_context_of_its_request(calls) -> None:
    name.set("Ann")
    assert (await calls.client.get("/thread")).json() == [False, "Ann"]


@pytest.mark.contract("WEB-061")
async def test_a_controller_without_fields_is_not_shared_either(client) -> None:
    assert [(await client.get("/seen")).json() for _ in range(3)] == [1, 1, 1]


@pytest.mark.contract("WEB-061")
async def test_each_request_has_a_controller_of_its_own(calls) -> None:
    answers = await asyncio.gather(*(calls.client.get("/self") for _ in range(20)))
    assert {answer.json() for answer in answers} == {1}


@pytest.mark.contract("WEB-062")
@pytest.mark.parametrize("path", [b"/buffered", b"/passed"])
async def test_the_scope_is_closed_before_the_first_byte(calls, path: bytes) -> None:
    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def note(message: Any) -> None:
            log.append(message["type"])
            await send(message)

        await calls.app(scope, receive, note)

    await replace(calls, app=noting).send("GET", path)
    assert log == ["closed", "http.response.start", "http.response.body"]


@pytest.mark.contract("WEB-062")
@pytest.mark.parametrize("path", ["/fails", "/passed"])
async def test_what_fails_while_the_scope_closes_is_the_answer(calls, path: str) -> None:
    answer = await calls.client.get(path)
    assert answer.status_code == 500
    assert "committed" not in answer.text


@pytest.mark.contract("WEB-131")
@pytest.mark.parametrize("path", ["/buffered", "/streamed"])
async def test_a_provider_may_reset_a_context_variable_and_leave_a_task_group_at_its_end(serving, path: str) -> None:
    user = ContextVar("user", default="nobody")
    ended: list[str] = []

    async def session() -> AsyncIterator[Row]:
        token = user.set("ann")
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield Row(sku="a")
            await asyncio.sleep(0)
            group.cancel_scope.cancel()
        user.reset(token)
        ended.append(user.get())

    @controller
    class Sessions:
        row: Row

        @get("/buffered")
        async def buffered(self) -> str:
            return user.get()

        @get("/streamed")
        async def streamed(self) -> StreamingResponse:
            async def chunks() -> AsyncIterator[str]:
                yield user.get()

            return StreamingResponse(chunks())

    async with serving(Sessions, services=[(Row, session)]) as served:
        answer = await served.client.get(path)
        assert (answer.status_code, answer.text.strip('"'), ended) == (200, "ann", ["nobody"])


@pytest.mark.contract("WEB-063")
async def test_a_stream_keeps_its_scope_to_its_end(calls) -> None:
    assert (await calls.client.get("/stream")).text == "0;0;"
    assert log == ["closed"]


def test_routes_of_bases_are_inherited_and_overridden() -> None:
    class Base:
        @get("/a")
        async def a(self) -> str:
            return "base"

        @get("/b")
        async def b(self) -> str:
            return "base"

    @controller(prefix="/one")
    class One(Base):
        async def b(self) -> str:  # no route any more
            return "one"

        @post("/c")
        async def c(self) -> str:
            return "one"

    http = compile_routes(Container(), [One], Problems())
    assert [(each.method, each.path) for each in http.routes.routes][:2] == [("GET", "/one/a"), ("POST", "/one/c")]
