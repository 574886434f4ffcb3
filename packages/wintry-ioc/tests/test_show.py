"""Trees, charts and generated source."""

from __future__ import annotations

import traceback
from logging import Logger

import pytest

from wintry.ioc import Container, injectable

pytestmark = pytest.mark.anyio


class Settings: ...


class Request: ...


@injectable
class Session:
    settings: Settings


class Missing: ...


class Bus:
    def __init__(
        self, session: Session, settings: Settings, logger: Logger, many: list[Missing], spare: Missing | None = None
    ) -> None: ...


class Broken:
    def __init__(self, session: Session) -> None:
        raise ValueError("no")


@pytest.fixture
def container() -> Container:
    container = Container()
    for key in (Settings, Bus):
        container.register(key)
    container.register(Session, lifetime="scoped")
    container.register(Broken)
    return container


@pytest.mark.contract("IOC-090")
async def test_the_tree_shows_lifetimes_and_what_made_them(container: Container) -> None:
    m = __name__
    assert container.tree(Bus).splitlines() == [
        f"{m}.Bus (scoped, because of {m}.Session)",
        f"├─ session: {m}.Session (scoped)",
        f"│  └─ settings: {m}.Settings (singleton)",
        f"├─ settings: {m}.Settings (singleton) …",
        "├─ logger: logging.Logger (named after the class that asks)",
        f"├─ many: list[{m}.Missing] (empty)",
        f"└─ spare: {m}.Missing (not provided: None)",
    ]


@pytest.mark.contract("IOC-091")
async def test_the_chart_is_mermaid(container: Container) -> None:
    container.register_context(Request)
    container.register_value(int, 3)
    lines = container.mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    assert '    n0["Settings<br/>singleton"]' in lines
    assert '    n4["Request<br/>context value"]' in lines
    assert '    n5["int<br/>value"]' in lines
    assert "    n1 -- session --> n2" in lines


@pytest.mark.contract("IOC-092")
async def test_the_plan_is_readable_source(container: Container) -> None:
    async with container:
        assert container.plan(Bus) == (
            "def make_bus(scope):\n"
            "    made = scope.made\n"
            "    if 2 in made:\n"
            "        return made[2]\n"
            "    if 3 in made:\n"
            "        session = made[3]\n"
            "    else:\n"
            "        session = made.setdefault(3, Session(settings=settings))\n"
            "    bus = made.setdefault(2, Bus(session=session, settings=settings, logger=logger, many=[], spare=None))\n"
            "    return bus\n"
        )
        assert container.plan(Settings) == "def build_settings(scope):\n    return Settings()\n"
        assert container.plan(list[Settings]).endswith("(items=[settings])\n")


@pytest.mark.contract("IOC-092")
async def test_a_traceback_shows_the_generated_line(container: Container) -> None:
    async with container, container.scope() as scope:
        with pytest.raises(ValueError, match="no") as caught:
            await scope.get(Broken)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert "broken = made.setdefault(4, Broken(session=session))" in [frame.line for frame in frames]
    assert any(frame.filename.startswith(f"<wintry plan for {__name__}.Broken") for frame in frames)
