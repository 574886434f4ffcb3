"""The bench harness: what it compares, judges, prints and writes."""

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The harness is no installed package: it is imported from the root, as `python -m benchmarks` does."""
    monkeypatch.syspath_prepend(str(ROOT))
    yield importlib.import_module("benchmarks.harness")
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


class Clock:
    """A clock that only work moves: what the machine does meanwhile does not count."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("benchmarks.harness.measure"), "time", CLOCK)


@pytest.fixture
def report(harness: Any) -> Any:
    return importlib.import_module("benchmarks.harness.report")


def spinning(turns: int, result: object = "same") -> Callable[[], Any]:
    """A sync contender that works for `turns` seconds."""

    @contextmanager
    def contender() -> Iterator[Callable[[], object]]:
        def operation() -> object:
            CLOCK.now += turns
            return result

        yield operation

    return contender


def spinning_async(turns: int, log: list[str] | None = None) -> Callable[[], Any]:
    @asynccontextmanager
    async def contender() -> AsyncIterator[Callable[[], Any]]:
        async def operation() -> str:
            CLOCK.now += turns
            return "same"

        yield operation
        if log is not None:
            log.append("closed")

    return contender


def measured(harness: Any, case: Any, **options: Any) -> Any:
    return asyncio.run(harness.measure(case, **options))


def test_a_ratio_tells_how_much_more_work_we_did(harness: Any) -> None:
    case = harness.Case(name="spin", loops=20, rounds=7)
    case.ours(spinning(40_000))
    case.limit(spinning(10_000))

    assert measured(harness, case).ratio("limit").median == 4


def test_sync_and_async_contenders_meet_in_one_case_and_are_closed(harness: Any) -> None:
    log: list[str] = []
    case = harness.Case(name="spin", rounds=3, loops=3)
    case.ours(spinning_async(10, log))
    case.limit(spinning(10))

    measurement = measured(harness, case)

    assert {name: len(values) for name, values in measurement.rounds.items()} == {"ours": 3, "limit": 3}
    assert log == ["closed"]


def test_different_results_are_not_compared(harness: Any) -> None:
    case = harness.Case(name="spin")
    case.ours(spinning(1, result=[1, 2]))
    case.peer("other")(spinning(1, result=[2, 1]))

    with pytest.raises(harness.ResultsDiffer, match=r"spin: ours gave \[1, 2\], other gave \[2, 1\]"):
        measured(harness, case, smoke=True)

    case.compare = sorted
    assert measured(harness, case, smoke=True).rounds.keys() == {"ours", "other"}


def test_throughput_counts_the_pieces_of_work_in_an_operation(harness: Any) -> None:
    one, many = (harness.Case(name="spin", better="higher", work=work, loops=20, rounds=5) for work in (1, 100))
    for case in (one, many):
        case.ours(spinning(10_000))

    assert measured(harness, many).value("ours") / measured(harness, one).value("ours") == pytest.approx(100)


def test_a_goal_that_is_missed_is_told_in_the_table_and_in_the_file(harness: Any, report: Any, tmp_path: Path) -> None:
    goals = [harness.Goal("limit", at_most=1.5), harness.Goal("slow", at_most=0.9)]
    case = harness.Case(name="spin", goals=goals, note="it spins twice")
    case.left_out("absent", "has no such thing")
    rounds = {"ours": [20.0, 22.0, 21.0], "limit": [10.0, 11.0, 10.5], "slow": [40.0, 44.0, 42.0]}
    measurement = harness.Measurement(case, rounds)

    lines = report.table([measurement], judged=True).splitlines()
    report.store(tmp_path / "uow.json", report.results("uow", [measurement]), ["spin"])

    assert [line.split()[-1] for line in lines[1:4]] == ["µs", "MISSED", "OK"]
    assert lines[4].endswith("left out: has no such thing")
    assert lines[5] == "spin: it spins twice"
    assert json.loads((tmp_path / "uow.json").read_text("utf-8")) == [
        {
            "area": "uow",
            "case": "spin",
            "unit": "µs",
            "better": "lower",
            "ours": 21.0,
            "limit": 10.5,
            "peers": {"slow": 42.0},
            "goal": "≤ 1.5 × limit, ≤ 0.9 × slow",
            "status": "MISSED",
            "note": "it spins twice",
        }
    ]


def test_the_file_keeps_the_cases_that_were_not_run_and_drops_those_that_are_gone(report: Any, tmp_path: Path) -> None:
    path = tmp_path / "results" / "bus.json"
    report.store(
        path, [{"case": "a", "ours": 1}, {"case": "b", "ours": 1}, {"case": "gone", "ours": 1}], ["a", "b", "gone"]
    )

    report.store(path, [{"case": "b", "ours": 2}], ["a", "b"])

    assert json.loads(path.read_text("utf-8")) == [{"case": "a", "ours": 1}, {"case": "b", "ours": 2}]


def test_a_case_without_the_other_side_of_its_goal_is_refused(harness: Any) -> None:
    case = harness.Case(name="spin", goals=[harness.Goal("limit", at_most=1.5)])
    case.ours(spinning(1))

    with pytest.raises(ValueError, match="has no contender 'limit'; it has: ours"):
        measured(harness, case)


def numbered(results: list[int]) -> Callable[[], Any]:
    """A contender whose operations give these results, one after another."""

    @contextmanager
    def contender() -> Iterator[Callable[[], object]]:
        left = iter(results)
        yield lambda: next(left)

    return contender


def test_a_case_may_read_its_value_and_further_ones_from_the_results(harness: Any, report: Any, tmp_path: Path) -> None:
    # the comparison and the calibration take two results before the three rounds of two operations
    case = harness.Case(name="load", unit="MiB", figure=sum, loops=2, rounds=3, compare=lambda result: result > 0)
    case.ours(numbered([1, 1, 1, 2, 4, 3, 3, 9, 1]))
    case.limit(numbered([1, 1, 1, 1, 1, 1, 1, 1, 1]))
    case.read("worst", max, unit="ms", goals=[harness.Goal("limit", at_most=2)])

    measurement = measured(harness, case)
    (worst,) = measurement.also
    report.store(
        tmp_path / "web.json", report.results("web", [measurement, worst]), [case.name, *(c.name for c in case.also)]
    )

    assert measurement.rounds == {"ours": [6, 6, 10], "limit": [2, 2, 2]}
    assert worst.rounds["ours"] == [4, 3, 9]
    stored = json.loads((tmp_path / "web.json").read_text("utf-8"))
    assert [(entry["case"], entry["unit"], entry["ours"], entry["status"]) for entry in stored] == [
        ("load", "MiB", 6, "OK"),
        ("load, worst", "ms", 4, "MISSED"),
    ]


def test_a_goal_of_a_further_figure_needs_its_other_side_too(harness: Any) -> None:
    case = harness.Case(name="load")
    case.ours(spinning(1))
    case.read("worst", max, goals=[harness.Goal("limit", at_most=2)])

    with pytest.raises(ValueError, match="'load, worst' has no contender 'limit'"):
        measured(harness, case)


def test_an_operation_can_ask_whether_it_runs_once_only(harness: Any) -> None:
    case = harness.Case(name="load", loops=1, rounds=1)
    seen: list[bool] = []

    @case.ours
    @contextmanager
    def _() -> Iterator[Callable[[], object]]:
        yield lambda: seen.append(case.smoke)

    measured(harness, case, smoke=True)
    assert set(seen) == {True}


@pytest.fixture
def load(harness: Any) -> Any:
    return importlib.import_module("benchmarks.harness.load")


async def answering(
    load: Any, answer: Callable[[int, str, bytes], list[bytes]], requests: list[bytes], **options: float
) -> Any:
    """Send requests by two clients to a server, which answers each with some pieces; (connection, path, body)."""
    numbers = iter(range(100))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = head.partition("content-length: ")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                pieces = answer(number, head.split()[1], body)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if not pieces:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await load.Clients([f"http://127.0.0.1:{port}"], 2, **options).send(requests)


def test_load_gives_the_answers_in_the_order_of_the_requests_over_connections_that_stay(load: Any) -> None:
    connections: set[int] = set()

    def answer(number: int, path: str, body: bytes) -> list[bytes]:
        connections.add(number)
        said = json.dumps({"path": path, "heard": json.loads(body) if body else None}).encode()
        return [b"HTTP/1.1 202 Accepted\r\nContent-", b"Length: %d\r\n\r" % len(said), b"\n" + said[:3], said[3:]]

    requests = [load.request("GET", "/0"), *(load.request("POST", f"/{n}", {"n": n}) for n in range(1, 10))]
    burst = asyncio.run(answering(load, answer, requests))

    assert burst.told() == [(202, {"path": f"/{n}", "heard": {"n": n} if n else None}) for n in range(10)]
    assert connections == {0, 1}
    assert all(0 < latency <= burst.seconds for latency in burst.latencies)


def test_load_fails_where_an_answer_does(load: Any) -> None:
    def cut(number: int, path: str, body: bytes) -> list[bytes]:
        return []

    def endless(number: int, path: str, body: bytes) -> list[bytes]:
        return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(answering(load, cut, [load.request("GET", "/")]))
    assert caught.group_contains(ConnectionResetError)
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(answering(load, endless, [load.request("GET", "/")]))
    assert caught.group_contains(ValueError, match="without content-length")


def test_load_does_not_wait_for_ever(load: Any) -> None:
    def begun(number: int, path: str, body: bytes) -> list[bytes]:
        return [b"HTTP/1.1 200 OK"]

    with pytest.raises(TimeoutError):
        asyncio.run(answering(load, begun, [load.request("GET", "/")], patience=0.05))


def test_a_percentile_is_a_latency_that_so_many_do_not_exceed(load: Any) -> None:
    burst = load.Burst([], [float(n) for n in range(100, 0, -1)])

    assert [burst.percentile(percent) for percent in (50, 99, 100)] == [50, 99, 100]
