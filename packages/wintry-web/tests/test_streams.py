"""Server-sent events."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from wintry.web import EventStream, NotFoundError, ServerSentEvent, Streams, controller, get

pytestmark = pytest.mark.anyio


@pytest.mark.contract("WEB-090")
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ServerSentEvent(data="x"), "data: x\r\n\r\n"),
        (ServerSentEvent(data={"sku": "é"}), 'data: {"sku":"é"}\r\n\r\n'),
        (ServerSentEvent(data="a\nb\r\nc\rd\u2028e"), "data: a\r\ndata: b\r\ndata: c\r\ndata: d\u2028e\r\n\r\n"),
        (ServerSentEvent(data="", event="e", id="1", retry=5), "event: e\r\nid: 1\r\nretry: 5\r\ndata: \r\n\r\n"),
        (ServerSentEvent(comment="hi\nho"), ": hi\r\n: ho\r\n\r\n"),
        (ServerSentEvent(data="x", event="a\ndata: y", id="1\0\r2"), "event: a data: y\r\nid: 1 2\r\ndata: x\r\n\r\n"),
    ],
)
def test_an_event_as_it_goes_over_the_wire(event: ServerSentEvent, text: str) -> None:
    assert event.encode() == text.encode()


closed: list[str] = []


class Resource:
    """Something of the request's scope that ends with it."""


async def resource() -> AsyncIterator[Resource]:
    yield Resource()
    closed.append("scope")


class Gate:
    """Lets the test decide when a source goes on."""

    opened = anyio.Event()


@controller
class Board:
    resource: Resource

    @get("/generator")
    async def generator(self) -> AsyncIterator[ServerSentEvent]:
        try:
            yield ServerSentEvent(data=1, event="first")
            yield ServerSentEvent(data=len(closed))
        finally:
            closed.append("source")

    @get("/stream/{name}")
    async def stream(self, name: str) -> EventStream:
        if name == "none":
            raise NotFoundError(name)
        return EventStream(self.generator(), headers={"x-board": name})

    @get("/silent")
    async def silent(self) -> EventStream:
        async def source() -> AsyncIterator[ServerSentEvent]:
            try:
                await anyio.sleep_forever()
                yield ServerSentEvent()
            finally:
                closed.append("source")

        return EventStream(source(), ping=0.01)

    @get("/fast")
    async def fast(self) -> EventStream:
        async def source() -> AsyncIterator[ServerSentEvent]:
            try:
                for number in range(1000):
                    yield ServerSentEvent(data=number)
                await anyio.sleep_forever()
            finally:
                closed.append("source")

        return EventStream(source(), buffer=10, ping=0)

    @get("/breaks")
    async def breaks(self) -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data="x")
        raise RuntimeError("secret")


@pytest.fixture
async def served(serving):
    closed.clear()
    async with serving(Board, services=[(Resource, resource)]) as served:
        yield served


class Client:
    """A client that listens until it is told to leave, as slowly as it likes."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.gone = anyio.Event()
        self.sent: list[Any] = []
        self.heard = anyio.Event()
        self.stuck: Callable[[Any], bool] = lambda message: False

    async def listen(self, path: str) -> None:
        async def receive() -> Any:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if self.stuck(message):
                await anyio.sleep_forever()
            self.sent.append(message)
            if message["type"] == "http.response.body":
                self.heard.set()

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "state": {}}
        await self.app(scope, receive, send)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


@pytest.mark.contract("WEB-091")
async def test_an_async_generator_of_events_is_a_stream(served) -> None:
    client = Client(served.app)
    await client.listen("/generator")
    start = client.sent[0]
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert client.text == "event: first\r\ndata: 1\r\n\r\ndata: 0\r\n\r\n"
    assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.contract("WEB-091")
@pytest.mark.parametrize("path", ["/silent", "/stream/blue"])
async def test_head_is_told_the_headers_and_does_not_wait_for_events(served, path: str) -> None:
    with anyio.fail_after(5):
        answer = await served.client.head(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.content == b""
    assert len(served.http.streams) == 0


@pytest.mark.contract("WEB-092")
async def test_the_scope_and_the_source_end_with_the_stream(served) -> None:
    await Client(served.app).listen("/generator")
    assert closed == ["source", "scope"]


@pytest.mark.contract("WEB-091")
async def test_a_method_may_answer_with_a_stream_or_raise_before_it(served) -> None:
    client = Client(served.app)
    await client.listen("/stream/blue")
    assert dict(client.sent[0]["headers"])[b"x-board"] == b"blue"
    assert (await served.client.get("/stream/none")).status_code == 404


@pytest.mark.contract("WEB-093")
async def test_pings_in_silence_and_the_end_when_the_client_leaves(served) -> None:
    client = Client(served.app)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.listen, "/silent")
            await client.heard.wait()
            assert client.text.startswith(": ping")
            client.gone.set()
    assert closed == ["source", "scope"]
    assert len(served.http.streams) == 0


@pytest.mark.contract("WEB-094")
async def test_a_slow_client_is_dropped(served) -> None:
    client = Client(served.app)
    client.stuck = lambda message: message["type"] == "http.response.body"
    with anyio.fail_after(5):
        await client.listen("/fast")
    assert closed == ["source", "scope"]


@pytest.mark.contract("WEB-094")
async def test_a_burst_does_not_drop_a_client_that_keeps_up(served) -> None:
    client = Client(served.app)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.listen, "/fast")
            while "data: 999" not in client.text:
                client.heard = anyio.Event()
                await client.heard.wait()
            client.gone.set()
    assert client.text.count("data: ") == 1000


@pytest.mark.contract("WEB-095")
async def test_closing_ends_all_streams_and_those_that_begin_later(served) -> None:
    client, late = Client(served.app), Client(served.app)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.listen, "/silent")
            await client.heard.wait()
            assert len(served.http.streams) == 1
            served.http.streams.close()
        await late.listen("/silent")
    for each in (client, late):
        assert each.sent[-1]["more_body"] is False
    assert closed == ["source", "scope"] * 2


@pytest.mark.contract("WEB-096")
async def test_a_source_that_breaks_is_logged_and_the_stream_completed(served, caplog) -> None:
    client = Client(served.app)
    await client.listen("/breaks")
    assert client.text == "data: x\r\n\r\n"
    assert "RuntimeError: secret" in caplog.text
    assert client.sent[-1]["more_body"] is False


@pytest.mark.contract("WEB-097")
def test_generators_say_what_they_give(faults) -> None:
    @controller
    class Wrong:
        @get("/a")
        async def untyped(self):  # type: ignore[no-untyped-def]  # the fault under test
            yield ServerSentEvent()

        @get("/b")
        def synchronous(self) -> Any:
            yield ServerSentEvent()

    first, second = faults(Wrong)
    assert "Wrong.untyped: is an async generator" in first
    assert "AsyncIterator[ServerSentEvent]" in first
    assert "Wrong.synchronous: is a generator" in second


def test_streams_can_be_closed_when_there_are_none() -> None:
    streams = Streams()
    streams.close()
    assert len(streams) == 0
