"""Lifetimes, scopes, lists, names, context values: what an object graph looks like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Annotated, Any, Generic, Protocol, TypeVar

import pytest

from wintry.ioc import (
    AsyncRequired,
    Container,
    ContainerStateError,
    DefinitionError,
    Lifetime,
    Named,
    NotProvided,
    ScopeClosed,
    injectable,
    provider,
)

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Settings: ...


class Request:
    def __init__(self, path: str = "/") -> None:
        self.path = path


@injectable
class Pool:
    settings: Settings


@injectable
class Session:
    pool: Pool


@injectable
class Service:
    session: Session
    pool: Pool


class Channel(Protocol):
    def name(self) -> str: ...


@provider(of=Channel)
class Mail:
    def name(self) -> str:
        return "mail"


@provider(of=Channel, lifetime="transient")
class Letter:
    def name(self) -> str:
        return "letter"


def registered(*keys: type[object]) -> Container:
    container = Container()
    for key in keys:
        container.register(key)
    return container


@pytest.mark.contract("IOC-002")
async def test_without_a_lifetime_what_reaches_nothing_scoped_is_a_singleton() -> None:
    container = registered(Settings, Pool, Session, Service)
    async with container, container.scope() as one, container.scope() as two:
        assert await one.get(Service) is await two.get(Service) is container.get(Service)


@pytest.mark.contract("IOC-002")
async def test_without_a_lifetime_what_reaches_something_scoped_through_any_depth_is_scoped() -> None:
    container = registered(Settings, Pool, Service)
    container.register(Session, lifetime="scoped")
    async with container:
        async with container.scope() as one, container.scope() as two:
            first, second = await one.get(Service), await two.get(Service)
            assert first is await one.get(Service)
            assert first is not second
            assert first.session is await one.get(Session)
            assert first.pool is second.pool
        with pytest.raises(NotProvided, match="scoped"):
            container.get(Service)


@pytest.mark.contract("IOC-002")
async def test_a_transient_that_reaches_something_scoped_makes_its_owner_scoped() -> None:
    container = registered(Settings, Pool, Service)
    container.register_context(Request)

    class Reader:
        def __init__(self, request: Request) -> None:
            self.request = request

    def session(reader: Reader, pool: Pool) -> Session:
        return Session(pool=pool)

    session.__annotations__["reader"] = Reader
    container.register(Reader, lifetime="transient")
    container.register(Session, session, lifetime="transient")
    assert "scoped, because of" in container.tree(Service)


@pytest.mark.contract("IOC-003")
async def test_a_transient_is_made_for_each_place() -> None:
    @injectable
    class Two:
        one: Session
        other: Session

    container = registered(Settings, Pool, Two)
    container.register(Session, lifetime="transient")
    async with container, container.scope() as scope:
        two = await scope.get(Two)
        assert two.one is not two.other
        assert two.one.pool is two.other.pool
        assert await scope.get(Session) is not await scope.get(Session)


@pytest.mark.contract("IOC-004")
async def test_a_class_is_provided_under_its_own_type_and_under_of() -> None:
    container = Container()
    container.register(Mail)
    container.register(Channel, Letter)
    async with container, container.scope() as scope:
        assert (await scope.get(Channel)).name() == "letter"
        assert (await scope.get(Mail)).name() == "mail"


@pytest.mark.contract("IOC-005")
async def test_factories_of_every_kind_provide_what_they_return_or_yield() -> None:
    def plain() -> int:
        return 1

    async def later() -> float:
        return 2.0

    def ending() -> Iterator[str]:
        yield "three"

    async def ending_later() -> AsyncIterator[bytes]:
        yield b"four"

    class All:
        def __init__(self, a: int, b: float, c: str, d: bytes) -> None:
            self.all = (a, b, c, d)

    container = registered(All)
    for key, factory in ((int, plain), (float, later), (str, ending), (bytes, ending_later)):
        container.register(key, factory)
    async with container:
        assert container.get(All).all == (1, 2.0, "three", b"four")


@pytest.mark.contract("IOC-006")
async def test_a_list_holds_all_providers_in_order() -> None:
    class Sender:
        def __init__(self, channels: list[Channel]) -> None:
            self.channels = channels

    container = registered(Sender)
    container.register(Channel, Mail)
    container.register(Channel, Letter, lifetime="scoped")
    container.register(Channel, Mail, name="second")
    async with container, container.scope() as scope:
        assert [each.name() for each in (await scope.get(Sender)).channels] == ["mail", "letter", "mail"]
        found = await scope.get(list[Channel])
        assert [each.name() for each in found] == ["mail", "letter", "mail"]
        assert found[1] is (await scope.get(Sender)).channels[1]


@pytest.mark.contract("IOC-006")
async def test_a_list_of_what_nothing_provides_is_empty() -> None:
    class Sender:
        def __init__(self, channels: list[Channel]) -> None:
            self.channels = channels

    container = registered(Sender)
    async with container:
        assert container.get(Sender).channels == []


@pytest.mark.contract("IOC-007")
async def test_names_tell_providers_of_one_type_apart() -> None:
    class Both:
        def __init__(self, hot: Annotated[Channel, Named("hot")], cold: Annotated[Channel, Named("cold")]) -> None:
            self.names = (hot.name(), cold.name())

    container = registered(Both)
    container.register(Channel, Mail, name="hot")
    container.register(Channel, Letter, name="cold")
    async with container, container.scope() as scope:
        assert (await scope.get(Both)).names == ("mail", "letter")
        assert (await scope.get(Annotated[Channel, Named("cold")])).name() == "letter"
        with pytest.raises(NotProvided):
            await scope.get(Channel)


@pytest.mark.contract("IOC-008")
async def test_an_optional_parameter_stands_where_nothing_is_provided() -> None:
    class Client:
        def __init__(self, pool: Pool | None, timeout: float = 2.5, session: Session | None = None) -> None:
            self.all = (pool, timeout, session)

    lone = registered(Client)
    async with lone:
        assert lone.get(Client).all == (None, 2.5, None)
    full = registered(Client, Pool, Settings, Session)
    async with full:
        assert full.get(Client).all == (full.get(Pool), 2.5, full.get(Session))


@pytest.mark.contract("IOC-009")
async def test_a_context_value_is_the_one_that_the_scope_was_given() -> None:
    class Reader:
        def __init__(self, request: Request, spare: Request | None = None) -> None:
            self.request = request

    container = registered(Reader)
    container.register_context(Request)
    async with container:
        async with container.scope() as one, container.scope() as two:
            for scope, path in ((one, "/a"), (two, "/b")):
                scope.provide(Request, Request(path))
                assert (await scope.get(Reader)).request.path == path
        async with container.scope() as scope:
            with pytest.raises(NotProvided, match=r"scope.provide"):
                await scope.get(Reader)


@pytest.mark.contract("IOC-009")
async def test_an_optional_context_value_may_be_absent() -> None:
    class Reader:
        def __init__(self, request: Request | None) -> None:
            self.request = request

    container = registered(Reader)
    container.register_context(Request)
    async with container:
        async with container.scope() as scope:
            assert (await scope.get(Reader)).request is None
        async with container.scope() as scope:
            scope.provide(Request, request := Request())
            assert (await scope.get(Reader)).request is request


@pytest.mark.contract("IOC-009")
async def test_a_scope_has_its_own_value_only_of_what_is_scoped() -> None:
    container = registered(Settings)
    async with container, container.scope() as scope:
        with pytest.raises(NotProvided, match="singleton"):
            scope.provide(Settings, Settings())
        with pytest.raises(NotProvided, match="nothing provides"):
            scope.provide(Request, Request())


@pytest.mark.contract("IOC-020")
async def test_a_scope_after_its_end_names_what_was_asked() -> None:
    container = registered(Settings, Pool, Service)
    container.register(Session, lifetime="scoped")
    container.register(Request, lifetime="transient")
    async with container:
        async with container.scope() as scope:
            await scope.get(Service)
        unentered = container.scope()
        for key in (Service, Pool, Request):
            with pytest.raises(ScopeClosed, match=rf"{key.__name__} was asked of a scope that has ended"):
                await scope.get(key)
            with pytest.raises(ScopeClosed, match=rf"{key.__name__} was asked of a scope that was not entered"):
                await unentered.get(key)
        with pytest.raises(ScopeClosed):
            scope.provide(Session, Session(pool=container.get(Pool)))
        with pytest.raises(ScopeClosed, match="once"):
            async with scope:
                pass


@pytest.mark.contract("IOC-021")
async def test_a_synchronous_caller_gets_what_needs_no_await() -> None:
    async def request() -> Request:
        return Request()

    container = registered(Settings, Pool)
    container.register(Session, lifetime="scoped")
    container.register(Request, request, lifetime="scoped")
    async with container:
        with container.scope() as scope:
            assert scope.get_nowait(Session) is scope.get_nowait(Session)
            with pytest.raises(AsyncRequired, match="await"):
                scope.get_nowait(Request)


@pytest.mark.contract("IOC-022")
async def test_a_container_is_used_inside_and_changed_outside() -> None:
    container = registered(Settings)
    plan = container.compile(Settings)
    for use in (container.scope, lambda: container.get(Settings), lambda: plan.make(None)):  # type: ignore[arg-type, return-value]  # no scope can exist yet
        with pytest.raises(ContainerStateError):
            use()
    async with container:
        for change in (lambda: container.register(Pool), container.collect, lambda: container.load("json")):
            with pytest.raises(ContainerStateError):
                change()
    with pytest.raises(ContainerStateError):
        container.get(Settings)
    async with container:
        assert container.get(Settings)


@pytest.mark.contract("IOC-023")
async def test_64_threads_and_1000_tasks_see_one_singleton() -> None:
    built: list[object] = []

    class Once:
        def __init__(self) -> None:
            built.append(self)

    container = registered(Once)
    container.register(Request, lifetime="scoped")
    async with container:
        barrier = Barrier(64)

        def in_thread() -> tuple[Once, Request]:
            barrier.wait()
            with container.scope() as scope:
                return scope.get_nowait(Once), scope.get_nowait(Request)

        async def in_task() -> tuple[Once, Request]:
            async with container.scope() as scope:
                await asyncio.sleep(0)
                return await scope.get(Once), await scope.get(Request)

        with ThreadPoolExecutor(64) as threads:
            pairs = [each.result() for each in [threads.submit(in_thread) for _ in range(64)]]
        pairs += await asyncio.gather(*(in_task() for _ in range(1000)))
        assert {id(once) for once, _ in pairs} == {id(built[0])}
        assert len(built) == 1
        assert len({id(request) for _, request in pairs}) == 1064


@pytest.mark.contract("IOC-024")
async def test_threads_that_share_a_scope_get_one_thing() -> None:
    barrier = Barrier(2)

    class Slow:
        def __init__(self) -> None:
            barrier.wait()

    container = Container()
    container.register(Slow, lifetime="scoped")
    async with container, container.scope() as scope:
        found = await asyncio.gather(*(asyncio.to_thread(scope.get_nowait, Slow) for _ in range(2)))
        assert found[0] is found[1] is await scope.get(Slow)


@pytest.mark.contract("IOC-024")
async def test_tasks_of_one_scope_share_what_is_awaited() -> None:
    begun: list[int] = []
    release = asyncio.Event()

    async def request() -> Request:
        begun.append(1)
        await release.wait()
        return Request()

    container = Container()
    container.register(Request, request, lifetime="scoped")
    async with container, container.scope() as scope:
        tasks = [asyncio.ensure_future(scope.get(Request)) for _ in range(20)]
        while not begun:
            await asyncio.sleep(0)
        tasks[0].cancel()  # whoever began it may go: another one takes over
        release.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert {id(each) for each in found[1:]} == {id(await scope.get(Request))}


@pytest.mark.contract("IOC-025")
async def test_closed_generics_and_abstract_keys_are_keys_like_others() -> None:
    class Box(Generic[T]): ...

    class Ints(Box[int]): ...

    class User:
        def __init__(self, box: Box[int]) -> None:
            self.box = box

    User.__init__.__annotations__["box"] = Box[int]
    container = registered(User)
    container.register(Box[int], Ints)
    async with container:
        assert isinstance(container.get(User).box, Ints)
        assert container.get(Box[int]) is container.get(User).box


@pytest.mark.contract("IOC-026")
async def test_the_classes_that_derive_from_a_base_can_be_asked_for() -> None:
    class Base: ...

    class One(Base): ...

    class Other(Base): ...

    class Third(Base): ...

    def third() -> Third:
        return Third()

    container = registered(One, Settings)
    container.register(Base, Other)
    container.register(Other)
    container.register(Third, third)
    async with container, container.scope() as scope:
        assert container.subclasses(Base) == [One, Other, Third]
        for cls in container.subclasses(Base):
            assert isinstance(await scope.get(cls), cls)


@pytest.mark.contract("IOC-029")
def test_a_container_says_what_it_provides() -> None:
    class Given: ...

    class Absent: ...

    container = registered(Pool)
    container.register(Settings, name="spare")
    container.register_context(Given)
    container.register_value(str, "value")
    assert all(map(container.provides, (Pool, Given, str, Annotated[Settings, Named("spare")])))
    assert not any(map(container.provides, (Absent, Settings, int, Annotated[Settings, Named("other")])))


@pytest.mark.contract("IOC-027")
async def test_the_applications_provider_beats_the_librarys() -> None:
    mine, theirs = Settings(), Settings()
    container = registered(Pool)
    container.register_value(Settings, mine)
    container.register_value(Settings, theirs, origin="library")
    async with container, container.scope() as scope:
        assert container.get(Pool).settings is mine
        assert await scope.get(list[Settings]) == [mine, theirs]


@pytest.mark.contract("IOC-028")
async def test_two_containers_live_side_by_side() -> None:
    one, two = registered(Settings, Pool), registered(Settings, Pool)
    async with one, two:
        assert one.get(Pool) is not two.get(Pool)
        async with one.scope() as outer, two.scope() as inner:
            assert await outer.get(Pool) is one.get(Pool)
            assert await inner.get(Pool) is two.get(Pool)


@pytest.mark.contract("IOC-022")
async def test_a_container_is_entered_by_one_at_a_time() -> None:
    class Client: ...

    log: list[str] = []
    may_go_on = asyncio.Event()

    async def client() -> AsyncIterator[Client]:
        log.append("open")
        await may_go_on.wait()
        yield Client()
        log.append("close")

    container = Container()
    container.register(Client, client)

    async def enter() -> None:
        async with container:
            pass

    first = asyncio.create_task(enter())
    while not log:
        await asyncio.sleep(0)
    with pytest.raises(ContainerStateError, match="entered already"):
        await asyncio.wait_for(enter(), 5)
    with pytest.raises(ContainerStateError, match="register before"):
        container.register(Client)
    may_go_on.set()
    await first
    assert log == ["open", "close"]


@pytest.mark.contract("IOC-048")
def test_what_cannot_be_a_factory_is_refused_where_it_is_registered() -> None:
    container = Container()
    with pytest.raises(DefinitionError, match=r"3: cannot be called\n.*register_value"):
        container.register(int, 3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(DefinitionError, match="unknown lifetime 'request'"):
        container.register(Container, lifetime="request")  # type: ignore[arg-type]  # wrong on purpose
    assert not container.provides(int)


def chain(container: Container, length: int, lifetime: Lifetime | None) -> list[type[Any]]:
    """Classes that need one another, the first one nothing."""
    links: list[type[Any]] = []
    for number in range(length):
        made: type[Any] = type(f"Link{number}", (), {"__annotations__": {"below": links[-1]} if links else {}})
        links.append(injectable(made))
        container.register(links[-1], lifetime=lifetime)
    return links


@pytest.mark.contract("IOC-104")
@pytest.mark.parametrize("lifetime", ["singleton", "scoped", "transient", None])
async def test_a_chain_of_any_length_is_wired(lifetime: Lifetime | None) -> None:
    container = Container()
    first, *_, last = chain(container, 1200, lifetime)
    container.compile(last)
    async with container:
        async with container.scope() as scope:
            found, depth = await scope.get(last), 1
            while type(found) is not first:
                found, depth = found.below, depth + 1
            assert depth == 1200
        assert len(container.tree(last).splitlines()) == 1200
        replaced = first()
        async with container.override({first: replaced}), container.scope() as scope:
            found = await scope.get(last)
            while type(found) is not first:
                found = found.below
            assert found is replaced


@pytest.mark.contract("IOC-104")
@pytest.mark.parametrize(("closed", "told"), [(False, "nothing provides it"), (True, "needs itself: a cycle")])
def test_the_fault_of_a_long_chain_is_told(closed: bool, told: str) -> None:
    container = Container()
    links = chain(container, 1200, None)
    looped = Container()

    def make(it: object) -> Any: ...

    make.__annotations__["it"] = links[-1] if closed else Request
    looped.register(links[0], make)
    for each in links[1:]:
        looped.register(each)
    assert not container.faults
    (fault,) = looped.faults
    assert told in str(fault)
    assert len(str(fault).splitlines()) > 1200
