"""Injected functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Thread

import pytest

from wintry.ioc import Container, DefinitionError, InjectionError, NoContainer, Scope, inject, injected

pytestmark = pytest.mark.anyio


class Settings: ...


class Session: ...


@inject
async def job(day: int, session: Session = injected(), *, settings: Settings = injected()) -> tuple[object, ...]:
    return day, session, settings


@inject
def plain(session: Session = injected(), other: Session = injected()) -> tuple[Session, Session]:
    return session, other


@pytest.fixture
def container() -> Container:
    container = Container()
    container.register(Settings)
    container.register(Session, lifetime="scoped")
    return container


@pytest.mark.contract("IOC-060")
async def test_the_current_scope_is_used(container: Container) -> None:
    async with container, container.scope() as scope:
        session = await scope.get(Session)
        assert await job(1) == (1, session, container.get(Settings))
        assert plain() == (session, session)
        async with container.scope() as inner:
            assert plain()[0] is await inner.get(Session)
        assert plain()[0] is session


@pytest.mark.contract("IOC-061")
async def test_outside_a_scope_one_is_opened_for_the_call(container: Container) -> None:
    async with container:
        first, second = plain(), plain()
        assert first[0] is first[1]
        assert first[0] is not second[0]
        assert (await job(1))[1] is not (await job(1))[1]


@pytest.mark.contract("IOC-061")
async def test_a_task_that_outlives_its_scope_gets_one_of_its_own(container: Container) -> None:
    ended = asyncio.Event()

    async def background() -> object:
        await ended.wait()
        return (await job(1))[1]

    async with container:
        async with container.scope() as scope:
            session = await scope.get(Session)
            task = asyncio.ensure_future(background())
        ended.set()
        assert await task is not session


@pytest.mark.contract("IOC-062")
async def test_what_the_caller_gives_is_used() -> None:
    session, settings = Session(), Settings()
    assert await job(1, session, settings=settings) == (1, session, settings)
    assert plain(session, other=session) == (session, session)


@pytest.mark.contract("IOC-062")
async def test_the_rest_is_filled(container: Container) -> None:
    mine = Session()
    async with container, container.scope() as scope:
        assert plain(mine) == (mine, await scope.get(Session))
        assert await job(2, mine) == (2, mine, container.get(Settings))


@pytest.mark.contract("IOC-063")
async def test_without_a_container_it_says_so(container: Container) -> None:
    with pytest.raises(NoContainer, match="no container is entered"):
        await job(1)
    with pytest.raises(NoContainer):
        plain()
    async with container:
        plain()
    with pytest.raises(NoContainer):
        plain()


@pytest.mark.contract("IOC-046")
async def test_a_call_that_cannot_be_filled_is_told_each_time_and_leaves_no_fault() -> None:
    container = Container()
    async with container:
        for _ in range(2):
            with pytest.raises(InjectionError, match="no provider for"):
                plain()
        assert container.faults == []


@pytest.mark.contract("IOC-064")
async def test_a_scope_and_a_container_may_be_left_in_another_task_than_they_were_entered_in(
    container: Container,
) -> None:
    scope = await asyncio.create_task(_enter(container))
    assert scope.get_nowait(Session) is scope.get_nowait(Session)
    await scope.__aexit__(None, None, None)
    await container.__aexit__(None, None, None)
    assert scope.closed


async def _enter(container: Container) -> Scope:
    await container.__aenter__()
    return await container.scope().__aenter__()


@pytest.mark.contract("IOC-064")
async def test_tasks_and_threads_have_their_own_current_scope(container: Container) -> None:
    found: list[Session] = []

    def in_thread() -> None:
        with container.scope():
            found.append(plain()[0])

    async def in_task() -> None:
        async with container.scope():
            await asyncio.sleep(0)
            found.append(plain()[0])

    async with container, container.scope() as scope:
        thread = Thread(target=in_thread)
        thread.start()
        thread.join()
        await asyncio.gather(in_task(), in_task())
        assert await asyncio.to_thread(lambda: plain()[0]) is await scope.get(Session)
        assert plain()[0] is await scope.get(Session)
    assert len({id(each) for each in found}) == 3


@pytest.mark.contract("IOC-065")
async def test_methods_of_every_kind_are_injected(container: Container) -> None:
    class Jobs:
        @inject
        def method(self, session: Session = injected()) -> Session:
            return session

        @inject
        @staticmethod
        def outer_static(session: Session = injected()) -> Session:
            return session

        @staticmethod
        @inject
        def inner_static(session: Session = injected()) -> Session:
            return session

        @inject
        @classmethod
        async def outer_class(cls, session: Session = injected()) -> tuple[object, Session]:
            return cls, session

        @classmethod
        @inject
        async def inner_class(cls, session: Session = injected()) -> tuple[object, Session]:
            return cls, session

    async with container, container.scope() as scope:
        session = await scope.get(Session)
        jobs = Jobs()
        assert jobs.method() is jobs.outer_static() is jobs.inner_static() is Jobs.outer_static() is session
        assert await jobs.outer_class() == await Jobs.inner_class() == (Jobs, session)


@pytest.mark.contract("IOC-048")
def test_what_cannot_be_injected_is_refused_where_it_is_written() -> None:
    with pytest.raises(DefinitionError, match="is a class, which @inject cannot wrap"):

        @inject
        class Job:
            def __init__(self, session: Session = injected()) -> None: ...

    with pytest.raises(DefinitionError, match=r"task\.session: is positional-only"):

        @inject
        def task(session: Session = injected(), /) -> None: ...

    with pytest.raises(DefinitionError, match="is a generator"):

        @inject
        async def stream(session: Session = injected()) -> AsyncIterator[int]:
            yield 1

    with pytest.raises(DefinitionError, match="no parameter to fill"):

        @inject
        def nothing() -> None: ...
