"""Every row of the service's HTTP table, and what it keeps over a restart."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

# That two processes answer alike is what the other modules show; here they are for the deep run.
PROFILES = ["embedded", "servers"]
if os.environ.get("TEST_WINTRY_PROFILE") == "deep":
    PROFILES.append("servers, two processes")
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("profile", PROFILES, indirect=True)]

BATCH = {"ref": "b1", "sku": "TABLE", "qty": 10}


@pytest.mark.contract("APP-010")
class TestAddBatch:
    async def test_answers_201(self, service: Any) -> None:
        answer = await service.post("/add_batch", **BATCH)

        assert answer.status_code == 201
        assert answer.json() == {"data": "Created Batch", "message": "", "status_code": 201}

    async def test_the_same_again_changes_nothing(self, service: Any) -> None:
        await service.post("/add_batch", **BATCH, eta="2030-01-02")
        before = await service.product("TABLE")

        answer = await service.post("/add_batch", **BATCH, eta="2030-01-02")

        assert answer.status_code == 201
        assert await service.product("TABLE") == before

    @pytest.mark.parametrize("other", [{"qty": 11}, {"sku": "CHAIR"}, {"eta": "2030-01-01"}])
    async def test_a_known_reference_with_other_data_is_a_conflict(self, service: Any, other: dict[str, Any]) -> None:
        await service.post("/add_batch", **BATCH)

        answer = await service.post("/add_batch", **{**BATCH, **other})

        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["message"] == "Batch b1 exists"


@pytest.mark.contract("APP-011")
class TestAllocate:
    async def test_answers_202_and_says_where_to_look(self, service: Any) -> None:
        await service.post("/add_batch", **BATCH)

        answer = await service.allocate("order 1/2", "TABLE", 3)

        assert answer.status_code == 202
        assert answer.json()["data"] == "Allocated"
        assert answer.headers["location"] == "/allocations/order%201%2F2"
        rows = (await service.get(answer.headers["location"])).json()["data"]
        assert rows == [{"orderid": "order 1/2", "sku": "TABLE", "batchref": "b1"}]
        assert (await service.product("TABLE"))["available_quantity"] == 7

    async def test_an_unknown_sku_is_400(self, shared_service: Any) -> None:
        answer = await shared_service.allocate("o1", "NOTHING")

        assert (answer.status_code, answer.json()["message"]) == (400, "Invalid sku NOTHING")

    async def test_out_of_stock_is_409(self, service: Any) -> None:
        await service.post("/add_batch", **BATCH)

        answer = await service.allocate("o1", "TABLE", 11)

        assert (answer.status_code, answer.json()["message"]) == (409, "Out of stock for sku TABLE")
        assert await service.lines("TABLE") == []

    async def test_the_same_line_keeps_its_batch_and_another_quantity_is_a_conflict(self, service: Any) -> None:
        await service.post("/add_batch", **BATCH)
        await service.allocate("o1", "TABLE", 3)

        assert (await service.allocate("o1", "TABLE", 3)).status_code == 202
        assert (await service.allocate("o1", "TABLE", 4)).status_code == 409
        assert await service.lines("TABLE") == [("o1", "b1", 3)]

    async def test_one_order_may_have_several_skus(self, service: Any) -> None:
        await service.add_batch("b1", "TABLE", 5)
        await service.add_batch("b2", "CHAIR", 5)

        await service.allocate("o1", "TABLE")
        await service.allocate("o1", "CHAIR")

        assert await service.view("o1") == [("CHAIR", "b2"), ("TABLE", "b1")]


@pytest.mark.contract("APP-012")
class TestChangeBatchQuantity:
    async def test_lines_that_no_longer_fit_move_to_another_batch(
        self, service: Any, settled: Callable[..., Awaitable[Any]]
    ) -> None:
        await service.add_batch("early", "TABLE", 10)
        await service.add_batch("late", "TABLE", 10, eta="2030-01-01")
        await service.allocate("o1", "TABLE", 6)
        await service.allocate("o2", "TABLE", 4)

        answer = await service.post("/change_batch_quantity", ref="early", qty=6)

        assert answer.status_code == 202

        async def moved() -> bool:
            return bool(await service.lines("TABLE") == [("o1", "early", 6), ("o2", "late", 4)])

        await settled(moved)
        await service.views_agree("TABLE", ["o1", "o2"])

    async def test_a_line_that_finds_no_stock_leaves_the_view(self, service: Any) -> None:
        await service.post("/add_batch", **BATCH)
        await service.allocate("o1", "TABLE", 10)

        await service.post("/change_batch_quantity", ref="b1", qty=0)

        await service.views_agree("TABLE", ["o1"])
        assert await service.view("o1") == []

    async def test_an_unknown_batch_is_404(self, shared_service: Any) -> None:
        assert (await shared_service.post("/change_batch_quantity", ref="nope", qty=1)).status_code == 404


@pytest.mark.contract("APP-013")
class TestReads:
    async def test_an_order_without_lines_is_a_problem(self, shared_service: Any) -> None:
        answer = await shared_service.get("/allocations/nobody")

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_a_sku_may_hold_slashes_and_emoji(self, service: Any) -> None:
        sku = "tables/🪑/a b"
        await service.add_batch("b1", sku, 5)

        product = (await service.get("/products/tables%2F%F0%9F%AA%91/a%20b")).json()

        assert product == {
            "sku": sku,
            "available_quantity": 5,
            "batches": [
                {"reference": "b1", "eta": None, "purchased_quantity": 5, "available_quantity": 5, "lines": []}
            ],
        }

    async def test_an_unknown_product_is_404(self, shared_service: Any) -> None:
        assert (await shared_service.get("/products/nothing")).status_code == 404


@pytest.mark.contract("APP-014")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/allocate", {"orderid": "o", "sku": "s", "qty": 0}),
        ("/allocate", {"orderid": "o", "sku": "s", "qty": -1}),
        ("/allocate", {"orderid": "o", "sku": "s", "qty": 2**31}),
        ("/allocate", {"orderid": "o", "sku": "s", "qty": "3"}),
        ("/allocate", {"orderid": "", "sku": "s", "qty": 1}),
        ("/allocate", {"orderid": "a\0b", "sku": "s", "qty": 1}),
        ("/allocate", {"orderid": "..", "sku": "s", "qty": 1}),
        ("/allocate", {"orderid": "o", "sku": "", "qty": 1}),
        ("/allocate", {"orderid": "o", "sku": "x" * 201, "qty": 1}),
        ("/allocate", {"sku": "s", "qty": 1}),
        ("/add_batch", {"ref": "b", "sku": "s", "qty": -5}),
        ("/add_batch", {"ref": "b", "sku": "s", "qty": 0}),
        ("/add_batch", {"ref": "b", "sku": "s", "qty": 2**31}),
        ("/add_batch", {"ref": "b", "sku": "s\0", "qty": 1}),
        ("/add_batch", {"ref": "b", "sku": ".", "qty": 1}),
        ("/add_batch", {"ref": "", "sku": "s", "qty": 1}),
        ("/add_batch", {"ref": "b", "sku": "s", "qty": 1, "eta": "soon"}),
        ("/change_batch_quantity", {"ref": "b", "qty": -1}),
        ("/change_batch_quantity", {"ref": "b", "qty": 2**31}),
        ("/change_batch_quantity", {"qty": 1}),
    ],
)
async def test_invalid_input_is_422(shared_service: Any, path: str, body: dict[str, Any]) -> None:
    answer = await shared_service.post(path, **body)

    assert answer.status_code == 422
    problem = answer.json()
    assert problem["status"] == problem["status_code"] == 422
    assert problem["errors_total"] == 1


@pytest.mark.contract("APP-015")
async def test_everything_is_found_again_after_a_restart(service: Any) -> None:
    await service.add_batch("b1", "TABLE", 10, eta="2030-01-01")
    await service.allocate("o1", "TABLE", 3)
    before = await service.product("TABLE")

    await service.kill()
    await service.start()

    assert await service.product("TABLE") == before
    assert await service.view("o1") == [("TABLE", "b1")]


async def heard(stream: AsyncIterator[tuple[str, str]]) -> tuple[str, str]:
    """The next event; comments keep a stream that says nothing open for ever."""
    return await asyncio.wait_for(anext(stream), 20)


@pytest.mark.contract("APP-016")
async def test_the_board_is_told_of_every_change(service: Any, open_events: Callable[[Any], Any]) -> None:
    await service.add_batch("b1", "TABLE", 10)
    await service.allocate("o1", "TABLE", 3)

    async with open_events(service) as stream:
        event, data = await heard(stream)
        snapshot = json.loads(data)
        assert event == "snapshot"
        assert [product["sku"] for product in snapshot["products"]] == ["TABLE"]
        assert [row["orderid"] for row in snapshot["latest"]] == ["o1"]

        await service.allocate("o2", "TABLE", 1)

        event, data = await heard(stream)
        assert (event, json.loads(data)) == ("changed", {"sku": "TABLE"})

        await service.add_batch("b2", "CHAIR", 10)
        event, data = await heard(stream)
        assert (event, json.loads(data)) == ("changed", {"sku": "CHAIR"})

        await service.post("/change_batch_quantity", ref="b2", qty=9)
        event, data = await heard(stream)
        assert (event, json.loads(data)) == ("changed", {"sku": "CHAIR"})
