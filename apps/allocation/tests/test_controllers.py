"""The controllers without a server: the whole application in memory, and its bus replaced where that says more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from allocation.board.hub import BoardHub
from allocation.publisher import Publisher
from allocation.services import InvalidSku, MessageBus
from wintry.web import App, BackendOptions, WinterSettings
from wintry.web.testing import client

pytestmark = pytest.mark.anyio

ERRORS: dict[type[Exception], int] = {InvalidSku: 400}


def make_app() -> App:
    backends = [BackendOptions(name=name, url=f"memory://{name}") for name in ("default", "views")]
    return App("allocation", settings=WinterSettings(backends=backends), errors=ERRORS, exclude=["allocation.app"])


class Answering:
    """In place of the bus: what `handle` gives, or raises."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def handle(self, command: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
async def http(publisher: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with client(make_app(), {Publisher: publisher}) as http:
        yield http


@pytest.mark.contract("APP-011")
async def test_an_order_from_batch_to_view(http: httpx2.AsyncClient, publisher: Any) -> None:
    added = await http.post("/add_batch", json={"ref": "b1", "sku": "TABLE", "qty": 10})
    allocated = await http.post("/allocate", json={"orderid": "o1", "sku": "TABLE", "qty": 3})

    assert (added.status_code, allocated.status_code) == (201, 202)
    assert (await http.get(allocated.headers["location"])).json()["data"] == [
        {"orderid": "o1", "sku": "TABLE", "batchref": "b1"}
    ]
    assert publisher.on("line_allocated") == [{"orderid": "o1", "sku": "TABLE", "qty": 3, "batchref": "b1"}]


@pytest.mark.contract("APP-011")
@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        ("b1", 202, ""),
        (None, 409, "Out of stock for sku TABLE"),
        (InvalidSku("Invalid sku TABLE"), 400, "Invalid sku TABLE"),
    ],
)
async def test_what_the_bus_says_is_the_answer(answer: object, status: int, message: str) -> None:
    async with client(make_app(), {MessageBus: Answering(answer)}) as http:
        said = await http.post("/allocate", json={"orderid": "o1", "sku": "TABLE", "qty": 1})

    assert (said.status_code, said.json()["message"]) == (status, message)


@pytest.mark.contract("APP-014")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/allocate", {"orderid": "o1", "sku": "TABLE", "qty": 0}),
        ("/allocate", {"orderid": "o1", "sku": "TABLE", "qty": 2**31}),
        ("/allocate", {"orderid": "o1", "sku": "TABLE", "qty": "1"}),
        ("/allocate", {"orderid": "", "sku": "TABLE", "qty": 1}),
        ("/allocate", {"orderid": "o\0", "sku": "TABLE", "qty": 1}),
        ("/add_batch", {"ref": "b1", "sku": "TABLE", "qty": -1}),
        ("/add_batch", {"ref": "b1", "sku": "TABLE", "qty": 1, "eta": "soon"}),
        ("/add_batch", {"ref": "b1", "sku": "TABLE", "qty": 1, "eta": 0}),
        ("/add_batch", {"ref": "b1", "sku": "TABLE", "qty": 1, "eta": "0"}),
        ("/change_batch_quantity", {"ref": "b1", "qty": -1}),
        ("/change_batch_quantity", {"ref": "b1"}),
    ],
)
async def test_input_that_is_not_valid_is_422(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await http.post(path, json=body)

    assert (answer.status_code, answer.json()["errors_total"]) == (422, 1)


@pytest.mark.contract("APP-014")
async def test_a_whole_number_may_be_written_with_a_point(http: httpx2.AsyncClient) -> None:
    headers = {"content-type": "application/json"}

    async def status(quantity: str) -> int:
        body = f'{{"ref": "b1", "sku": "TABLE", "qty": {quantity}}}'
        return (await http.post("/add_batch", content=body, headers=headers)).status_code

    assert [await status(each) for each in ("10.0", "1e1", "10.5", "true", '"10"')] == [201, 201, 422, 422, 422]


@pytest.mark.contract("APP-014")
async def test_the_limits_of_a_quantity_are_documented(http: httpx2.AsyncClient) -> None:
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]

    for name, least in {"Allocate": 1, "CreateBatch": 1, "ChangeBatchQuantity": 0}.items():
        quantity = schemas[name]["properties"]["qty"]
        found = quantity.get("minimum", quantity.get("exclusiveMinimum", -1) + 1)
        assert (quantity["type"], found, quantity["maximum"]) == ("integer", least, 2**31 - 1)


@pytest.mark.contract("APP-016")
async def test_a_board_that_falls_behind_is_dropped_and_begins_again_with_a_snapshot() -> None:
    app, stuck = make_app(), asyncio.Event()

    async def connect(sent: list[str], room: int) -> None:
        """Look at the board, and take only so many messages."""

        async def receive() -> dict[str, Any]:
            if taken:
                await stuck.wait()
            taken.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message.get("body", b"").decode())
            if len(sent) > room:
                await stuck.wait()

        taken: list[bool] = []
        scope = {"type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "query_string": b""}
        await app(
            {**scope, "headers": [], "http_version": "1.1", "scheme": "http", "server": ("test", 80)}, receive, send
        )

    async def events(sent: list[str], count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(sent) < count:
                await asyncio.sleep(0.001)
        return [text.partition("\r\n")[0] for text in sent[1:]]

    async with app.running():
        hub, first, second = app.container.get(BoardHub), list[str](), list[str]()
        slow = asyncio.create_task(connect(first, room=2))
        await events(first, 2)
        for number in range(400):
            hub.changed(f"SKU-{number}")
        async with asyncio.timeout(10):
            await slow
        assert first[1].startswith("event: snapshot")
        assert len(first) < 10
        assert not hub.watchers

        again = asyncio.create_task(connect(second, room=1000))
        assert await events(second, 2) == ["event: snapshot"]
        hub.changed("TABLE")
        assert await events(second, 3) == ["event: snapshot", "event: changed"]
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
