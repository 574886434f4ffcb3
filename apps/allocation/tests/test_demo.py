"""The feeding of the demonstration, at its edge: a service that does not do what it is asked."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from allocation.demo import feed
from allocation.demo.day import Day
from allocation.demo.errors import DemoError

pytestmark = [pytest.mark.anyio, pytest.mark.contract("APP-214")]

DAY = Day(
    [
        '{"add_batch": {"ref": "b1", "sku": "TABLE", "qty": 10}}',
        '{"change_batch_quantity": {"ref": "b1", "qty": 5}}',
    ]
)
TABLE = {"sku": "TABLE", "batches": [{"reference": "b1", "purchased_quantity": 10, "lines": []}]}


def nothing() -> None: ...


def feeding(answer: httpx2.Response) -> feed.Feed:
    transport = httpx2.MockTransport(lambda request: answer)
    return feed.Feed(httpx2.AsyncClient(transport=transport, base_url="http://service"), DAY)


async def test_a_change_that_is_not_heard_ends_it(monkeypatch: pytest.MonkeyPatch, publisher: Any) -> None:
    monkeypatch.setattr(feed, "APPLIED_SECONDS", 0.1)
    feeder = feeding(httpx2.Response(200, json=TABLE))

    with pytest.raises(DemoError, match=r"has not heard within 0\.1 s that b1 has a new quantity; give the demo"):
        await feeder.change_quantities(publisher, nothing)

    assert publisher.on("change_batch_quantity") == [{"ref": "b1", "qty": 5}]


async def test_a_failure_of_the_service_ends_it() -> None:
    with pytest.raises(DemoError, match=r"^POST http://service/add_batch was answered 503$"):
        await feeding(httpx2.Response(503)).add_batches(nothing)
