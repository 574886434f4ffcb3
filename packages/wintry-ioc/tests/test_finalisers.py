"""What ends, in which order, and what it is told: the log of every combination."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import anyio
import pytest

from wintry.ioc import AsyncRequired, Container, Lifetime, NotProvided, ScopeClosed

pytestmark = pytest.mark.anyio
Outcome = Literal["ok", "error", "cancelled"]


class First: ...


class Second: ...


class Settled: ...


def factories(kind: str, log: list[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Factories of `First`, and of `Second` which needs it; those that end write down what they were told."""

    def plain_first() -> First:
        log.append("make first")
        return First()

    def plain_second(first: First) -> Second:
        log.append("make second")
        return Second()

    async def async_first() -> First:
        await asyncio.sleep(0)
        return plain_first()

    async def async_second(first: First) -> Second:
        await asyncio.sleep(0)
        return plain_second(first)

    def ending_first() -> Iterator[First]:
        try:
            yield plain_first()
        except BaseException as error:
            log.append(f"first saw {type(error).__name__}")
            raise
        finally:
            log.append("end first")

    def ending_second(first: First) -> Iterator[Second]:
        try:
            yield plain_second(first)
        except BaseException as error:
            log.append(f"second saw {type(error).__name__}")
            raise
        finally:
            log.append("end second")

    async def async_ending_first() -> AsyncIterator[First]:
        try:
            yield plain_first()
        except BaseException as error:
            log.append(f"first saw {type(error).__name__}")
            raise
        finally:
            await asyncio.sleep(0)
            log.append("end first")

    async def async_ending_second(first: First) -> AsyncIterator[Second]:
        try:
            yield plain_second(first)
        except BaseException as error:
            log.append(f"second saw {type(error).__name__}")
            raise
        finally:
            await asyncio.sleep(0)
            log.append("end second")

    return {
        "sync": (plain_first, plain_second),
        "async": (async_first, async_second),
        "generator": (ending_first, ending_second),
        "async generator": (async_ending_first, async_ending_second),
    }[kind]


async def leave(outcome: Outcome) -> None:
    if outcome == "error":
        raise ValueError("body")
    if outcome == "cancelled":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.contract("IOC-030", "IOC-031")
@pytest.mark.parametrize("kind", ["sync", "async", "generator", "async generator"])
@pytest.mark.parametrize("lifetime", ["singleton", "scoped"])
@pytest.mark.parametrize("outcome", ["ok", "error", "cancelled"])
async def test_the_log_of_every_combination(kind: str, lifetime: Lifetime, outcome: Outcome) -> None:
    log: list[str] = []
    container = Container()
    for key, factory in zip((First, Second), factories(kind, log), strict=True):
        container.register(key, factory, lifetime=lifetime)

    async def run() -> None:
        async with container, container.scope() as scope:
            await scope.get(Second)
            log.append("body")
            await leave(outcome)

    task = asyncio.ensure_future(run())
    (result,) = await asyncio.gather(task, return_exceptions=True)
    told = {"ok": None, "error": ValueError, "cancelled": asyncio.CancelledError}[outcome]
    assert (None if result is None else type(result)) is told
    ends = []
    if "generator" in kind:
        for name in ("second", "first"):
            ends += [f"{name} saw {told.__name__}"] if told else []
            ends += [f"end {name}"]
    assert log == ["make first", "make second", "body", *ends]


@pytest.mark.contract("IOC-032")
@pytest.mark.parametrize("lifetime", ["singleton", "scoped"])
async def test_a_cancellation_does_not_reach_a_finaliser(lifetime: Lifetime) -> None:
    ending, proceed, log = asyncio.Event(), asyncio.Event(), []

    async def first() -> AsyncIterator[First]:
        yield First()
        ending.set()
        await proceed.wait()
        log.append("ended")
        raise OSError("end")

    container = Container()
    container.register(First, first, lifetime=lifetime)

    async def run() -> None:
        async with container, container.scope() as scope:
            await scope.get(First)

    task = asyncio.ensure_future(run())
    await ending.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    proceed.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert log == ["ended"]
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.contract("IOC-033")
@pytest.mark.parametrize("body", [None, KeyError("body")])
async def test_all_finalisers_run_even_if_some_raise(body: Exception | None) -> None:
    log: list[str] = []

    def first() -> Iterator[First]:
        try:
            yield First()
        finally:
            log.append("first")
            raise OSError("first")

    async def second(first: First) -> AsyncIterator[Second]:
        try:
            yield Second()
        finally:
            log.append("second")
            raise ValueError("second")

    container = Container()
    container.register(First, first, lifetime="scoped")
    container.register(Second, second)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with container, container.scope() as scope:
            await scope.get(Second)
            if body is not None:
                raise body
    assert [type(each) for each in caught.value.exceptions] == [ValueError, OSError]
    assert log == ["second", "first"]


@pytest.mark.contract("IOC-033")
async def test_a_finaliser_cannot_swallow_the_error() -> None:
    def first() -> Iterator[First]:
        try:
            yield First()
        except ValueError:
            pass

    container = Container()
    container.register(First, first, lifetime="scoped")
    async with container:
        with pytest.raises(ValueError, match="body"):
            async with container.scope() as scope:
                await scope.get(First)
                raise ValueError("body")


@pytest.mark.contract("IOC-034")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_generator_yields_exactly_once(asynchronous: bool) -> None:
    def twice() -> Iterator[First]:
        yield First()
        yield First()

    async def twice_async() -> AsyncIterator[First]:
        yield First()
        yield First()

    def never() -> Iterator[Second]:
        yield from ()

    async def never_async() -> AsyncIterator[Second]:
        for each in ():
            yield each

    container = Container()
    container.register(First, twice_async if asynchronous else twice, lifetime="scoped")
    container.register(Second, never_async if asynchronous else never, lifetime="scoped")
    async with container:
        with pytest.raises(RuntimeError, match="yields twice"):
            async with container.scope() as scope:
                await scope.get(First)
        async with container.scope() as scope:
            with pytest.raises(NotProvided, match="without a yield"):
                await scope.get(Second)


@pytest.mark.contract("IOC-035")
async def test_a_start_that_fails_finishes_what_was_built() -> None:
    log: list[str] = []

    async def first() -> AsyncIterator[First]:
        try:
            yield First()
        except ValueError as error:
            log.append(str(error))
            raise

    def second(first: First) -> Second:
        raise ValueError("no second")

    container = Container()
    container.register(Second, second)
    container.register(First, first)
    with pytest.raises(ValueError, match="no second"):
        async with container:
            pytest.fail("it was entered")
    assert log == ["no second"]


@pytest.mark.contract("IOC-021")
async def test_leaving_synchronously_what_ends_asynchronously_is_refused() -> None:
    log: list[str] = []

    async def first() -> AsyncIterator[First]:
        yield First()

    def second() -> Iterator[Second]:
        yield Second()
        log.append("second")

    container = Container()
    container.register(First, first, lifetime="scoped")
    container.register(Second, second, lifetime="scoped")
    async with container:
        with pytest.raises(AsyncRequired, match="async with"), container.scope() as scope:
            scope.get_nowait(Second)
            await scope.get(First)
    assert log == ["second"]


@pytest.mark.contract("IOC-101")
@pytest.mark.parametrize("lifetime", ["singleton", "scoped"])
@pytest.mark.parametrize("outcome", ["ok", "error", "cancelled"])
async def test_a_finaliser_runs_in_the_task_and_context_of_its_scope(lifetime: Lifetime, outcome: Outcome) -> None:
    tenant = ContextVar("tenant", default="nobody")
    log: list[str] = []

    async def listen() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("listener ended")

    async def first() -> AsyncIterator[First]:
        token = tenant.set("acme")
        try:
            yield First()
        finally:
            await asyncio.sleep(0)
            tenant.reset(token)
            log.append(f"{tenant.get()} in {'its' if asyncio.current_task() is task else 'another'} task")

    async def second(first: First) -> AsyncIterator[Second]:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            yield Second()
            group.cancel_scope.cancel()

    container = Container()
    container.register(First, first, lifetime=lifetime)
    container.register(Second, second, lifetime=lifetime)

    async def run() -> None:
        async with container, container.scope() as scope:
            await scope.get(Second)
            await asyncio.sleep(0.001)
            await leave(outcome)

    task = asyncio.ensure_future(run())
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if outcome == "error":  # a task group wraps what leaves it
        assert isinstance(result, BaseExceptionGroup)
        assert result.subgroup(ValueError) is not None
    else:
        assert isinstance(result, asyncio.CancelledError if outcome == "cancelled" else type(None))
    assert log == ["listener ended", "nobody in its task"]


@pytest.mark.contract("IOC-032")
@pytest.mark.parametrize("before", [True, False])
async def test_a_cancellation_asked_for_before_the_end_does_not_reach_a_finaliser(before: bool) -> None:
    log: list[str] = []

    async def first() -> AsyncIterator[First]:
        try:
            yield First()
        finally:
            if not before:
                asyncio.get_running_loop().call_soon(outside.run, task.cancel)
            for _ in range(3):
                await asyncio.sleep(0)
                log.append("went on")

    container = Container()
    container.register(First, first, lifetime="scoped")

    async def run() -> None:
        async with container:
            async with container.scope() as scope:
                await scope.get(First)
                if before:
                    task.cancel()
            log.append("left")

    outside = contextvars.copy_context()
    task = asyncio.ensure_future(run())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["went on"] * 3


@pytest.mark.contract("IOC-102")
@pytest.mark.parametrize("limit", ["asyncio", "anyio"])
@pytest.mark.parametrize("nested", [False, True])
async def test_a_finaliser_can_limit_its_own_time(limit: str, nested: bool) -> None:
    log: list[str] = []
    at_last = asyncio.Event()  # so that a limit that does not hold is no test without an end
    asyncio.get_running_loop().call_later(5.0, at_last.set)

    async def first() -> AsyncIterator[First]:
        yield First()
        try:
            if limit == "asyncio":
                async with asyncio.timeout(0.01):
                    await at_last.wait()
            else:
                with anyio.fail_after(0.01):
                    await at_last.wait()
        except TimeoutError:
            log.append("too long")

    async def second(first: First) -> AsyncIterator[Second]:
        yield Second()
        async with other.scope() as scope:
            await scope.get(First)

    container, other = Container(), Container()
    for each in (container, other):
        each.register(First, first, lifetime="scoped")
    container.register(Second, second)
    async with container, other, container.scope() as scope:
        await scope.get(Second if nested else First)
    assert log == ["too long"] * (2 if nested else 1)


@pytest.mark.contract("IOC-032")
async def test_an_outer_limit_waits_for_the_finalisers() -> None:
    proceed, log = asyncio.Event(), []

    async def first() -> AsyncIterator[First]:
        yield First()
        asyncio.get_running_loop().call_later(0.05, proceed.set)
        await proceed.wait()
        log.append("ended")

    container = Container()
    container.register(First, first, lifetime="scoped")

    async def use() -> None:
        async with container.scope() as scope:
            await scope.get(First)

    async with container:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await use()
        proceed.clear()
        with anyio.move_on_after(0.01) as limit:
            await use()
        assert limit.cancelled_caught
    assert log == ["ended", "ended"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.contract("IOC-032")
async def test_a_checkpoint_of_anyio_in_a_finaliser_ends_with_the_cancel_scope_around_it() -> None:
    log: list[str] = []

    async def first() -> AsyncIterator[First]:
        try:
            yield First()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                log.append("shielded")
            await anyio.lowlevel.checkpoint()

    container = Container()
    container.register(First, first, lifetime="scoped")
    async with container:
        with anyio.move_on_after(5) as outer:
            async with container.scope() as scope:
                await scope.get(First)
                outer.cancel()
                await anyio.sleep_forever()
    assert log == ["shielded"]


@pytest.mark.contract("IOC-033")
async def test_a_task_group_of_a_provider_that_fails_at_its_end_is_told_as_what_it_is() -> None:
    ending = asyncio.Event()

    async def fail() -> None:
        await ending.wait()
        raise OSError("child")

    async def first() -> AsyncIterator[First]:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            yield First()
            ending.set()

    container = Container()
    container.register(First, first, lifetime="scoped")
    async with container:
        with pytest.raises(ExceptionGroup) as caught:
            async with container.scope() as scope:
                await scope.get(First)
    assert caught.value.subgroup(OSError) is not None


@pytest.mark.contract("IOC-033")
async def test_a_child_that_fails_while_its_group_ends_is_no_cancellation() -> None:
    async def fail() -> None:
        await ending.wait()
        raise OSError("child")

    async def first() -> AsyncIterator[First]:
        async with anyio.create_task_group() as group:
            task = group.start_soon  # the child belongs to whoever starts it, not to the scope
            outside.run(task, fail)
            outside.run(task, anyio.sleep_forever)
            yield First()
            ending.set()

    ending, outside = asyncio.Event(), contextvars.copy_context()
    container = Container()
    container.register(First, first, lifetime="scoped")
    async with container:
        with pytest.raises(ExceptionGroup) as caught:
            async with container.scope() as scope:
                await scope.get(First)
    assert caught.value.subgroup(OSError) is not None


@pytest.mark.contract("IOC-103")
@pytest.mark.parametrize("kind", ["async generator", "generator", "async"])
@pytest.mark.parametrize("lifetime", ["scoped", "transient"])
async def test_what_is_still_being_built_when_its_scope_ends_is_finished_and_refused(
    kind: str, lifetime: Lifetime
) -> None:
    building, proceed, log = asyncio.Event(), asyncio.Event(), []

    async def ready() -> Settled:
        building.set()
        await proceed.wait()
        return Settled()

    async def first_async(settled: Settled) -> AsyncIterator[First]:
        building.set()
        await proceed.wait()
        try:
            log.append("open")
            yield First()
        except ScopeClosed:
            log.append("told")
            raise
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    def first(settled: Settled) -> Iterator[First]:
        log.append("open")
        yield First()

    def plain(settled: Settled) -> First:
        return First()

    container = Container()
    if kind == "async generator":
        container.register(Settled)
        container.register(First, first_async, lifetime=lifetime)
    else:
        container.register(Settled, ready, lifetime="scoped")
        container.register(First, first if kind == "generator" else plain, lifetime=lifetime)
    async with container:
        async with container.scope() as scope:
            tasks = [asyncio.ensure_future(scope.get(First)) for _ in range(2)]
            await building.wait()
        proceed.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [ScopeClosed, ScopeClosed]
        assert "was asked of a scope that has ended" in str(results[0])
        async with container.scope() as other:  # nothing of it is left for the others
            assert isinstance(await other.get(First), First)
            log.append("in use")
    before, after = log[: log.index("in use")], log[log.index("in use") + 1 :]
    if kind == "async generator":
        times = 1 if lifetime == "scoped" else 2
        assert sorted(before) == sorted([*["open", "told", "closed"] * times, "open"])
        assert after == ["closed"]


@pytest.mark.contract("IOC-103")
async def test_what_a_thread_builds_while_its_scope_ends_is_finished_and_refused() -> None:
    building, proceed, log = threading.Event(), threading.Event(), []

    def first() -> Iterator[First]:
        building.set()
        assert proceed.wait(10)
        try:
            yield First()
        finally:
            log.append("closed")

    container = Container()
    container.register(First, first, lifetime="scoped")
    async with container:
        async with container.scope() as scope:
            task = asyncio.ensure_future(asyncio.to_thread(scope.get_nowait, First))
            await asyncio.to_thread(building.wait, 10)
        proceed.set()
        with pytest.raises(ScopeClosed, match="has ended"):
            await task
        assert log == ["closed"]
