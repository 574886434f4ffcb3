"""The one error body."""

import json
import logging
import time
from typing import Any, ClassVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from wintry.web import (
    ConflictError,
    DataResponse,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    Problems,
    UnauthorizedError,
    catches,
    controller,
    get,
    post,
)
from wintry.web.errors import InvalidInput

pytestmark = pytest.mark.anyio


class InvalidSku(Exception): ...


class UnknownSku(InvalidSku): ...


class StoreDown(Exception): ...


class UpstreamDown(Exception):
    """As a client of another service raises: `headers` are what that service answered."""

    headers: ClassVar[dict[str, str]] = {"content-length": "7", "set-cookie": "session=secret"}


class Numbers(BaseModel):
    model_config = ConfigDict(extra="forbid")
    xs: list[int] = []


class Picky(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def fine(cls, name: str) -> str:
        raise ValueError(f"not {name}")


RAISED: dict[str, Exception] = {
    "not-found": NotFoundError("order-7"),
    "forbidden": ForbiddenError(),
    "conflict": ConflictError("taken", headers={"X-Why": "so"}),
    "invalid-request": InvalidRequestError("no"),
    "unauthorized": UnauthorizedError(headers={"WWW-Authenticate": "Bearer"}),
    "starlette": HTTPException(418, "tea"),
    "mapped": UnknownSku("Invalid sku X"),
    "long": NotFoundError("n" * 100_000),
    "upstream": UpstreamDown("no answer"),
    "down": StoreDown("postgresql://user:secret@host"),
    "unforeseen": RuntimeError("select secret from users"),
}


@controller
class Failing:
    @get("/raise/{what}")
    async def fail(self, what: str) -> DataResponse[str]:
        raise RAISED[what]

    @catches(InvalidSku, 409)
    @get("/nearer")
    async def nearer(self) -> None:
        raise UnknownSku("nearer")

    @get("/own-validation")
    async def own_validation(self) -> None:
        Numbers.model_validate({"xs": ["secret"]})

    @post("/numbers")
    async def numbers(self, numbers: Numbers) -> int:
        return len(numbers.xs)

    @post("/picky")
    async def picky(self, picky: Picky) -> str:
        return picky.name


@pytest.fixture
async def served(serving):
    async with serving(Failing, errors={InvalidSku: 400, StoreDown: 503, UpstreamDown: 502}) as served:
        yield served


@pytest.mark.contract("WEB-125")
@pytest.mark.parametrize(
    ("detail", "text"),
    [
        (5, "5"),
        ({"field": "sku", "why": ["ü"]}, '{"field": "sku", "why": ["ü"]}'),
        (["a"], '["a"]'),
        ({("a", 1): 2}, "{('a', 1): 2}"),
        (0, "0"),
    ],
)
@pytest.mark.parametrize("how", ["raised", "mapped", "own"])
async def test_a_detail_that_is_no_text_is_told_as_json(serving, detail: Any, text: str, how: str) -> None:
    class Odd(NotFoundError):
        def __init__(self) -> None:
            super().__init__("odd")
            self.detail = detail

    @controller
    class Details:
        @get("/detail")
        async def detail(self) -> None:
            raise HTTPException(400, detail=detail) if how == "raised" else Odd()

    async with serving(Details, errors={Odd: 400} if how == "mapped" else {}) as served:
        answer = await served.client.get("/detail")
    assert answer.status_code == (404 if how == "own" else 400)
    told = answer.json()
    assert (told["detail"], told["message"], told["data"]) == (text, text, None)


@pytest.mark.contract("WEB-123")
async def test_the_method_is_asked_before_its_controller_and_that_before_the_application(serving) -> None:
    @controller
    @catches(KeyError, 400)
    class Levels:
        @catches(LookupError, 404)
        @get("/method")
        async def method(self) -> None:
            raise KeyError("of the method's base")

        @get("/controller")
        async def controller(self) -> None:
            raise KeyError("of the controller")

        @catches(KeyError, 409)
        @get("/application")
        async def application(self) -> None:
            raise IndexError("of the application")

    async with serving(Levels, errors={KeyError: 410, IndexError: 422}) as served:
        statuses = [
            (await served.client.get(f"/{each}")).status_code for each in ("method", "controller", "application")
        ]
        assert statuses == [404, 400, 422]
        paths = served.http.document.as_dict["paths"]
        assert {"400", "404", "410", "422"} <= paths["/method"]["get"]["responses"].keys()


@pytest.mark.contract("WEB-070")
async def test_a_problem_has_the_members_of_rfc_9457_and_of_the_envelope(served) -> None:
    answer = await served.client.get("/raise/not-found")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "order-7",
        "instance": "/raise/not-found",
        "data": None,
        "message": "order-7",
        "status_code": 404,
    }


@pytest.mark.contract("WEB-071")
@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("forbidden", 403, "Forbidden"),
        ("conflict", 409, "taken"),
        ("invalid-request", 400, "no"),
        ("unauthorized", 401, "Unauthorized"),
        ("starlette", 418, "tea"),
    ],
)
async def test_raised_errors_are_their_status(served, what: str, status: int, message: str) -> None:
    answer = await served.client.get(f"/raise/{what}")
    assert (answer.status_code, answer.json()["message"]) == (status, message)


@pytest.mark.contract("WEB-072")
async def test_the_headers_of_a_foreign_exception_stay_inside(served) -> None:
    answer = await served.client.get("/raise/upstream")
    assert answer.status_code == 502
    assert "set-cookie" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.contract("WEB-071")
async def test_headers_of_an_error_are_headers_of_its_answer(served) -> None:
    assert (await served.client.get("/raise/conflict")).headers["x-why"] == "so"
    assert (await served.client.get("/raise/unauthorized")).headers["www-authenticate"] == "Bearer"


@pytest.mark.contract("WEB-072")
async def test_exceptions_map_to_a_status_by_their_nearest_base_and_nearest_declaration(served) -> None:
    answer = await served.client.get("/raise/mapped")
    assert (answer.status_code, answer.json()["message"]) == (400, "Invalid sku X")
    assert (await served.client.get("/nearer")).status_code == 409


@pytest.mark.contract("WEB-072")
async def test_a_mapped_server_error_keeps_its_text_and_says_when_to_come_back(served, caplog) -> None:
    answer = await served.client.get("/raise/down")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text


@pytest.mark.contract("WEB-073")
@pytest.mark.parametrize("path", ["/raise/unforeseen", "/own-validation"])
async def test_a_500_has_the_id_of_its_log_entry_and_no_message(served, caplog, path: str) -> None:
    with caplog.at_level(logging.ERROR, "wintry.web"):
        answer = await served.client.get(path)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    [record] = caplog.records
    assert answer.json()["id"] in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.contract("WEB-074")
async def test_404_and_405_of_the_routes(served) -> None:
    answer = await served.client.get("/nowhere")
    assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")
    answer = await served.client.delete("/numbers")
    assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"
    assert (await served.client.post("/nearer")).headers["allow"] == "GET, HEAD"


@pytest.mark.contract("WEB-075")
async def test_a_bomb_of_errors_is_told_shortly(served) -> None:
    bomb = json.dumps({"xs": ["x"] * 100_000}).encode()
    start = time.process_time()
    answer = await served.client.post("/numbers", content=bomb, headers={"content-type": "application/json"})
    assert time.process_time() - start < 2
    assert answer.status_code == 422
    assert len(answer.content) <= 8 * 1024
    found = answer.json()
    assert (found["errors_total"], len(found["errors"])) == (100_000, 20)
    assert found["errors"][19] == {
        "in": "body",
        "pointer": "#/xs/19",
        "detail": "Input should be a valid integer, unable to parse string as an integer",
        "code": "int_parsing",
    }


@pytest.mark.contract("WEB-075")
@pytest.mark.parametrize("name", ["k" * 300_000, "😀" * 50_000, "\0" * 50_000, "\\" * 100_000])
async def test_names_of_the_client_s_own_do_not_swell_the_answer(served, name: str) -> None:
    body = {f"{name}{number}": 1 for number in range(3)}
    answer = await served.client.post("/numbers", json=body)
    assert answer.status_code == 422
    assert len(answer.content) <= 8 * 1024
    assert answer.json()["errors_total"] == 3


@pytest.mark.contract("WEB-075")
async def test_many_names_that_grow_when_they_are_escaped_do_not_either(served) -> None:
    answer = await served.client.post("/numbers", json={"😀" * 150 + str(number): 1 for number in range(20)})
    assert len(answer.content) <= 8 * 1024
    assert answer.json()["errors_total"] == 20
    assert answer.json()["errors"]


@pytest.mark.contract("WEB-075")
async def test_a_long_name_and_a_long_message_are_cut(served) -> None:
    [named] = (await served.client.post("/numbers", json={"k" * 5000: 1})).json()["errors"]
    [told] = (await served.client.post("/picky", json={"name": "n" * 3000})).json()["errors"]
    assert named["pointer"] == "#/" + "k" * 118 + "…"
    assert len(told["detail"]) == 121


@pytest.mark.contract("WEB-075")
async def test_nor_do_messages_and_paths(served) -> None:
    answer = await served.client.post("/picky", json={"name": "n" * 500_000})
    assert answer.status_code == 422
    assert len(answer.content) <= 2 * 1024
    assert len((await served.client.get("/" + "p" * 30_000)).content) <= 2 * 1024
    told = await served.client.get("/raise/long")
    assert len(told.content) <= 8 * 1024
    assert told.json()["message"].startswith("nnn")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@pytest.mark.contract("WEB-076")
@given(value=json_values | st.fixed_dictionaries({"xs": st.lists(json_values)}))
def test_whatever_is_invalid_can_be_told(value: Any) -> None:
    found: ValidationError | None = None
    try:
        Numbers.model_validate(value)
    except ValidationError as error:
        found = error
    assume(found is not None)
    answer = Problems().answer(InvalidInput(found, {}), {"type": "http", "path": "/x"})
    told = json.loads(answer.body)
    assert told["errors_total"] == found.error_count()
    elsewhere = Problems().answer(InvalidInput(found, {"other": ("query", "other")}), {"type": "http", "path": "/x"})
    assert elsewhere.status == 422  # under a name that binding does not know
    assert len(told["errors"]) == min(20, found.error_count())
    assert len(answer.body) <= 8 * 1024


@pytest.mark.contract("WEB-077")
async def test_a_request_id_is_told(served) -> None:
    async def with_id(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["request_id"] = "r-1"
        await served.app(scope, receive, send)

    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/raise/not-found",
        "query_string": b"",
        "headers": [],
        "state": {},
    }
    await with_id(scope, None, send)
    assert json.loads(told[1]["body"])["request_id"] == "r-1"


@pytest.mark.contract("WEB-078")
async def test_what_is_raised_outside_of_controllers_is_a_problem_too() -> None:
    import httpx2
    from starlette.routing import Route

    async def broken(request: Any) -> None:
        raise RuntimeError("secret")

    async def refused(request: Any) -> None:
        raise ForbiddenError("no entry")

    app = Starlette(
        routes=[Route("/broken", broken), Route("/refused", refused)], exception_handlers=Problems().handlers
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for path, status in (("/broken", 500), ("/refused", 403), ("/nowhere", 404)):
            answer = await client.get(path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status_code"] == status
            assert "secret" not in answer.text
