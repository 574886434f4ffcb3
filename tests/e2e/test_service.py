"""Every row of the service's HTTP table, and what it keeps over a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.anyio

Names = Callable[[str], str]


@pytest.fixture
def batch(own: Names) -> dict[str, Any]:
    """The body of a request for a batch that no other test has."""
    return {"ref": own("b1"), "sku": own("TABLE"), "qty": 10}


@pytest.mark.contract("APP-010")
class TestAddBatch:
    async def test_answers_201(self, shared_service: Any, batch: dict[str, Any]) -> None:
        answer = await shared_service.post("/add_batch", **batch)

        assert answer.status_code == 201
        assert answer.json() == {"data": "Created Batch", "message": "", "status_code": 201}

    async def test_the_same_again_changes_nothing(self, shared_service: Any, batch: dict[str, Any]) -> None:
        await shared_service.post("/add_batch", **batch, eta="2030-01-02")
        before = await shared_service.product(batch["sku"])

        answer = await shared_service.post("/add_batch", **batch, eta="2030-01-02")

        assert answer.status_code == 201
        assert await shared_service.product(batch["sku"]) == before

    @pytest.mark.parametrize("other", [{"qty": 11}, {"sku": "CHAIR"}, {"eta": "2030-01-01"}])
    async def test_a_known_reference_with_other_data_is_a_conflict(
        self, shared_service: Any, batch: dict[str, Any], other: dict[str, Any]
    ) -> None:
        await shared_service.post("/add_batch", **batch)

        answer = await shared_service.post("/add_batch", **{**batch, **other})

        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["message"] == f"Batch {batch['ref']} exists"


@pytest.mark.contract("APP-011")
class TestAllocate:
    async def test_answers_202_and_says_where_to_look(
        self, shared_service: Any, batch: dict[str, Any], own: Names
    ) -> None:
        await shared_service.post("/add_batch", **batch)
        order, sku = own("order 1/2"), batch["sku"]

        answer = await shared_service.allocate(order, sku, 3)

        assert answer.status_code == 202
        assert answer.json()["data"] == "Allocated"
        assert answer.headers["location"] == f"/allocations/{quote(order, safe='')}"
        assert "/" not in answer.headers["location"].removeprefix("/allocations/")
        rows = (await shared_service.get(answer.headers["location"])).json()["data"]
        assert rows == [{"orderid": order, "sku": sku, "batchref": batch["ref"]}]
        assert (await shared_service.product(sku))["available_quantity"] == 7

    async def test_an_unknown_sku_is_400(self, shared_service: Any) -> None:
        answer = await shared_service.allocate("o1", "NOTHING")

        assert (answer.status_code, answer.json()["message"]) == (400, "Invalid sku NOTHING")

    async def test_out_of_stock_is_409(self, shared_service: Any, batch: dict[str, Any]) -> None:
        await shared_service.post("/add_batch", **batch)

        answer = await shared_service.allocate("o1", batch["sku"], 11)

        assert (answer.status_code, answer.json()["message"]) == (409, f"Out of stock for sku {batch['sku']}")
        assert await shared_service.lines(batch["sku"]) == []

    async def test_the_same_line_keeps_its_batch_and_another_quantity_is_a_conflict(
        self, shared_service: Any, batch: dict[str, Any]
    ) -> None:
        await shared_service.post("/add_batch", **batch)
        await shared_service.allocate("o1", batch["sku"], 3)

        assert (await shared_service.allocate("o1", batch["sku"], 3)).status_code == 202
        assert (await shared_service.allocate("o1", batch["sku"], 4)).status_code == 409
        assert await shared_service.lines(batch["sku"]) == [("o1", batch["ref"], 3)]

    async def test_one_order_may_have_several_skus(self, shared_service: Any, own: Names) -> None:
        order, table, chair = own("o1"), own("TABLE"), own("CHAIR")
        await shared_service.add_batch(own("b1"), table, 5)
        await shared_service.add_batch(own("b2"), chair, 5)

        await shared_service.allocate(order, table)
        await shared_service.allocate(order, chair)

        assert await shared_service.view(order) == [(chair, own("b2")), (table, own("b1"))]


@pytest.mark.contract("APP-012")
class TestChangeBatchQuantity:
    async def test_lines_that_no_longer_fit_move_to_another_batch(
        self, shared_service: Any, settled: Callable[..., Awaitable[Any]], own: Names
    ) -> None:
        sku, early, late = own("TABLE"), own("early"), own("late")
        await shared_service.add_batch(early, sku, 10)
        await shared_service.add_batch(late, sku, 10, eta="2030-01-01")
        await shared_service.allocate("o1", sku, 6)
        await shared_service.allocate("o2", sku, 4)

        answer = await shared_service.post("/change_batch_quantity", ref=early, qty=6)

        assert answer.status_code == 202

        async def moved() -> bool:
            return bool(await shared_service.lines(sku) == [("o1", early, 6), ("o2", late, 4)])

        await settled(moved)
        await shared_service.views_agree(sku, ["o1", "o2"])

    async def test_a_line_that_finds_no_stock_leaves_the_view(
        self, shared_service: Any, batch: dict[str, Any], own: Names
    ) -> None:
        await shared_service.post("/add_batch", **batch)
        await shared_service.allocate(own("o1"), batch["sku"], 10)

        await shared_service.post("/change_batch_quantity", ref=batch["ref"], qty=0)

        await shared_service.views_agree(batch["sku"], [own("o1")])
        assert await shared_service.view(own("o1")) == []

    async def test_an_unknown_batch_is_404(self, shared_service: Any) -> None:
        assert (await shared_service.post("/change_batch_quantity", ref="nope", qty=1)).status_code == 404


@pytest.mark.contract("APP-013")
class TestReads:
    async def test_an_order_without_lines_is_a_problem(self, shared_service: Any) -> None:
        answer = await shared_service.get("/allocations/nobody")

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_a_sku_may_hold_slashes_and_emoji(self, shared_service: Any, own: Names) -> None:
        sku = f"tables/🪑/{own('a b')}"
        await shared_service.add_batch(own("b1"), sku, 5)

        product = (await shared_service.get(f"/products/tables%2F%F0%9F%AA%91/{quote(own('a b'))}")).json()

        batch = {"reference": own("b1"), "eta": None, "purchased_quantity": 5, "available_quantity": 5, "lines": []}
        assert product == {"sku": sku, "available_quantity": 5, "batches": [batch]}

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
async def test_the_board_is_told_of_every_change(
    shared_service: Any, open_events: Callable[[Any], Any], own: Names
) -> None:
    service, table, chair = shared_service, own("TABLE"), own("CHAIR")
    await service.add_batch(own("b1"), table, 10)
    await service.allocate(own("o1"), table, 3)
    await service.views_agree(table, [own("o1")])

    async with open_events(service) as stream:
        event, data = await heard(stream)
        snapshot = json.loads(data)
        assert event == "snapshot"
        assert table in [product["sku"] for product in snapshot["products"]]
        assert own("o1") == snapshot["latest"][0]["orderid"]
        assert len(snapshot["latest"]) <= 20

        async def told(sku: str) -> None:
            """Of this change, and of no product but those of this test."""
            while (said := await heard(stream)) != ("changed", json.dumps({"sku": sku}, separators=(",", ":"))):
                assert said[0] == "changed"

        await service.allocate(own("o2"), table, 1)
        await told(table)
        await service.add_batch(own("b2"), chair, 10)
        await told(chair)
        await service.post("/change_batch_quantity", ref=own("b2"), qty=9)
        await told(chair)
