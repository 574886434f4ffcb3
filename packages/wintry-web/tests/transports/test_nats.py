"""What the transport on NATS does beyond the contract: brokers that hang or forget, names, sizes, dead letters."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import nats
import pytest
from nats.js.client import JetStreamContext

from wintry.bus.transports import TransportMessage
from wintry.web.transports import nats_client, nats_hands, nats_reading
from wintry.web.transports.nats import NatsStreams
from wintry.web.transports.nats_client import Refused
from wintry.web.transports.nats_wire import dead_stream_of, stream_of, subject_of

from .proxy import Proxy, proxy_to
from .services import PATIENCE

pytestmark = pytest.mark.anyio
BOUNDED = 15.0
"""How many seconds something may take that has a limit, on a busy machine."""
STREAM = stream_of("c")
SUBJECT = subject_of("c")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is given up after one second."""
    for module in (nats_client, nats_hands, nats_reading):
        monkeypatch.setattr(module, "REPLY", 1.0)


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await holds():
            await asyncio.sleep(0.02)


async def heard_by(transport: NatsStreams, into: list[str], group: str | None = "g", channel: str = "c") -> None:
    async with aclosing(transport.receive(channel, group=group, prefetch=10)) as deliveries:
        async for delivery in deliveries:
            into.append(delivery.message.body.decode())
            await delivery.ack()


@asynccontextmanager
async def replica(
    url: str, *, group: str | None = "g", channel: str = "c"
) -> AsyncIterator[tuple[NatsStreams, list[str]]]:
    """A process that listens, and what it hears; its listener must not end by itself."""
    transport, heard = NatsStreams(url, lease=2), list[str]()
    await transport.start()
    listening = asyncio.ensure_future(heard_by(transport, heard, group, channel))
    try:
        yield transport, heard
        assert not listening.done()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await transport.stop()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[NatsStreams]:
    """A process that sends, or listens by hand."""
    transport = NatsStreams(url, **options)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.stop()


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    """The broker as somebody else sees it."""
    client = await nats.connect(url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A way that breaks where a test wants it, and its address."""
    async with proxy_to(url) as proxy:
        yield proxy, proxy.url.replace("redis:", "nats:").removesuffix("/0")


def sent(body: str, id: str | None = None) -> TransportMessage:
    return TransportMessage(id or f"id-{body}", "c", body.encode())


async def pending(url: str, group: str = "g") -> int:
    async with jetstream(url) as broker:
        info = await broker.consumer_info(STREAM, group)
        return int(info.num_ack_pending or 0)


async def settled(url: str, group: str = "g") -> bool:
    """Whether nothing that was given out is without its acknowledgement."""
    return await pending(url, group) == 0


async def is_silent(deliveries: Any, seconds: float) -> bool:
    """Whether nothing comes for so long. The source is at its end then."""
    try:
        await asyncio.wait_for(anext(deliveries), seconds)
    except TimeoutError:
        return True
    return False


# names and messages


@pytest.mark.contract("WEB-601")
async def test_any_text_is_a_channel_and_a_group_and_no_two_are_alike(nats_broker: Any) -> None:
    names = ["", "=", "a.b", "a b", "a=2Eb", "a/b", "A", "a", "é*>", "\r\n", "x" * 400, "x" * 401, "漢" * 90, "a_b-c"]
    async with opened(nats_broker.url) as transport:
        for name in names:
            await transport.publish(name, [sent(f"to {name!r}")])
        for name in names:
            async with (
                aclosing(transport.receive(name, group=name, prefetch=9)) as deliveries,
                asyncio.timeout(PATIENCE),
            ):
                delivery = await anext(deliveries)
                assert delivery.message.body.decode() == f"to {name!r}"
                await delivery.park(name)
        for name in names:
            (letter,) = await transport.parked(name)
            assert (letter.channel, letter.group, letter.reason) == (name, name, name)


@pytest.mark.contract("WEB-601")
async def test_headers_of_any_name_and_value_survive(nats_broker: Any) -> None:
    texts = ["", " a ", "Mixed-Case", "a: b", "%41", "\r\n", "é漢\0", "\ud800", "id", "nats-msg-id", "x" * 5_000]
    headers = dict(zip((f"n{text}" for text in texts), texts, strict=True)) | {"ID": "mine", "Key": "1"}
    message = TransportMessage("\r\n é", " t", b"1", "", headers)
    async with (
        opened(nats_broker.url) as transport,
        aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries,
        asyncio.timeout(PATIENCE),
    ):
        await transport.publish("c", [message])
        delivery = await anext(deliveries)
        assert delivery.message == message
        await delivery.park("é\r\n\ud800")
        (letter,) = await transport.parked("c")
        assert (letter.message, letter.reason) == (message, "é\r\n\ud800")


@pytest.mark.contract("WEB-602")
async def test_what_others_publish_is_understood(nats_broker: Any) -> None:
    async with (
        opened(nats_broker.url) as transport,
        jetstream(nats_broker.url) as broker,
        aclosing(transport.receive("c", group="g", prefetch=9)) as deliveries,
        asyncio.timeout(PATIENCE),
    ):
        waiting = asyncio.ensure_future(anext(deliveries))
        await until(lambda: _there(broker))
        await broker.publish(SUBJECT, b'{"n": 1}')
        await broker.publish(SUBJECT, b"2", headers={"traceparent": "t", "Nats-Msg-Id": "7"})
        await broker.publish(SUBJECT, b"3", headers={"ce-id": "x", "Ce-Type": "Went", "ce-source": "/a%20b"})
        first, second, third = [(await waiting), (await anext(deliveries)), (await anext(deliveries))]
        assert first.message.body == b'{"n": 1}'
        assert (first.message.type, dict(first.message.headers)) == ("c", {})
        assert first.message.id.startswith("c:1-")
        assert dict(second.message.headers) == {"traceparent": "t"}
        assert (third.message.id, third.message.type) == ("x", "Went")
        assert dict(third.message.headers) == {"source": "/a b"}
        for delivery in (first, second, third):
            await delivery.release()
        again = [(await anext(deliveries)).message.id for _ in range(3)]
        assert again == [first.message.id, second.message.id, "x"]


async def _there(broker: JetStreamContext) -> bool:
    try:
        await broker.stream_info(STREAM)
    except nats.js.errors.NotFoundError:
        return False
    return True


@pytest.mark.contract("WEB-602")
async def test_an_id_that_is_derived_is_another_one_in_a_stream_that_was_made_again(nats_broker: Any) -> None:
    ids = []
    for _ in range(2):
        async with opened(nats_broker.url) as transport, jetstream(nats_broker.url) as broker:
            await transport.publish("c", [sent("a")])
            await broker.purge_stream(STREAM)
            await broker.publish(SUBJECT, b"1")
            async with aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries:
                ids.append((await anext(deliveries)).message.id)
            await broker.delete_stream(STREAM)
    assert ids[0] != ids[1]


@pytest.mark.contract("WEB-602")
async def test_a_stream_that_an_operator_made_is_taken_as_it_is(nats_broker: Any) -> None:
    async with jetstream(nats_broker.url) as broker, opened(nats_broker.url) as transport:
        await broker.add_stream(name=STREAM, subjects=[SUBJECT, "orders.*"], max_msgs=50)
        await broker.publish("orders.new", b"1")
        await transport.publish("c", [sent("2")])
        async with aclosing(transport.receive("c", group="g", prefetch=9)) as deliveries, asyncio.timeout(PATIENCE):
            assert [(await anext(deliveries)).message.body for _ in range(2)] == [b"1", b"2"]
        assert (await broker.stream_info(STREAM)).config.max_msgs == 50


# sending


@pytest.mark.contract("WEB-603")
async def test_the_broker_has_what_was_published_and_in_its_order(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as transport, jetstream(nats_broker.url) as broker:
        await transport.publish("c", [sent(str(n)) for n in range(1_000)])
        assert (await broker.stream_info(STREAM)).state.messages == 1_000
        heard = [(await broker.get_msg(STREAM, n)).data for n in (1, 257, 1_000)]
        assert heard == [b"0", b"256", b"999"]


@pytest.mark.contract("WEB-603")
async def test_what_is_sent_once_more_within_two_minutes_is_there_once(nats_broker: Any) -> None:
    async with way_to(nats_broker.url) as (proxy, url), opened(url) as transport:
        await transport.publish("c", [sent("a")])
        proxy.cut_at(b"id-b", after=True)
        with pytest.raises(ConnectionError, match="nats: the connection ended before the answer"):
            await transport.publish("c", [sent("b")])
        await transport.publish("c", [sent("b"), sent("c")])
        async with jetstream(nats_broker.url) as broker:
            assert (await broker.stream_info(STREAM)).state.messages == 3


@pytest.mark.contract("WEB-603")
async def test_a_message_that_is_too_large_is_refused_before_anything_is_sent(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as transport, jetstream(nats_broker.url) as broker:
        await transport.publish("c", [sent("a")])
        with pytest.raises(
            ValueError, match=r"message id-x+ has \d+ bytes, and this broker takes 1032192: .*max_payload"
        ):
            await transport.publish("c", [sent("b"), sent("x" * 1_030_000, "id-" + "x" * 3_000)])
        assert (await broker.stream_info(STREAM)).state.messages == 1
        await transport.publish("c", [sent("x" * 1_030_000, "large")] * 1)
        async with aclosing(transport.receive("c", group="g", prefetch=9)) as deliveries, asyncio.timeout(PATIENCE):
            await (await anext(deliveries)).ack()
            await (await anext(deliveries)).park("too much: " + "é" * 9_000)
        (letter,) = await transport.parked("c")
        assert len(letter.message.body) == 1_030_000
        assert letter.reason.startswith("too much: éééé")


@pytest.mark.contract("WEB-603")
async def test_what_the_broker_will_not_take_is_an_error_with_its_reason(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as transport, jetstream(nats_broker.url) as broker:
        await broker.add_stream(name=STREAM, subjects=[SUBJECT], max_msgs=1, discard="new")
        with pytest.raises(Refused, match="maximum messages exceeded"):
            await transport.publish("c", [sent("a"), sent("b")])
        await broker.add_stream(name="other", subjects=["wintry.channel.d"])
        await transport.publish("d", [sent("a")])  # it is kept there
        with pytest.raises(ConnectionError, match="^nats: .*Connect call failed"):
            await NatsStreams("nats://127.0.0.1:1").publish("c", [sent("a")])


# a broker that goes away


@pytest.mark.contract("WEB-604")
async def test_a_stream_that_is_lost_is_made_again_with_its_groups(nats_broker: Any) -> None:
    async with (
        replica(nats_broker.url) as (one, heard),
        replica(nats_broker.url, group=None) as (_, all),
        jetstream(nats_broker.url) as broker,
    ):

        async def listening() -> bool:
            await one.publish("c", [sent("probe", f"probe-{time.time()}")])
            return bool(heard and all)

        await until(listening)
        await broker.delete_stream(STREAM)
        await one.publish("c", [sent(f"{n}") for n in range(20)])

        async def complete() -> bool:
            wanted = [f"{n}" for n in range(20)]
            return heard[-20:] == wanted and all[-20:] == wanted

        await until(complete)


@pytest.mark.contract("WEB-604")
async def test_a_group_that_is_lost_is_made_again_at_the_beginning(nats_broker: Any) -> None:
    async with replica(nats_broker.url) as (one, heard), jetstream(nats_broker.url) as broker:
        await one.publish("c", [sent("a")])

        async def complete() -> bool:
            return heard[-1:] == ["b"]

        async def first() -> bool:
            return heard == ["a"]

        await until(first)
        await broker.delete_consumer(STREAM, "g")
        await one.publish("c", [sent("b")])
        await until(complete)
        assert heard == ["a", "a", "b"]


@pytest.mark.contract("WEB-604")
@pytest.mark.usefixtures("impatient")
async def test_a_broker_that_hangs_is_waited_for_and_keeps_nobody(
    nats_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_reading, "HEARTBEAT", 0.2)
    async with replica(nats_broker.url) as (one, heard):
        await one.publish("c", [sent("a")])

        async def hears(last: str) -> bool:
            return heard[-1:] == [last]

        await until(lambda: hears("a"))
        nats_broker.pause()
        try:
            began = time.monotonic()
            with pytest.raises(ConnectionError, match="nats: "):
                await one.publish("c", [sent("lost")])
            with pytest.raises(ConnectionError, match="nats: "):
                await one.check()
            assert time.monotonic() - began < BOUNDED
            async with opened(nats_broker.url):
                pass
        finally:
            nats_broker.resume()
        await until(lambda: _succeeds(one.publish("c", [sent("b")])))
        await until(lambda: hears("b"))


async def _succeeds(work: Awaitable[object]) -> bool:
    try:
        await work
    except ConnectionError:
        return False
    return True


@pytest.mark.contract("WEB-604")
async def test_a_broadcast_goes_on_where_it_was_when_the_broker_is_there_again(nats_broker: Any) -> None:
    async with replica(nats_broker.url, group=None) as (one, heard):

        async def hears(last: str) -> bool:
            await one.publish("c", [sent("probe", f"probe-{time.time()}")])
            return last in heard

        await until(lambda: hears("probe"))
        await one.publish("c", [sent(str(n)) for n in range(10)])
        nats_broker.kill()
        nats_broker.start()
        await until(lambda: _succeeds(one.publish("c", [sent(str(n)) for n in range(10, 20)])))
        await until(lambda: hears("19"))
        assert [each for each in heard if each != "probe"] == [str(n) for n in range(20)]


@pytest.mark.contract("WEB-604")
@pytest.mark.parametrize("refusals", [3, 99], ids=["in the end", "never"])
async def test_a_stream_that_goes_just_now_is_waited_for(
    nats_broker: Any, refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says so about once in two thousand times, so it is said here in its place."""
    api, left = nats_client.Session.api, refusals

    async def refused(session: Any, subject: str, **arguments: object) -> dict[str, Any]:
        nonlocal left
        if subject.startswith("STREAM.CREATE") and left:
            left -= 1
            raise nats_client.Refused({"err_code": 10049, "description": "error creating store for stream"})
        return await api(session, subject, **arguments)

    monkeypatch.setattr(nats_client.Session, "api", refused)
    async with opened(nats_broker.url) as transport:
        if refusals == 3:
            await transport.publish("c", [sent("a")])
            assert left == 0
        else:
            with pytest.raises(nats_client.Refused, match="error creating store"):
                await transport.publish("c", [sent("a")])


@pytest.mark.contract("WEB-604")
async def test_a_client_that_closed_without_a_word_is_replaced(nats_broker: Any) -> None:
    async with replica(nats_broker.url) as (transport, heard):
        await transport.publish("c", [TransportMessage("1", "Went", b"1")])
        await until(lambda: asyncio.sleep(0, heard == ["1"]))
        await until(lambda: settled(nats_broker.url))  # or it would come again, behind the second one
        before = transport._connection.current
        assert before is not None
        before.client._closed_cb = None
        await before.client.close()

        await transport.publish("c", [TransportMessage("2", "Went", b"2")])

        await until(lambda: asyncio.sleep(0, heard == ["1", "2"]))
        assert transport._connection.current is not before


@pytest.mark.contract("WEB-604")
async def test_silence_breaks_no_connection(
    nats_broker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nats_reading, "HEARTBEAT", 0.5)
    async with replica(nats_broker.url) as (one, shared), replica(nats_broker.url, group=None) as (_, all):

        async def heard(last: str) -> bool:
            await one.publish("c", [sent(last, f"{last}-{time.time()}")])
            return shared[-1:] == [last] == all[-1:]

        await until(lambda: heard("a"))
        before = one._connection.current
        await asyncio.sleep(2 * nats_reading.HEARTBEAT + 1.0)
        assert one._connection.current is before
        await until(lambda: heard("b"))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.contract("WEB-604")
async def test_a_request_that_has_expired_is_made_again(
    nats_broker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nats_reading, "EXPIRES", 0.5)
    monkeypatch.setattr(nats_reading, "HEARTBEAT", 0.2)
    async with replica(nats_broker.url) as (one, heard):
        await asyncio.sleep(1.2)
        await one.publish("c", [sent("a")])

        async def complete() -> bool:
            return heard == ["a"]

        await until(complete)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.contract("WEB-604")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_stopping_waits_for_no_broker(nats_broker: Any, how: str) -> None:
    transport = NatsStreams(nats_broker.url)
    await transport.start()
    source = transport.receive("c", group="g", prefetch=2)
    await transport.publish("c", [sent("a"), sent("b")])
    first, second = await anext(source), await anext(source)
    getattr(nats_broker, how)()
    try:
        began = time.monotonic()
        settling = asyncio.ensure_future(first.ack())
        await second.release()
        await source.aclose()
        await transport.stop()
        await settling
        assert time.monotonic() - began < BOUNDED
    finally:
        nats_broker.resume()
        nats_broker.start()


# leases


@pytest.mark.contract("WEB-605")
async def test_what_a_process_that_died_held_is_given_to_another_with_its_attempt_counted(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=0.5) as sender:
        await sender.publish("c", [sent("a")])
        dead = NatsStreams(nats_broker.url, lease=0.5)  # not started: it renews nothing
        source = dead.receive("c", group="g", prefetch=1)
        assert (await anext(source)).attempt == 1
        async with aclosing(sender.receive("c", group="g", prefetch=1)) as deliveries, asyncio.timeout(PATIENCE):
            delivery = await anext(deliveries)
            assert (delivery.message.id, delivery.attempt) == ("id-a", 2)
            async with opened(nats_broker.url, lease=0.5) as third:
                others = third.receive("c", group="g", prefetch=1)
                reading = asyncio.ensure_future(anext(others))
                await source.aclose()  # its lease is over: it gives nothing back that is in other hands
                await dead.stop()
                await asyncio.wait([reading], timeout=1.0)
                assert not reading.done()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                await others.aclose()
            assert await pending(nats_broker.url) == 1
            await delivery.ack()
    assert await pending(nats_broker.url) == 0


@pytest.mark.contract("WEB-605")
async def test_what_somebody_holds_for_longer_than_a_lease_stays_his(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=0.6) as one, opened(nats_broker.url, lease=0.6) as two:
        await one.publish("c", [sent("a")])
        async with aclosing(one.receive("c", group="g", prefetch=1)) as deliveries:
            delivery = await anext(deliveries)
            async with aclosing(two.receive("c", group="g", prefetch=1)) as others:
                assert await is_silent(others, 1.5)
            await delivery.ack()
    assert await pending(nats_broker.url) == 0


@pytest.mark.contract("WEB-605")
async def test_of_what_is_given_back_only_what_was_no_release_counts(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as one, opened(nats_broker.url) as two:
        await one.publish("c", [sent("a")])
        attempts = []
        for transport, releases in [(one, True), (two, True), (one, False), (two, True), (one, False), (two, False)]:
            async with aclosing(transport.receive("c", group="g", prefetch=1)) as source, asyncio.timeout(PATIENCE):
                delivery = await anext(source)
                attempts.append(delivery.attempt)
                if releases:
                    await delivery.release()
                    await delivery.ack()  # it is settled
        assert attempts == [1, 1, 1, 2, 2, 3]


@pytest.mark.contract("WEB-605")
async def test_what_is_given_back_comes_again_at_once_and_before_what_is_new(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=60) as transport:
        await transport.publish("c", [sent(str(n)) for n in range(60)])
        async with aclosing(transport.receive("c", group="g", prefetch=5)) as source, asyncio.timeout(BOUNDED):
            for n in range(50):
                delivery = await anext(source)
                assert delivery.message.body.decode() == str(n)
                await delivery.ack()
            held = [await anext(source) for _ in range(5)]
            for delivery in held:
                await delivery.release()
            assert [(await anext(source)).message.body for _ in range(5)] == [each.message.body for each in held]


@pytest.mark.contract("WEB-605")
async def test_what_is_given_back_may_come_again_to_the_same_listener(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=60) as transport:
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=10)) as source, asyncio.timeout(BOUNDED):
            for _ in range(200):
                delivery = await anext(source)
                assert delivery.attempt == 1
                releasing = asyncio.ensure_future(delivery.release())
                await asyncio.sleep(0)
                await releasing


@pytest.mark.contract("WEB-605")
async def test_what_is_on_its_way_to_a_listener_that_ends_is_given_to_another(nats_broker: Any) -> None:
    async with (
        way_to(nats_broker.url) as (proxy, url),
        opened(url, lease=60) as leaving,
        opened(nats_broker.url, lease=60) as other,
        asyncio.timeout(BOUNDED),
    ):
        await other.publish("c", [sent("a")])
        source = leaving.receive("c", group="g", prefetch=3)
        await (await anext(source)).ack()
        reading = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.1)  # it has asked
        proxy.flowing.clear()
        await other.publish("c", [sent("b")])

        async def given_out() -> bool:
            return await pending(nats_broker.url) == 1

        await until(given_out)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await source.aclose()
        proxy.flowing.set()
        async with aclosing(other.receive("c", group="g", prefetch=1)) as deliveries:
            delivery = await anext(deliveries)
            assert (delivery.message.id, delivery.attempt) == ("id-b", 2)
            await delivery.ack()


@pytest.mark.contract("WEB-605")
async def test_what_a_listener_that_ends_held_is_given_to_another_at_once(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=60) as transport, asyncio.timeout(BOUNDED):
        for round in range(20):
            bodies = [f"{round}-{n}" for n in range(3)]
            await transport.publish("c", [sent(body) for body in bodies])
            async with aclosing(transport.receive("c", group="g", prefetch=3)) as source:
                for _ in bodies:
                    await anext(source)
            async with aclosing(transport.receive("c", group="g", prefetch=3)) as source:
                again = [await anext(source) for _ in bodies]
                assert [each.message.body.decode() for each in again] == bodies
                assert [each.attempt for each in again] == [2, 2, 2]
                for each in again:
                    await each.ack()


@pytest.mark.contract("WEB-605")
async def test_what_one_listener_holds_limits_no_other(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as one, opened(nats_broker.url) as two, asyncio.timeout(PATIENCE):
        await one.publish("c", [sent(str(n)) for n in range(1_300)])
        async with aclosing(one.receive("c", group="g", prefetch=1_200)) as source:
            for _ in range(1_200):
                await anext(source)
            async with aclosing(two.receive("c", group="g", prefetch=10)) as others:
                assert (await anext(others)).message.body == b"1200"


# settling


@pytest.mark.contract("WEB-606")
async def test_an_acknowledgement_waits_for_the_broker_and_is_not_lost(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=1) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            first, second = await anext(deliveries), await anext(deliveries)
            nats_broker.kill()
            settling = asyncio.gather(first.ack(), second.park("it does not fit"))
            reading = asyncio.ensure_future(anext(deliveries))
            await asyncio.wait([settling], timeout=0.3)
            assert not settling.done()
            nats_broker.start()
            await settling
            await transport.publish("c", [sent("c")])
            third = await reading  # and not what was dealt with, though the broker may have forgotten it
            assert third.message.id == "id-c"
            await third.ack()
            assert await is_silent(deliveries, 1.5)
            assert [letter.message.id for letter in await transport.parked("c")] == ["id-b"]
    assert await pending(nats_broker.url) == 0


@pytest.mark.contract("WEB-606")
async def test_what_a_killed_broker_forgot_stays_with_who_holds_it(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=1) as transport:
        await transport.publish("c", [sent(str(n)) for n in range(3)])
        async with aclosing(transport.receive("c", group="g", prefetch=9)) as deliveries, asyncio.timeout(PATIENCE):
            held = [await anext(deliveries) for _ in range(3)]
            nats_broker.kill()
            nats_broker.start()
            assert await is_silent(deliveries, 2.5)
            for delivery in held:
                await delivery.ack()


@pytest.mark.contract("WEB-606")
async def test_what_was_dealt_with_when_the_broker_forgot_it_is_not_handled_again(nats_broker: Any) -> None:
    async with (
        opened(nats_broker.url, lease=60) as transport,
        jetstream(nats_broker.url) as broker,
        aclosing(transport.receive("c", group="g", prefetch=3)) as deliveries,
        asyncio.timeout(PATIENCE),
    ):
        await transport.publish("c", [sent("a"), sent("b"), sent("c")])
        first, second, third = [await anext(deliveries) for _ in range(3)]
        await broker.delete_consumer(STREAM, "g")
        await first.ack()
        await second.park("why")
        await transport.publish("c", [sent("d")])
        fourth = await anext(deliveries)
        assert fourth.message.id == "id-d"
        for delivery in (third, fourth):
            await delivery.ack()
        assert len(await transport.parked("c")) == 1

        async def none_pending() -> bool:
            return await pending(nats_broker.url) == 0

        await until(none_pending)
        assert (await broker.consumer_info(STREAM, "g")).num_pending == 0


@pytest.mark.contract("WEB-606")
@pytest.mark.parametrize("word", [b"it%20does%20not%20fit", b"+TERM"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_that_breaks_while_burying_makes_no_second_letter_and_loses_none(
    nats_broker: Any, word: bytes, after: bool
) -> None:
    async with way_to(nats_broker.url) as (proxy, url), opened(url, lease=1) as transport:
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            delivery = await anext(deliveries)
            proxy.cut_at(word, after=after)
            await delivery.park("it does not fit")
            assert proxy.cut.is_set()
        assert len(await transport.parked("c")) == 1
    assert await pending(nats_broker.url) == 0


@pytest.mark.contract("WEB-606")
@pytest.mark.parametrize("after", [False, True])
async def test_an_acknowledgement_whose_answer_is_lost_is_sent_again(nats_broker: Any, after: bool) -> None:
    async with way_to(nats_broker.url) as (proxy, url), opened(url, lease=60) as transport:
        await transport.publish("c", [sent("a"), sent("b")])
        async with aclosing(transport.receive("c", group="g", prefetch=2)) as deliveries, asyncio.timeout(PATIENCE):
            first, second = await anext(deliveries), await anext(deliveries)
            proxy.cut_at(b"+ACK", after=after)
            await first.ack()
            assert proxy.cut.is_set()
            await second.ack()
    assert await pending(nats_broker.url) == 0


@pytest.mark.contract("WEB-606")
async def test_a_process_that_dies_between_letter_and_end_leaves_one_letter(nats_broker: Any) -> None:
    async with way_to(nats_broker.url) as (proxy, url), opened(nats_broker.url, lease=0.5) as survivor:
        dying = NatsStreams(url, lease=0.5)
        await survivor.publish("c", [sent("a")])
        source = dying.receive("c", group="g", prefetch=1)
        delivery = await anext(source)
        proxy.cut_at(b"+TERM")
        burying = asyncio.ensure_future(delivery.park("why"))
        await proxy.cut.wait()
        burying.cancel()
        await asyncio.gather(burying, return_exceptions=True)
        assert len(await survivor.parked("c")) == 1
        async with aclosing(survivor.receive("c", group="g", prefetch=1)) as deliveries, asyncio.timeout(PATIENCE):
            await (await anext(deliveries)).park("why")
        assert len(await survivor.parked("c")) == 1
        await source.aclose()
        await dying.stop()


@pytest.mark.contract("WEB-606")
async def test_a_cancelled_publish_and_settling_break_nothing(nats_broker: Any) -> None:
    async with opened(nats_broker.url, lease=2) as transport:
        for round in range(20):
            publishing = asyncio.ensure_future(transport.publish("c", [sent(f"{round}-{n}") for n in range(50)]))
            await asyncio.sleep(0.0005 * round)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        await transport.publish("c", [sent("last")])
        heard = list[str]()
        async with aclosing(transport.receive("c", group="g", prefetch=9)) as deliveries, asyncio.timeout(PATIENCE):
            async for delivery in deliveries:
                acking = asyncio.ensure_future(delivery.ack())
                await asyncio.sleep(0)
                acking.cancel()
                await asyncio.gather(acking, return_exceptions=True)
                await delivery.ack()
                heard.append(delivery.message.body.decode())
                if heard[-1] == "last":
                    break
        assert len(set(heard)) == len(heard)
        assert not transport._connection.current or not transport._connection.current._answers
    assert await pending(nats_broker.url) == 0


# what is kept


@pytest.mark.contract("WEB-607")
async def test_old_messages_go_only_when_every_group_has_done_with_them(nats_broker: Any) -> None:
    async with opened(nats_broker.url, retention=0, lease=0.3) as one, jetstream(nats_broker.url) as broker:
        await broker.add_stream(name=STREAM, subjects=[SUBJECT])
        for group in ("g", "behind"):
            await broker.add_consumer(STREAM, durable_name=group, ack_policy="explicit")
        await one.publish("c", [sent(str(n)) for n in range(4)])

        async def kept() -> int:
            return (await broker.stream_info(STREAM)).state.messages

        async def ack(transport: NatsStreams, group: str, count: int) -> None:
            async with aclosing(transport.receive("c", group=group, prefetch=1)) as source, asyncio.timeout(PATIENCE):
                for _ in range(count):
                    await (await anext(source)).ack()

        await ack(one, "g", 4)
        await ack(one, "behind", 2)

        async def only(count: int) -> bool:
            return await kept() == count

        await until(lambda: only(2))
        await asyncio.sleep(0.5)
        assert await kept() == 2
        await ack(one, "behind", 2)
        await until(lambda: only(0))
        await one.publish("c", [sent("new")])
        assert await kept() == 1


@pytest.mark.contract("WEB-607")
async def test_what_is_younger_stays(nats_broker: Any) -> None:
    async with opened(nats_broker.url, retention=2, lease=0.3) as one, jetstream(nats_broker.url) as broker:
        await one.publish("c", [sent("a")])
        await asyncio.sleep(1.6)
        await one.publish("c", [sent("b")])

        async def only_the_younger() -> bool:
            return (await broker.stream_info(STREAM)).state.first_seq == 2

        await until(only_the_younger)
        assert (await broker.stream_info(STREAM)).state.messages == 1


@pytest.mark.contract("WEB-607")
async def test_dead_letters_are_a_stream_that_anybody_can_read(nats_broker: Any) -> None:
    async with opened(nats_broker.url) as transport, jetstream(nats_broker.url) as broker:
        await transport.publish("c", [sent("a")])
        async with aclosing(transport.receive("c", group="g", prefetch=1)) as deliveries, asyncio.timeout(PATIENCE):
            await (await anext(deliveries)).park("it does not fit")
        letter = await broker.get_msg(dead_stream_of("c"), 1)
        assert letter.data == b"a"
        assert letter.headers is not None
        assert letter.headers["ce-id"] == "id-a"
        assert (letter.headers["wintry-group"], letter.headers["wintry-reason"]) == ("g", "it%20does%20not%20fit")
