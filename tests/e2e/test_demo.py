"""The demonstration, run as a user runs it: it starts the service if it must, and a second run prints the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
embedded = pytest.mark.parametrize("profile", ["embedded"], indirect=True)
"""A run has the settings of the service that it feeds, by default those of this profile."""

DAY = Path(__file__).parents[2] / "apps/allocation/src/allocation/demo/day.jsonl"


def free_url() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "allocation.demo",
        *("--data", str(folder / "data"), *arguments),
        cwd=folder,
        env={**os.environ, "COLUMNS": "120"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def demo(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await start(folder, *arguments)
    said, aside = await process.communicate()
    return process.returncode, said.decode(), aside.decode()


async def answers(url: str) -> bool:
    async with httpx2.AsyncClient() as http:
        try:
            await http.get(f"{url}/health/live")
        except httpx2.ConnectError:
            return False
    return True


def cells(line: str) -> list[str]:
    return line.rstrip(" ━╸╺").split()


@embedded
@pytest.mark.contract("APP-211", "APP-212", "APP-213")
async def test_two_runs_print_the_same_tables(make_service: Any) -> None:
    """The first starts the service; the second finds one running, and the same data."""
    service = make_service()
    url = free_url()

    code, said, aside = await demo(service.folder, "--url", url)

    assert (code, "Traceback" in aside) == (0, False), aside
    assert f"No service runs at {url}: started one" in aside
    assert not await answers(url), "the service that it started has ended"
    counts = [aside.rpartition(f"{name} ")[2].split()[1] for name in ("Batches", "Order lines", "New quantities")]
    steps = [next(iter(json.loads(line))) for line in DAY.read_text("utf-8").splitlines()]
    expected = [steps.count(word) for word in ("add_batch", "allocate", "change_batch_quantity")]
    assert counts == [f"{count}/{count}" for count in expected]
    check_tables(said)

    await service.start()
    code, said_again, aside = await demo(service.folder, "--url", service.url)

    assert (code, f"A service runs at {service.url}" in aside) == (0, True), aside
    assert said_again == said
    rows = dict.fromkeys(line.split()[0] for line in said.splitlines() if line.startswith(" BLUE-"))
    for sku in rows:
        product = await service.product(sku)
        assert f"{product['available_quantity']}" in next(
            cells(line) for line in said.splitlines() if line.startswith(f" {sku} ")
        )


def check_tables(said: str) -> None:
    """The table of the stock has all products and their sum, the other one the reasons and who was refused."""
    stock, _, refused = said.partition("Refused")
    products = [
        cells(line) for line in stock.splitlines() if line.startswith((" BLUE-", " OAK-", " RETRO-", " SMALL-"))
    ]
    assert len(products) == 40
    numbers = [[int(number) for number in row[1:]] for row in products]
    total = next(cells(line) for line in stock.splitlines() if line.startswith(" Total"))
    assert [int(number.replace(",", "")) for number in total[1:]] == [
        sum(column) for column in zip(*numbers, strict=True)
    ]
    assert all(bought - used == left >= 0 for _, _, bought, used, left in numbers)
    for reason in (
        "Batch batch-008 exists",
        "Invalid sku OAK-TABEL",
        "Out of stock for sku OAK-DESK",
        "is allocated with",
    ):
        assert reason in refused
    assert "order-0904×1" in refused


@pytest.mark.contract("APP-214")
class TestOneLineErrors:
    async def refused(self, folder: Path, *arguments: str) -> str:
        code, said, aside = await demo(folder, *arguments)
        assert (code, said) == (1, "")
        [line] = aside.splitlines()
        return line

    async def test_another_program_answers(self, tmp_path: Path) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            line = await self.refused(tmp_path, "--url", url)

        assert line == f"demo: what answers at {url} is another program; choose another address with --url"

    async def test_nothing_can_be_started_on_another_machine(self, tmp_path: Path) -> None:
        line = await self.refused(tmp_path, "--url", "http://stock.invalid:8000")

        assert line == "demo: no service answers at http://stock.invalid:8000, and none can be started there from here"

    async def test_the_service_does_not_start(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("not a folder")

        line = await self.refused(tmp_path, "--url", free_url())

        assert line.startswith("demo: the service did not start: allocation: cannot write in ")

    @embedded
    async def test_a_settings_file_is_missing(self, service: Any) -> None:
        code, said, aside = await demo(service.folder, "--url", service.url, "--settings", "none.toml")

        assert (code, said) == (1, "")
        assert aside.splitlines()[-1] == "demo: settings file none.toml: No such file or directory"

    async def test_the_extra_is_missing(self, tmp_path: Path) -> None:
        script = "import sys; sys.modules['rich'] = None; from allocation.demo.__main__ import main; sys.exit(main([]))"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
        )
        _, aside = await process.communicate()

        assert process.returncode == 1
        assert aside.decode() == "demo: rich is missing; install allocation with the extra `demo`\n"


@pytest.mark.contract("APP-213")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_ends_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    url = free_url()
    process = await start(tmp_path, "--url", url)
    assert process.stderr is not None
    assert b"started one" in await process.stderr.readline()
    assert await answers(url)

    process.send_signal(number)
    _, aside = await process.communicate()

    assert process.returncode == 1
    assert aside.decode().splitlines()[-1] == "demo: interrupted; the next run goes on where this one ended"
    assert not await answers(url)
