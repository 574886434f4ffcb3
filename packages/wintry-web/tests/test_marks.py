"""The marks and what they refuse."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from wintry import web
from wintry.web import DefinitionError, catches, collecting, controller, get, microservice, on, options, post
from wintry.web.marks import CHANNELS, CONTROLLER, MICROSERVICE, ROUTES

pytestmark = pytest.mark.anyio


@pytest.mark.contract("WEB-001")
def test_a_marked_class_is_built_by_hand_with_keywords() -> None:
    @controller(prefix="/x", tags=["X"])
    class Marked:
        number: int
        text: str

        @get("/a")
        async def a(self) -> str:
            return f"{self.text}{self.number}"

    marked = Marked(number=1, text="a")  # type: ignore[call-arg]  # mypy sees it; local classes of tests are untyped
    assert (marked.number, marked.text) == (1, "a")
    with pytest.raises(TypeError):
        Marked()


@pytest.mark.contract("WEB-001")
async def test_a_marked_method_is_the_method_it_was() -> None:
    @controller
    class Marked:
        @get("/a")
        async def a(self) -> str:
            return "a"

    assert await Marked().a() == "a"


@pytest.mark.contract("WEB-002")
async def test_every_verb_answers_its_method(serving) -> None:
    methods: dict[str, Any] = {
        verb: getattr(web, verb)("/x")(_method(verb)) for verb in ("get", "post", "put", "patch", "delete", "options")
    }
    made = controller(type("Verbs", (), {"__module__": __name__, **methods}))
    async with serving(made) as served:
        for verb in methods:
            assert (await served.client.request(verb.upper(), "/x")).json() == verb


def _method(verb: str) -> Any:
    async def method(self: object) -> str:
        return verb

    return method


@pytest.mark.contract("WEB-002")
async def test_several_verbs_may_stand_on_one_method(serving) -> None:
    @controller
    class Both:
        @get("/x")
        @post("/x")
        async def both(self) -> str:
            return "both"

    async with serving(Both) as served:
        assert (await served.client.get("/x")).json() == (await served.client.post("/x")).json() == "both"
        assert {each.name for each in served.http.routes.routes} >= {"both.both_get", "both.both_post"}


def broken() -> Iterator[tuple[Any, str]]:
    yield lambda: get("a"), 'does not begin with a slash\n  → write "/a"'
    yield lambda: get("/a/{x}b"), '"{x}b" in the path "/a/{x}b" is no parameter'
    yield lambda: get("/{x:int}"), "the annotation of the method says the type"
    yield lambda: get("/{x}/{x}"), "has two parameters named x"
    yield lambda: get("/{p:path}/b"), "stands before the end"
    yield lambda: get("/a", status_code=99), "99 is no status of an answer"
    yield lambda: get("/a", responses={999: "x"}), "999 is no status of an answer"
    yield lambda: catches(ValueError, 200), "200 is not the status of an error"
    yield lambda: on(""), "the channel has no name"


@pytest.mark.contract("WEB-003")
@pytest.mark.parametrize(("mark", "reason"), list(broken()))
def test_what_is_wrong_with_a_mark_is_said_where_it_stands(mark: Any, reason: str) -> None:
    async def method(self: object) -> None: ...

    with pytest.raises(DefinitionError) as raised:
        mark()(method)
    assert reason in str(raised.value)
    assert raised.value.place.endswith("method")


@pytest.mark.contract("WEB-004")
def test_collecting_gathers_faults_and_leaves_classes_importable() -> None:
    with collecting() as faults:

        @controller(prefix="no-slash")
        class Marked:
            @get("also-none")
            async def a(self) -> None: ...

    assert isinstance(Marked, type)
    assert [each.reason for each in faults] == [
        'the path "also-none" does not begin with a slash',
        'the path "no-slash" does not begin with a slash',
    ]
    with pytest.raises(DefinitionError):
        get("none-again")(Marked.a)


@pytest.mark.contract("WEB-005")
def test_marks_are_attributes_and_nothing_else() -> None:
    @microservice("redis")
    class Heard:
        @on("orders", broadcast=True)
        @on("lines")
        async def heard(self) -> None: ...

    @microservice
    class Default:
        @options("/x")
        async def x(self) -> None: ...

    channels = getattr(Heard.heard, CHANNELS)
    assert [(each.channel, each.broadcast) for each in channels] == [("orders", True), ("lines", False)]
    assert vars(Heard)[MICROSERVICE].transporter == "redis"
    assert vars(Default)[MICROSERVICE].transporter is None
    assert [each.method for each in getattr(Default.x, ROUTES)] == ["OPTIONS"]

    @controller
    class Base: ...

    class Derived(Base): ...

    assert CONTROLLER not in vars(Derived)
    assert web.is_controller(Base)
    assert not web.is_controller(Derived)


def test_errors_are_starlette_s_too() -> None:
    error = web.NotFoundError("order-7")
    assert isinstance(error, HTTPException)
    assert (error.status_code, str(error)) == (404, "order-7")
