"""The pages of the running service in a real browser that can reach nothing but the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from wintry_test_servers.chromium import Browser, Page, browser, program
from wintry_test_servers.plugin import available

# What a browser sees does not depend on the stores.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("profile", ["embedded"], indirect=True)]

LIVE = "document.getElementById('state')?.className === 'live'"


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser of the test's own; where there is none the test is skipped, or fails if it is required."""
    with available("chromium"):
        program()
    async with browser(tmp_path) as opened:
        yield opened


def only_the_service(page: Page, url: str) -> None:
    """The page has asked for nothing elsewhere, and nothing went wrong."""
    asked = [each for each in page.requests if not each.startswith("data:")]
    assert [each for each in asked if not each.startswith(f"{url}/")] == []
    assert page.faults == []


async def product(page: Page, sku: str) -> Any:
    """What a card of the board shows: its heading, and of each batch the words and the width of its bar."""
    return await page.evaluate(f"""
        Array.from(document.querySelectorAll('.product'))
            .filter(card => card.querySelector('h3 span').textContent === {sku!r})
            .map(card => [card.querySelector('h3').innerText.split('\\n').join(' '),
                ...Array.from(card.querySelectorAll('.batch'), batch => [
                    ...batch.innerText.split('\\n').filter(Boolean),
                    Math.round(100 * batch.querySelector('.bar i').getBoundingClientRect().width
                        / batch.querySelector('.bar').getBoundingClientRect().width)])])[0]
    """)


@pytest.mark.contract("APP-220")
async def test_the_board_shows_the_stock_and_every_change_as_it_comes(service: Any, chromium: Browser) -> None:
    await service.add_batch("b1", "TABLE", 10)
    await service.add_batch("b2", "TABLE", 20, eta="2030-01-02")
    await service.add_batch("b3", "CHAIR", 5)
    await service.allocate("o1", "TABLE", 10)
    await service.views_agree("TABLE", ["o1"])

    page = await chromium.open()
    await page.go(f"{service.url}/")
    await page.wait_for(LIVE)
    await page.wait_for("document.querySelectorAll('.product').length === 2")
    assert await product(page, "TABLE") == [
        "TABLE 10 of 30 allocated, 20 available",
        ["b1", "in stock", "10 / 10", 100],
        ["b2", "due 2030-01-02", "0 / 20", 0],
    ]
    assert await product(page, "CHAIR") == ["CHAIR 0 of 5 allocated, 5 available", ["b3", "in stock", "0 / 5", 0]]
    assert "o1 · TABLE" in await page.evaluate("document.getElementById('latest').innerText")

    await service.allocate("o2", "TABLE", 5)  # without a reload, by the stream of events
    await page.wait_for("document.getElementById('latest').innerText.startsWith('o2 · TABLE')")
    await page.wait_for("document.querySelectorAll('.bar i')[2].style.width === '25%'")
    await page.wait_for("document.getAnimations().length === 0")
    assert (await product(page, "TABLE"))[2] == ["b2", "due 2030-01-02", "5 / 20", 25]

    await service.add_batch("b4", "LAMP", 1)
    await page.wait_for("document.querySelectorAll('.product').length === 3")
    only_the_service(page, service.url)


@pytest.mark.contract("APP-221")
async def test_the_board_takes_orders_and_says_why_one_is_refused(service: Any, chromium: Browser) -> None:
    await service.add_batch("b1", "TABLE", 10)
    page = await chromium.open()
    await page.go(f"{service.url}/")
    await page.wait_for(LIVE)

    async def allocate(orderid: str, sku: str, qty: int) -> str:
        await page.evaluate(f"""
            (form => {{
                form.querySelector('output').textContent = '';
                form.elements.orderid.value = {orderid!r};
                form.elements.sku.value = {sku!r};
                form.elements.qty.value = '{qty}';
                form.querySelector('button').click();
            }})(document.querySelector('form[data-path=allocate]'))
        """)
        return str(await page.wait_for("document.querySelector('form[data-path=allocate] output').textContent"))

    assert await allocate("o1", "TABLE", 4) == "Allocated"
    await page.wait_for("document.querySelector('.batch b')?.textContent === '4 / 10'")
    assert page.faults == []

    assert await allocate("o2", "TABLE", 7) == "Out of stock for sku TABLE"
    assert await allocate("o2", "TABEL", 1) == "Invalid sku TABEL"
    assert await service.lines("TABLE") == [("o1", "b1", 4)]


@pytest.mark.contract("APP-222")
async def test_the_documentation_shows_every_operation_without_a_network(service: Any, chromium: Browser) -> None:
    described = (await service.get("/openapi.json")).json()
    operations = sorted(f"{verb.upper()} {path}" for path, verbs in described["paths"].items() for verb in verbs)

    page = await chromium.open()
    await page.go(f"{service.url}/docs")
    await page.wait_for(f"document.querySelectorAll('.opblock').length === {len(operations)}")

    shown = await page.evaluate("""
        Array.from(document.querySelectorAll('.opblock'), block =>
            block.querySelector('.opblock-summary-method').textContent + ' ' +
            block.querySelector('.opblock-summary-path').dataset.path)
    """)
    assert sorted(shown) == operations
    assert "POST /allocate" in operations
    assert described["info"]["title"] in await page.text()
    only_the_service(page, service.url)
    assert all(status == 200 for url, status in page.requests.items() if not url.startswith("data:"))


@pytest.mark.contract("APP-222")
async def test_the_browser_reaches_nothing_but_the_service(service: Any, chromium: Browser) -> None:
    """Not even the service by another name; so the other tests see it when a page needs something from elsewhere."""
    elsewhere = service.url.replace("127.0.0.1", "localhost") + "/health/live"
    page = await chromium.open()
    await page.go(f"{service.url}/")

    said = await page.evaluate(f"fetch({elsewhere!r}, {{ mode: 'no-cors' }}).then(() => 'there', String)")

    assert said == "TypeError: Failed to fetch"
    assert f"net::ERR_NAME_NOT_RESOLVED {elsewhere}" in page.faults
