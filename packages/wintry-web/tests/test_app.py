"""The application: what it finds, the one report, the order of its beginning and its end."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from wintry.web import App, NotReachable, StartError, WinterSettings
from wintry.web.components import Components, ordered
from wintry.web.testing import client

pytestmark = pytest.mark.anyio

numbers = itertools.count()
MakePackage = Callable[..., str]

GREETER = """
from wintry.ioc import provider
from wintry.web import DataResponse, controller, get


@provider
class Greeter:
    def greet(self, name: str) -> str:
        return f"Hello {name}"


@controller(prefix="/greetings")
class GreetingsController:
    greeter: Greeter

    @get("/{name}")
    async def greeting(self, name: str) -> DataResponse[str]:
        return DataResponse(data=self.greeter.greet(name))
"""

ORDERS = """
from wintry.web import controller, post


@controller
class OrdersController:
    @post("/orders")
    async def order(self, body: dict[str, int]) -> int:
        return len(body)
"""


STICKING = """
from collections.abc import Iterator

from wintry.ioc import provider
from wintry.web import controller, get


class Door: ...


@provider
def door() -> Iterator[Door]:
    yield Door()
    raise RuntimeError("it sticks")


@controller
class DoorsController:
    door: Door

    @get("/doors")
    async def doors(self) -> int:
        return 1
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Makes an importable package of modules given as text, and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(**modules: str) -> str:
        name = f"made_{next(numbers)}"
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", **modules}.items():
            (folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        made.append(name)
        return name

    yield make
    for module in [each for each in sys.modules if each.partition(".")[0] in made]:
        del sys.modules[module]


class Fake:
    """A component that writes down what is done to it."""

    settings: type[BaseModel] | None = None
    errors: Mapping[type[Exception], int] = {}

    def __init__(self, name: str, log: list[str], *, after: tuple[str, ...] = (), intake: bool = False) -> None:
        self.name = name
        self.log = log
        self.after = after
        self.intake = intake
        self.status = "ok"
        self.failing: Exception | None = None

    def providers(self, settings: Any) -> Mapping[Any, Callable[..., Any]]:
        return {}

    def collecting(self) -> AbstractContextManager[list[Any]]:
        return nullcontext([])

    async def start(self, container: Any) -> None:
        self.log.append(f"start {self.name}")
        if self.failing is not None:
            raise self.failing

    async def check(self) -> Mapping[str, Mapping[str, str]]:
        return {self.name: {"status": self.status, "detail": ""}}

    async def drain(self, deadline: float) -> None:
        self.log.append(f"drain {self.name}")

    async def stop(self) -> None:
        self.log.append(f"stop {self.name}")


@pytest.mark.contract("WEB-310")
class TestFinding:
    async def test_the_controllers_and_providers_of_a_package_answer(self, make_package: MakePackage) -> None:
        app = App(make_package(parts=GREETER), components=[])

        async with client(app) as http:
            answer = await http.get("/greetings/Ada")

        assert answer.json()["data"] == "Hello Ada"

    async def test_the_package_is_that_of_the_calling_module(self, make_package: MakePackage) -> None:
        name = make_package(parts=GREETER, app="from wintry.web import App\n\napp = App(components=[])\n")
        app = importlib.import_module(f"{name}.app").app

        async with client(app) as http:
            assert (await http.get("/greetings/Ada")).status_code == 200

    async def test_names_that_are_defined_after_the_app_count(self, make_package: MakePackage) -> None:
        name = make_package(app="from wintry.web import App\n\napp = App(components=[])\n" + GREETER)
        app = importlib.import_module(f"{name}.app").app

        async with client(app) as http:
            assert (await http.get("/greetings/Ada")).status_code == 200

    def test_outside_of_a_package_it_asks_for_its_name(self) -> None:
        names: dict[str, Any] = {"__name__": "__main__", "__spec__": None}

        with pytest.raises(StartError, match=r'name the package: App\("package", …\)'):
            exec("from wintry.web import App\nApp(components=[])", names)  # noqa: S102 - as a prompt would

    def test_the_modules_are_logged_as_they_are_loaded(
        self, make_package: MakePackage, caplog: pytest.LogCaptureFixture
    ) -> None:
        name = make_package(b="", a="")

        with caplog.at_level(logging.INFO, "wintry"):
            App(name, components=[])

        assert [m for m in caplog.messages if m.startswith("Loading")] == [
            f"Loading module {name}.a",
            f"Loading module {name}.b",
        ]

    def test_its_name_is_the_settings_name_or_the_packages(self, make_package: MakePackage) -> None:
        name = make_package()

        assert App(name, components=[]).settings.name == name
        assert App(name, components=[], settings=WinterSettings(name="shop")).settings.name == "shop"


@pytest.mark.contract("WEB-311")
class TestTheReport:
    async def test_all_faults_stand_in_it(self, make_package: MakePackage) -> None:
        name = make_package(
            parts="""
from wintry.ioc import provider
from wintry.web import controller, get, microservice, on


class Nobody: ...


@provider
class Needy:
    nobody: Nobody


@controller
class First:
    @get("no-slash")
    async def read(self) -> str: ...


@microservice("rediss")
class Ears:
    @on("orders")
    async def hear(self, order: dict[str, str]) -> None: ...
"""
        )

        with pytest.raises(StartError) as caught:
            await App(name, components=[], settings=WinterSettings(jurnal="x")).start()

        report = str(caught.value)
        assert report.startswith("The application cannot start: 4 faults.")
        for part in ("Nobody", "no-slash", "there is no transporter 'rediss'", "did you mean 'journal'"):
            assert part in report

    async def test_what_is_found_on_live_objects_stands_in_it_too(self, make_package: MakePackage) -> None:
        name = make_package(
            parts="""
from wintry.bus import Command, MessageQueue, command_handler
from wintry.ioc import provider
from wintry.models import Model, RequiredId
from wintry.repository import Repository


class Nobody: ...


class Go(Command): ...


class Thing(Model):
    id: str = RequiredId()


@provider
class Needy:
    nobody: Nobody


@provider
class Here(Repository[Thing, str], entity=Thing, for_backend="here"): ...


@provider
class There(Repository[Thing, str], entity=Thing, for_backend="there"): ...


def twin() -> type:
    class Twin(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None: ...

    return Twin


First, Second = provider(twin()), provider(twin())
"""
        )
        settings = WinterSettings(backends=[{"url": "memory://"}])

        with pytest.raises(StartError) as caught:
            await App(name, settings=settings).start()

        report = str(caught.value)
        assert report.startswith("The application cannot start: 4 faults.")
        for part in ("Nobody", "for_backend='here'", "for_backend='there'", "another queue is called Twin too"):
            assert part in report

    async def test_a_module_that_cannot_be_imported_does_not_hide_the_others(self, make_package: MakePackage) -> None:
        name = make_package(broken="import nowhere_to_be_found\n", parts=GREETER.replace("@provider\n", ""))

        with pytest.raises(StartError) as caught:
            await App(name, components=[]).start()

        assert "nowhere_to_be_found" in str(caught.value)
        assert "Greeter" in str(caught.value)

    async def test_the_lifespan_fails_with_it(self, make_package: MakePackage) -> None:
        app = App(make_package(parts=GREETER.replace("@provider\n", "")), components=[])
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "lifespan"}, receive, send)

        assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
        assert "Greeter" in sent[0]["message"]

    async def test_what_cannot_be_reached_is_one_line(self, make_package: MakePackage) -> None:
        log: list[str] = []
        first, second = Fake("first", log), Fake("second", log, after=("first",))
        second.failing = ConnectionError("no database\nat the other end")
        second.errors = {ConnectionError: 503}
        app = App(make_package(), components=[second, first])

        with pytest.raises(NotReachable, match=r"\Ano database at the other end\Z"):
            await app.start()

        assert log == ["start first", "start second", "stop second", "stop first"]


@pytest.mark.contract("WEB-312")
class TestComponents:
    async def test_they_start_in_order_and_end_in_reverse(self, make_package: MakePackage) -> None:
        log: list[str] = []
        store = Fake("store", log)
        bus = Fake("bus", log, after=("store", "not there"))
        ears = Fake("ears", log, after=("bus",), intake=True)

        async with App(make_package(), components=[ears, bus, store]).running():
            pass

        assert log == [
            *("start store", "start bus", "start ears"),
            *("drain ears", "drain bus", "drain store"),
            *("stop ears", "stop bus", "stop store"),
        ]

    async def test_what_brings_work_in_is_drained_while_requests_are_answered(self, make_package: MakePackage) -> None:
        log: list[str] = []
        app = App(make_package(), components=[Fake("bus", log), Fake("ears", log, after=("bus",), intake=True)])

        async with app.running():
            await app.quiesce()
            assert [each for each in log if each.startswith("drain")] == ["drain ears"]

    @pytest.mark.contract("WEB-130")
    async def test_work_of_others_is_taken_up_no_more_before_streams_and_requests_end(
        self, make_package: MakePackage
    ) -> None:
        log: list[str] = []

        class Relaying(Fake):
            async def quiesce(self) -> None:
                log.append(f"quiesce {self.name}")

        class Stubborn(Fake):
            async def quiesce(self) -> None:
                log.append(f"quiesce {self.name}")
                raise RuntimeError("no")

        bus = Relaying("bus", log, after=("store",))
        app = App(
            make_package(),
            components=[
                Fake("store", log),
                bus,
                Stubborn("other", log, after=("bus",)),
                Fake("ears", log, intake=True),
            ],
        )

        async with app.running():
            assert app.http is not None
            app.http.streams.close = lambda: log.append("streams")  # type: ignore[method-assign]  # it is watched
            log.clear()
            await app.quiesce()
            assert log == ["drain ears", "quiesce other", "quiesce bus", "streams"]

        assert log[4:7] == ["drain other", "drain bus", "drain store"]
        assert [each for each in log if each.startswith("quiesce")] == ["quiesce other", "quiesce bus"]

    def test_a_circle_is_told(self) -> None:
        with pytest.raises(ValueError, match="a, b wait for one another"):
            ordered([Fake("a", [], after=("b",)), Fake("b", [], after=("a",))])

    async def test_one_that_does_not_stop_keeps_no_other_from_stopping(self) -> None:
        log: list[str] = []

        class Stubborn(Fake):
            async def stop(self) -> None:
                raise RuntimeError("no")

        components = Components([Fake("a", log), Stubborn("b", log), Fake("c", log)])
        await components.start(None)  # type: ignore[arg-type]  # the fakes do not look at it

        await components.stop()

        assert log[-2:] == ["stop c", "stop a"]


@pytest.mark.contract("WEB-501")
async def test_an_end_that_fails_is_told_to_the_server(make_package: MakePackage) -> None:
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(asked)}

    async def send(message: Any) -> None:
        told.append(message)

    with pytest.raises(RuntimeError, match="it sticks"):
        await App(make_package(doors=STICKING), components=[])({"type": "lifespan"}, receive, send)

    assert [message["type"] for message in told] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert "RuntimeError: it sticks" in told[-1]["message"]


@pytest.mark.contract("WEB-313")
class TestHealth:
    async def test_it_is_ready_while_nothing_is_down(self, make_package: MakePackage) -> None:
        store, broker = Fake("store", []), Fake("broker", [])
        async with client(App(make_package(), components=[store, broker])) as http:
            assert (await http.get("/health/live")).json() == {"status": "ok"}
            assert (await http.get("/health/ready")).json()["status"] == "ok"

            broker.status = "degraded"
            answer = await http.get("/health/ready")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")

            store.status = "down"
            answer = await http.get("/health/ready")
            assert (answer.status_code, answer.json()["checks"]["store"]["status"]) == (503, "down")

    async def test_a_check_that_raises_is_down(self, make_package: MakePackage) -> None:
        class Sick(Fake):
            async def check(self) -> Mapping[str, Mapping[str, str]]:
                raise OSError("disk")

        async with client(App(make_package(), components=[Sick("store", [])])) as http:
            answer = await http.get("/health/ready")

        assert answer.json()["checks"] == {"store": {"status": "down", "detail": "OSError"}}

    async def test_it_is_not_ready_while_it_drains(self, make_package: MakePackage) -> None:
        app = App(make_package(parts=GREETER), components=[])
        async with client(app) as http:
            await app.quiesce()

            assert (await http.get("/health/ready")).status_code == 503
            assert (await http.get("/greetings/Ada")).status_code == 200


@pytest.mark.contract("WEB-314")
class TestStarlette:
    async def test_routes_and_mounts_of_ones_own_are_asked_behind_the_controllers(
        self, make_package: MakePackage
    ) -> None:
        async def page(request: Any) -> PlainTextResponse:
            return PlainTextResponse("own")

        inner = Starlette(routes=[Route("/page", page)])
        routes = [Route("/own", page), Mount("/inner", inner), Route("/greetings/Ada", page)]

        async with client(App(make_package(parts=GREETER), components=[], routes=routes)) as http:
            assert (await http.get("/own")).text == "own"
            assert (await http.get("/inner/page")).text == "own"
            assert (await http.get("/greetings/Ada")).json()["data"] == "Hello Ada"

    def test_the_test_client_of_starlette_runs_it(self, make_package: MakePackage) -> None:
        with TestClient(App(make_package(parts=GREETER), components=[])) as http:
            assert http.get("/greetings/Ada").status_code == 200

    async def test_a_request_before_the_start_is_a_mistake(self, make_package: MakePackage) -> None:
        app = App(make_package(), components=[])
        transport = httpx2.ASGITransport(app=app)

        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            with pytest.raises(RuntimeError, match="has not started"):
                await http.get("/")

    async def test_two_applications_share_nothing(self, make_package: MakePackage) -> None:
        first, second = (App(make_package(parts=GREETER), components=[]) for _ in range(2))

        async with client(first) as one, client(second) as other:
            assert (await one.get("/greetings/A")).status_code == (await other.get("/greetings/B")).status_code == 200

    async def test_hosts_that_are_not_trusted_are_refused(self, make_package: MakePackage) -> None:
        app = App(make_package(), components=[], settings=WinterSettings(trusted_hosts=["shop.example"]))

        async with client(app) as http:
            assert (await http.get("/health/live")).status_code == 400
            assert (await http.get("/health/live", headers={"host": "shop.example"})).status_code == 200

    async def test_an_override_replaces_a_provider(self, make_package: MakePackage) -> None:
        name = make_package(parts=GREETER)
        app = App(name, components=[])

        class Shouter:
            def greet(self, name: str) -> str:
                return name.upper()

        async with client(app, {importlib.import_module(f"{name}.parts").Greeter: Shouter()}) as http:
            assert (await http.get("/greetings/Ada")).json()["data"] == "ADA"


@pytest.mark.contract("WEB-315")
class TestRequestLog:
    async def test_the_id_of_a_request_comes_back(self, make_package: MakePackage) -> None:
        async with client(App(make_package(), components=[])) as http:
            kept = await http.get("/nothing", headers={"x-request-id": "abc-1"})
            made = await http.get("/nothing", headers={"x-request-id": "not acceptable"})

        assert (kept.headers["x-request-id"], kept.json()["request_id"]) == ("abc-1", "abc-1")
        assert len(made.headers["x-request-id"]) == 16

    async def test_every_request_is_one_line(self, make_package: MakePackage, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "wintry.access"):
            async with client(App(make_package(parts=GREETER), components=[])) as http:
                await http.get("/greetings/Ada", headers={"x-request-id": "r1"})
                await http.get("/nothing%0A/at/all")

        lines = [json.loads(record.message) for record in caplog.records if record.name == "wintry.access"]
        assert [(line["method"], line["path"], line["status"]) for line in lines] == [
            ("GET", "/greetings/Ada", 200),
            ("GET", "/nothing\n/at/all", 404),
        ]
        assert lines[0]["request_id"] == "r1"
        assert lines[0]["ms"] >= 0

    async def test_a_client_that_left_is_not_a_failure(
        self, make_package: MakePackage, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = App(make_package(parts=ORDERS), components=[])
        sent: list[Any] = []
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/orders", "query_string": b"", "headers": headers}

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        with caplog.at_level(logging.INFO, "wintry.access"):
            async with app.running():
                await app(scope, receive, send)

        line = next(json.loads(record.message) for record in caplog.records if record.name == "wintry.access")
        assert (sent, line["status"]) == ([], 499)
