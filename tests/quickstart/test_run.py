"""What the tutorial shows of its application is what it does, on PostgreSQL, MongoDB and Redis."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import MongoClient

TEXT = (Path(__file__).parent / "text.md").read_text("utf-8")


@pytest.mark.contract("APP-101")
class TestStart:
    def test_every_module_is_announced_as_in_the_text(self, shared_tutorial: Any) -> None:
        line = re.compile(r"^INFO:     \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| Loading module (tuto\.\w+)$", re.MULTILINE)

        assert line.findall(shared_tutorial.said()) == sorted(line.findall(TEXT))

    def test_the_server_says_what_it_says_in_the_text(self, shared_tutorial: Any) -> None:
        said = shared_tutorial.said()

        for line in ("Started reloader process", "Started server process", "Application startup complete."):
            assert f"INFO:     {line}" in TEXT
            assert f"INFO:     {line}" in said


@pytest.mark.contract("APP-102")
class TestAnswers:
    def test_a_batch_is_created(self, shared_tutorial: Any) -> None:
        answer = shared_tutorial.add_batch("lamp-1", "LAMP", 10, eta="2030-01-02")

        assert answer.status_code == 200
        assert answer.json() == {"data": "Created Batch", "message": "", "status_code": 200}
        shared_tutorial.says("| Created Batch\n")

    def test_a_line_is_allocated_and_seen(self, shared_tutorial: Any) -> None:
        shared_tutorial.add_batch("table-1", "TABLE", 10)

        answer = shared_tutorial.allocate("table-order", "TABLE", 3)

        assert answer.status_code == 202
        assert answer.json() == {"data": "Allocated", "message": "", "status_code": 202}
        view = shared_tutorial.http.get("/allocations/table-order")
        row = {"orderid": "table-order", "sku": "TABLE", "batchref": "table-1"}
        assert view.status_code == 200
        assert view.json() == {"data": [row], "message": "", "status_code": 200}
        shared_tutorial.says("| Allocated OrderLine(sku='TABLE', qty=3, orderid='table-order')\n")
        shared_tutorial.says("| Synced Allocation View\n")

    def test_a_shipment_waits_for_the_stock_and_the_later_one_for_the_earlier(self, shared_tutorial: Any) -> None:
        shared_tutorial.add_batch("bed-late", "BED", 1, eta="2031-01-01")
        shared_tutorial.add_batch("bed-early", "BED", 1, eta="2030-01-01")
        shared_tutorial.add_batch("bed-here", "BED", 1)

        for order in ("bed-a", "bed-b", "bed-c"):
            assert shared_tutorial.allocate(order, "BED", 1).status_code == 202

        assert [shared_tutorial.batch_of(order) for order in ("bed-a", "bed-b", "bed-c")] == [
            "bed-here",
            "bed-early",
            "bed-late",
        ]

    def test_an_unknown_sku_is_refused_in_the_envelope(self, shared_tutorial: Any) -> None:
        answer = shared_tutorial.allocate("o", "NOTHING", 1)

        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"data": None, "message": "Invalid sku NOTHING", "status_code": 400}

    def test_an_order_without_lines_is_not_found(self, shared_tutorial: Any) -> None:
        answer = shared_tutorial.http.get("/allocations/nobody")

        assert answer.status_code == 404
        assert (answer.json()["message"], answer.json()["data"]) == ("nobody", None)

    def test_what_comes_in_is_validated(self, shared_tutorial: Any) -> None:
        assert shared_tutorial.add_batch("x", "X", "many").status_code == 422

    def test_writes_are_in_postgresql_and_the_view_is_in_mongodb(self, shared_tutorial: Any) -> None:
        shared_tutorial.add_batch("sofa-1", "SOFA", 10)
        shared_tutorial.allocate("sofa-order", "SOFA", 1)

        async def products() -> list[str]:
            connection = await asyncpg.connect(shared_tutorial.urls["postgres"])
            try:
                return [row["sku"] for row in await connection.fetch("SELECT sku FROM products WHERE sku = 'SOFA'")]
            finally:
                await connection.close()

        assert asyncio.run(products()) == ["SOFA"]
        with MongoClient[dict[str, Any]](shared_tutorial.urls["mongodb"]) as client:
            database = client.get_default_database()
            assert database.list_collection_names() == ["allocations_view_models"]
            assert database.allocations_view_models.count_documents({"sku": "SOFA", "batchref": "sofa-1"}) == 1


@pytest.mark.contract("APP-103")
def test_the_documentation_has_the_three_endpoints(shared_tutorial: Any) -> None:
    page = shared_tutorial.http.get("/docs")
    described = shared_tutorial.http.get("/openapi.json").json()

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    operations = {
        (method, path): operation["tags"]
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    assert operations == {
        ("post", "/add_batch"): ["Products"],
        ("post", "/allocate"): ["Products"],
        ("get", "/allocations/{orderid}"): ["Products"],
    }


@pytest.mark.contract("APP-104")
def test_what_the_publisher_sends_is_heard_by_others_and_by_its_own_listener(shared_tutorial: Any) -> None:
    shared_tutorial.add_batch("desk-1", "DESK", 10)
    with shared_tutorial.broker.pubsub(ignore_subscribe_messages=True) as others:
        others.subscribe("line_allocated")
        others.get_message(timeout=5)

        shared_tutorial.allocate("desk-order", "DESK", 1)

        heard: dict[str, Any] | None = None
        while heard is None or json.loads(heard["data"])["sku"] != "DESK":
            heard = others.get_message(timeout=30)
            assert heard is not None, "nothing was PUBLISHed"
    sent = json.loads(heard["data"])
    assert sent == {"id": sent["id"], "orderid": "desk-order", "sku": "DESK", "batchref": "desk-1"}
    view = f"AllocationsViewModel(id={sent['id']!r}, orderid='desk-order', sku='DESK', batchref='desk-1')"
    shared_tutorial.says(f"| Hey look, a line've been allocated from redis: {view}\n")


@pytest.mark.contract("APP-105")
def test_a_published_change_deallocates_and_reallocates(shared_tutorial: Any) -> None:
    shared_tutorial.add_batch("chair-1", "CHAIR", 10)
    shared_tutorial.add_batch("chair-2", "CHAIR", 10, eta="2030-01-01")
    shared_tutorial.allocate("chair-a", "CHAIR", 2)
    shared_tutorial.allocate("chair-b", "CHAIR", 7)
    assert (shared_tutorial.batch_of("chair-a"), shared_tutorial.batch_of("chair-b")) == ("chair-1", "chair-1")

    shared_tutorial.broker.publish("change_batch_quantity", '{"ref": "chair-1", "qty": 3}')

    shared_tutorial.says("| Event from Redis: ref='chair-1' qty=3\n")
    shared_tutorial.says("| Deallocated orders with: orderid=chair-b, sku=CHAIR\n")
    shared_tutorial.says("| Allocated OrderLine(sku='CHAIR', qty=7, orderid='chair-b')\n", times=2)
    shared_tutorial.says("orderid='chair-b', sku='CHAIR', batchref='chair-2')\n")
    assert (shared_tutorial.batch_of("chair-a"), shared_tutorial.batch_of("chair-b")) == ("chair-1", "chair-2")
    # One is left of the first batch and three of the second.
    for order, qty, batch in [("chair-c", 2, "chair-2"), ("chair-d", 1, "chair-1"), ("chair-e", 2, None)]:
        shared_tutorial.allocate(order, "CHAIR", qty)
        assert shared_tutorial.batch_of(order) == batch


@pytest.mark.contract("APP-106")
def test_a_changed_module_is_reloaded(tutorial: Any) -> None:
    tutorial.add_batch("shelf-1", "SHELF", 10)
    controllers = tutorial.package / "controllers.py"
    text = controllers.read_text("utf-8")

    controllers.write_text(text.replace('data="Created Batch"', 'data="There it is"'), "utf-8")

    tutorial.wait_until_up(starts=2)
    assert "Reloading..." in tutorial.said()
    assert tutorial.add_batch("shelf-2", "SHELF", 10).json()["data"] == "There it is"
    tutorial.allocate("shelf-order", "SHELF", 10)
    assert tutorial.batch_of("shelf-order") == "shelf-1"
    tutorial.says("orderid='shelf-order', sku='SHELF', batchref='shelf-1')\n")


@pytest.mark.contract("APP-107")
@pytest.mark.parametrize("end", ["interrupt", "terminate"])
def test_it_ends_in_order(tutorial: Any, settled: Callable[[Callable[[], Any]], Any], end: str) -> None:
    tutorial.add_batch(f"{end}-1", end, 10)
    tutorial.allocate(f"{end}-order", end, 1)

    assert getattr(tutorial, end)() == 0

    said = tutorial.said()
    assert said.count("Application shutdown complete.") == 1
    assert not re.search(r"Traceback|ERROR|WARNING|Warning|never (awaited|retrieved)", said), said
    settled(tutorial.gone)
