"""What the running service withstands: many at once, crashes at any moment, a stop under load, hostile input."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

import httpx2
import pytest
from wintry_test_servers.service import PROFILES

pytestmark = pytest.mark.anyio

Names = Callable[[str], str]
Settled = Callable[..., Awaitable[Any]]
MEBIBYTE = 1 << 20


@pytest.mark.contract("APP-020")
async def test_stock_for_ten_serves_ten_of_64_concurrent_orders(shared_service: Any, own: Names) -> None:
    sku = own("TABLE")
    await shared_service.add_batch(own("b1"), sku, 10)

    answers = await asyncio.gather(*(shared_service.allocate(f"o{n}", sku) for n in range(64)))

    assert Counter(answer.status_code for answer in answers) == {202: 10, 409: 54}
    accepted = sorted(f"o{n}" for n, answer in enumerate(answers) if answer.status_code == 202)
    assert [order for order, _, _ in await shared_service.lines(sku)] == accepted
    await shared_service.views_agree(sku, [f"o{n}" for n in range(64)])


@pytest.mark.contract("APP-021")
async def test_the_same_line_sent_20_times_at_once_is_allocated_once(shared_service: Any, own: Names) -> None:
    sku = own("TABLE")
    await shared_service.add_batch(own("b1"), sku, 10)

    answers = await asyncio.gather(*(shared_service.allocate("o1", sku, 2) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert await shared_service.lines(sku) == [("o1", own("b1"), 2)]


@pytest.mark.contract("APP-028")
async def test_no_order_is_refused_because_others_were_faster(shared_service: Any, own: Names) -> None:
    sku = own("TABLE")
    await shared_service.add_batch(own("b1"), sku, 10_000)

    async def client(number: int) -> list[int]:
        return [(await shared_service.allocate(f"o{number}-{turn}", sku)).status_code for turn in range(10)]

    answered = await asyncio.gather(*(client(number) for number in range(32)))

    assert {code for codes in answered for code in codes} == {202}


@pytest.mark.contract("APP-022")
class TestTwoBatchesAtOnce:
    async def test_of_one_new_sku_both_are_added(self, shared_service: Any, own: Names) -> None:
        for round_ in range(10):
            sku = own(f"SKU-{round_}")
            bodies = [{"ref": f"{sku}-{n}", "sku": sku, "qty": 1} for n in range(2)]

            answers = await asyncio.gather(*(shared_service.post("/add_batch", **body) for body in bodies))

            assert [answer.status_code for answer in answers] == [201, 201]
            assert len((await shared_service.product(sku))["batches"]) == 2

    async def test_of_one_reference_under_two_skus_one_is_refused(self, shared_service: Any, own: Names) -> None:
        for round_ in range(10):
            bodies = [{"ref": own(f"b{round_}"), "sku": own(f"SKU-{round_}-{n}"), "qty": 1} for n in range(2)]

            answers = await asyncio.gather(*(shared_service.post("/add_batch", **body) for body in bodies))

            assert sorted(answer.status_code for answer in answers) == [201, 409]


async def reached(answered: Collection[object], many: int) -> bool:
    return len(answered) >= many


async def send_stream(service: Any, numbers: range, answered: set[str]) -> None:
    """Eight clients send the orders one after another; what is answered 2xx is noted, what is not is sent again."""
    waiting = iter(numbers)

    async def client() -> None:
        for number in waiting:
            order = f"o{number}"
            while order not in answered:
                try:
                    answer = await service.allocate(order, f"SKU-{number % 5}")
                except httpx2.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    assert answer.status_code in (202, 503), answer.text  # refused is not lost: a store is away
                    if answer.status_code == 202:
                        answered.add(order)

    await asyncio.gather(*(client() for _ in range(8)))


KILLS = 5
# Two streams on the embedded profile, one on each of the others; five on all with TEST_WINTRY_PROFILE=deep.
DEEP = os.environ.get("TEST_WINTRY_PROFILE") == "deep"
CRASHES = [(profile, seed) for profile in PROFILES for seed in range(5 if DEEP else 2 if profile == "embedded" else 1)]


@pytest.mark.contract("APP-023")
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("profile", "seed"), CRASHES, indirect=["profile"])
async def test_a_crash_at_any_moment_loses_and_doubles_nothing(service: Any, settled: Settled, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(5):
        await service.add_batch(f"b{number}", f"SKU-{number}", 1000)
    answered: set[str] = set()
    stream = asyncio.create_task(send_stream(service, range(500), answered))
    kills = sorted(chance.sample(range(20, 480), KILLS))

    for many in kills:
        await settled(partial(reached, answered, many))
        await asyncio.sleep(chance.uniform(0, 0.02))  # not a wait: the moment of the crash is random
        await service.crash(chance)
        await service.start()
    await stream

    assert len(answered) == 500
    for number in range(5):
        sku = f"SKU-{number}"
        orders = [f"o{n}" for n in range(number, 500, 5)]
        lines = await service.lines(sku)
        assert [order for order, _, _ in lines] == sorted(orders)
        await service.views_agree(sku, orders)


@pytest.mark.contract("APP-024")
async def test_a_stop_under_load_answers_or_refuses_every_request(service: Any, settled: Settled) -> None:
    await service.add_batch("b1", "TABLE", 10_000)
    answered: list[int] = []
    cut: list[str] = []

    async def client(number: int) -> None:
        for turn in range(1000):
            try:
                answer = await service.allocate(f"o{number}-{turn}", "TABLE")
            except httpx2.ConnectError:
                return  # refused: nobody listens any more
            except httpx2.TransportError as error:
                cut.append(f"{type(error).__name__}: {error}")
                return
            answered.append(answer.status_code)

    clients = [asyncio.create_task(client(number)) for number in range(16)]
    await settled(partial(reached, answered, 50))
    codes = await service.stop()
    await asyncio.gather(*clients)

    assert set(codes) == {0}
    assert set(answered) <= {202, 503}
    accepted = answered.count(202)
    await service.start()
    assert len(await service.lines("TABLE")) >= accepted
    assert cut == []


HOSTILE = [
    "a\0b",
    "'; DROP TABLE products; --",
    '"quoted"',
    "$where",
    "{'$gt': ''}",
    "../../../etc/passwd",
    "..",
    "%2e%2e%2f",
    "🪑" * 50,
    "\u202eright to left",
    "\ud800",
    "line\nbreak\r\n",
    "x" * 201,
]


JSON = {"content-type": "application/json"}
FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("/add_batch", {"ref": "b", "sku": "s", "qty": 1}, "ref"),
    ("/add_batch", {"ref": "b", "sku": "s", "qty": 1}, "sku"),
    ("/allocate", {"orderid": "o", "sku": "s", "qty": 1}, "orderid"),
    ("/allocate", {"orderid": "o", "sku": "s", "qty": 1}, "sku"),
    ("/change_batch_quantity", {"ref": "b", "qty": 1}, "ref"),
]


@pytest.mark.contract("APP-025")
class TestHostileInput:
    @pytest.mark.parametrize("text", HOSTILE)
    async def test_in_every_text_field_is_stored_as_it_is_or_refused(self, shared_service: Any, text: str) -> None:
        refused = "\0" in text or "\ud800" in text or len(text) > 200 or text == ".."
        for path, good, field in FIELDS:
            body = json.dumps({**good, field: text}).encode()

            answer = await shared_service.http.post(f"{shared_service.url}{path}", content=body, headers=JSON)

            assert answer.status_code in ((400, 422) if refused else (201, 202, 400, 404, 409)), (path, answer.text)
        assert (await shared_service.get("/health/live")).status_code == 200

    @pytest.mark.parametrize(
        ("content", "kind", "status"),
        [
            (b"{", "application/json", 400),
            (b"", "application/json", 400),
            (b"\xff\xfe", "application/json", 400),
            (b"[" * 100_000, "application/json", 400),
            (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "application/json", 400),
            (b'"' + b"x" * 3 * MEBIBYTE + b'"', "application/json", 413),
            (b"orderid=o&sku=s&qty=1", "application/x-www-form-urlencoded", 415),
            (b'{"orderid": "o", "sku": "s", "qty": 1}', "text/plain", 415),
            (b"[]", "application/json", 422),
            (b"null", "application/json", 422),
            (b'{"orderid": ["o"], "sku": {}, "qty": 1e400}', "application/json", 422),
            (b'{"orderid": "o", "sku": "s", "qty": NaN}', "application/json", 400),
        ],
    )
    async def test_as_a_body_is_a_problem(self, shared_service: Any, content: bytes, kind: str, status: int) -> None:
        answer = await shared_service.http.post(
            f"{shared_service.url}/allocate", content=content, headers={"content-type": kind}
        )

        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["data"] is None

    async def test_in_a_path_is_looked_up_as_it_is(self, shared_service: Any) -> None:
        for path, status in {
            "/products/..%2f..%2fetc": 404,
            "/products/%00": 422,
            "/allocations/%00": 422,
            "/allocations/%27%22": 404,
            "/allocations/" + "x" * 201: 422,
            "/products/%ff": 404,
            "/allocations/": 404,
        }.items():
            answer = await shared_service.get(path)
            assert answer.status_code == status, path
            assert "Repository" not in answer.text, path
