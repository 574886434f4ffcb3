"""The servers that the tests start: each answers its own client, survives what tests do to it, and not the run."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import nats
import pytest
import redis.asyncio
from pymongo import AsyncMongoClient
from redis.exceptions import RedisError
from wintry_test_servers.chromium import PageFailed, browser, program
from wintry_test_servers.databases import rabbitmq_virtual_host
from wintry_test_servers.kinds import KINDS
from wintry_test_servers.plugin import available

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
NOBODY = 65534
URLS = ["postgres_url", "mongodb_url", "redis_url", *(["rabbitmq_url"] if KINDS["rabbitmq"].find() else [])]
ASKS_FOR_ALL = f"""
import json, os, threading

def test_all(servers, redis_server, tmp_path_factory, {", ".join(URLS)}):
    with open(os.environ["STATUS"] + ".part", "w") as file:
        json.dump({{"address": servers.address, "urls": [{", ".join(URLS)}]}}, file)
    os.rename(file.name, os.environ["STATUS"])
    if "GOES_ON" in os.environ:
        threading.Event().wait()
"""
ASK_FOR_ONE = """
import os, pathlib, pytest, threading

@pytest.mark.parametrize("number", [0, 1])
def test_one(servers, shared_redis_url, number):
    folder = pathlib.Path(os.environ["STATUS"])
    (folder / f"{number}.part").write_text(f"{os.getpid()} {servers.url('redis')} {shared_redis_url}")
    (folder / f"{number}.part").rename(folder / str(number))
    while len(list(folder.glob("[01]"))) < 2:  # so that each worker has one
        os.sched_yield()
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + SECONDS
    while not (met := condition()):
        assert time.monotonic() < until, f"not within {SECONDS:g} s"
        time.sleep(0.01)
    return met


def within(folder: Path) -> list[int]:
    """The processes that work in this folder or below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            working = os.readlink(entry / "cwd")
        except OSError:
            continue  # ended, or another user's
        if Path(working.removesuffix(" (deleted)")).is_relative_to(folder):
            found.append(int(entry.name))
    return found


class Runs:
    """Test runs of their own, as processes of their own; all of them are ended behind the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, code: str, *options: str, prefix: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[str]:
        path = self.folder / "test_inner.py"
        path.write_text(code)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_WINTRY_"))}
        plugins = ["-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "xdist"]
        pytest_ = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *plugins]
        self.begun.append(
            subprocess.Popen(
                [*prefix, *pytest_, "-rs", f"--basetemp={self.folder / 'base'}", *options, str(path)],
                cwd=self.folder,
                env={**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return self.begun[-1]

    def output(self, code: str, *options: str, **variables: str) -> tuple[int, str]:
        """Exit code and output of a whole run."""
        run = self.begin(code, *options, **variables)
        output, _ = run.communicate(timeout=SECONDS)
        return run.returncode, output

    def holding(self, *options: str, prefix: tuple[str, ...] = ()) -> tuple[subprocess.Popen[str], Path]:
        """A run whose one test has all servers and does not end; and the folder of its servers."""
        status = self.folder / f"status-{uuid.uuid4().hex}"
        run = self.begin(ASKS_FOR_ALL, *options, prefix=prefix, STATUS=str(status), GOES_ON="1")
        eventually(lambda: status.exists() or run.poll() is not None)
        assert run.poll() is None, run.stdout and run.stdout.read()
        folder = Path(json.loads(status.read_text())["address"]).parent
        assert len(within(folder)) >= len(URLS) + 2  # the supervisor, and a Valkey of the test's own
        return run, folder

    def end(self) -> None:
        for run in self.begun:
            with suppress(ProcessLookupError):  # the group outlives its leader: workers wait for a while
                os.killpg(run.pid, signal.SIGKILL)
            with run:
                pass  # waits, and closes the pipe


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    yield made
    made.end()


async def write(url: str) -> None:
    """Put one value into the server of the URL, by its own client."""
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept (value int)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        await connection.close()
    elif url.startswith("mongodb"):
        async with AsyncMongoClient[dict[str, Any]](url) as client:
            await client.wintry.kept.insert_one({"value": 1})
    elif url.startswith("amqp"):
        async with await aio_pika.connect(url) as broker, broker.channel() as channel:
            queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(aio_pika.Message(b"1"), queue.name)
    elif url.startswith("nats"):
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="kept", subjects=["kept"])
        await client.jetstream().publish("kept", b"1")
        await client.close()
    else:
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.set("kept", 1)


async def read(url: str) -> int:
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval("SELECT value FROM kept"))
        finally:
            await connection.close()
    if url.startswith("mongodb"):
        async with AsyncMongoClient[dict[str, Any]](url) as client:
            found = await client.wintry.kept.find_one({})
        assert found is not None
        return int(found["value"])
    if url.startswith("amqp"):
        async with await aio_pika.connect(url) as broker, broker.channel() as channel:
            queue = await channel.get_queue("kept")
            message = await queue.get(timeout=SECONDS)
            return int(message.body)
    if url.startswith("nats"):
        client = await nats.connect(url)
        try:
            return int((await client.jetstream(timeout=SECONDS).get_msg("kept", 1)).data or b"")
        finally:
            await client.close()
    async with redis.asyncio.Redis.from_url(url) as client:
        return int(await client.get("kept"))


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


# -- each answers its own client


@pytest.mark.parametrize("fixture", ["postgres_url", "postgres_system_url"])
async def test_postgres_rolls_back(fixture: str, request: pytest.FixtureRequest) -> None:
    connection = await asyncpg.connect(request.getfixturevalue(fixture))
    try:
        await connection.execute("CREATE TABLE t (x int)")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        assert await connection.fetchval("SELECT count(*) FROM t") == 0
    finally:
        await connection.close()


async def test_mongodb_has_transactions(mongodb_url: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_url) as client:
        database = client.get_default_database()
        async with client.start_session() as session:
            async with await session.start_transaction():
                await database.t.insert_one({"x": 1}, session=session)
            with pytest.raises(ZeroDivisionError):
                async with await session.start_transaction():
                    await database.t.insert_one({"x": 2}, session=session)
                    raise ZeroDivisionError
        assert [found["x"] async for found in database.t.find()] == [1]


async def test_a_command_of_mongodb_may_be_cancelled_while_it_connects(mongodb_url: str) -> None:
    for turns in range(40):  # of the event loop; some of them meet the client between connect and transport
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
        await client.admin.command("ping")
        commands = [asyncio.create_task(client.admin.command("ping")) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for command in commands:
            command.cancel()
        await asyncio.gather(*commands, return_exceptions=True)
        await client.close()
    gc.collect()


async def test_mongodb_has_fail_points(mongodb_server: Any) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_server.url) as client:
        failing = {"failCommands": ["find"], "errorCode": 2}
        await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=failing)
        with pytest.raises(Exception, match="failCommand"):
            await client.wintry.t.find_one({})
        assert await client.wintry.t.find_one({}) is None


@pytest.mark.parametrize("fixture", ["redis_url", "redis_system_url"])
async def test_redis_has_streams_and_channels(fixture: str, request: pytest.FixtureRequest) -> None:
    client = redis.asyncio.Redis.from_url(request.getfixturevalue(fixture))
    async with client, client.pubsub() as heard:
        await client.xadd("s", {"x": "1"})
        assert [fields for _, fields in await client.xrange("s")] == [{b"x": b"1"}]
        channel = uuid.uuid4().hex
        await heard.subscribe(channel)
        assert await heard.get_message(timeout=SECONDS) is not None
        await client.publish(channel, "x")
        message = await heard.get_message(timeout=SECONDS)
        assert message is not None
        assert message["data"] == b"x"


@pytest.mark.parametrize("name", ["postgres", "mongodb", "redis"])
async def test_a_test_has_a_database_for_itself(name: str, request: pytest.FixtureRequest) -> None:
    of_test, of_module = (request.getfixturevalue(f"{prefix}{name}_url") for prefix in ("", "shared_"))
    assert of_test != of_module
    if name == "postgres":
        await write(of_test)
        with pytest.raises(asyncpg.UndefinedTableError):
            await read(of_module)
    elif name == "redis":
        await write(of_test)
        async with redis.asyncio.Redis.from_url(of_module) as client:
            assert await client.dbsize() == 0


async def test_a_virtual_host_is_the_tests_alone(rabbitmq_url: str, rabbitmq_server: Any) -> None:
    with rabbitmq_virtual_host(rabbitmq_server.url, rabbitmq_server.control) as other:
        await write(other)
        assert await read(other) == 1
    for url in (other, rabbitmq_url):  # one that is gone, one where nothing was written
        with pytest.raises(aio_pika.exceptions.AMQPException):
            await read(url)


async def test_a_virtual_host_goes_right_after_a_restart_and_harms_no_other(rabbitmq_server: Any) -> None:
    for _ in range(2):
        with rabbitmq_virtual_host(rabbitmq_server.url, rabbitmq_server.control) as url:
            await asyncio.wait_for(keep_dead_letters(url), SECONDS)
            rabbitmq_server.kill()
            rabbitmq_server.start()


async def keep_dead_letters(url: str) -> None:
    """Make a queue whose dead letters the broker looks after."""
    arguments: Any = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_queue("q", durable=True, arguments=arguments)


def test_rabbitmq_starts_no_epmd(rabbitmq_server: Any) -> None:
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in within(rabbitmq_server.log.parent)}
    assert "beam.smp" in names
    assert "epmd" not in names
    rabbitmq_server.kill()
    assert within(rabbitmq_server.log.parent) == []


# -- what a test does to a server of its own


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("name", ["postgres", "mongodb", "redis", "rabbitmq", "nats"])
async def test_comes_back_with_its_data(name: str, how: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{name}_server")
    await write(server.url)
    getattr(server, how)()
    assert await refused(server.port)
    server.start()
    assert await read(server.url) == 1


async def test_a_running_server_restarts(redis_server: Any) -> None:
    async def identity() -> str:
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            return str((await client.info("server"))["run_id"])

    before = await identity()
    redis_server.restart()
    assert await identity() != before


async def test_a_killed_postgres_frees_what_its_backends_hold(postgres_server: Any) -> None:
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("CREATE TABLE t (x int)")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE t")
    postgres_server.kill()
    assert within(postgres_server.log.parent) == []
    postgres_server.start()
    connection.terminate()
    again = await asyncpg.connect(postgres_server.url)
    await again.execute("LOCK TABLE t; DROP TABLE t", timeout=SECONDS)
    await again.close()


@pytest.mark.parametrize("name", ["postgres", "mongodb", "redis", "rabbitmq", "nats"])
async def test_a_paused_server_does_not_answer(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{name}_server")
    await write(server.url)
    server.pause()
    reading = asyncio.create_task(read(server.url))
    done, _ = await asyncio.wait([reading], timeout=0.2)
    assert not done
    server.resume()
    assert await reading == 1


async def test_a_paused_postgres_leaves_open_connections_without_an_answer(postgres_server: Any) -> None:
    connection = await asyncpg.connect(postgres_server.url)
    postgres_server.pause()
    asking = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asking], timeout=0.2)
    assert not done
    postgres_server.resume()
    assert await asking == 1
    await connection.close()


async def test_a_paused_server_can_be_ended(postgres_server: Any) -> None:
    postgres_server.pause()
    postgres_server.kill()
    assert within(postgres_server.log.parent) == []
    postgres_server.start()
    postgres_server.pause()
    postgres_server.restart()
    await write(postgres_server.url)


async def test_another_server_is_another(redis_server: Any, servers: Any) -> None:
    with servers.own("redis") as other:
        assert other.port != redis_server.port
        redis_server.kill()
        await write(other.url)
        with pytest.raises((RedisError, OSError)):
            await write(redis_server.url)
    assert await refused(other.port)


# -- a run and its workers


def test_workers_share_a_server(runs: Runs, tmp_path: Path) -> None:
    code, output = runs.output(ASK_FOR_ONE, "-n", "2", "--dist", "load", STATUS=str(tmp_path))
    assert code == 0, output
    pids, urls, databases = zip(*((tmp_path / name).read_text().split() for name in "01"), strict=True)
    assert len(set(pids)) == 2
    assert len(set(urls)) == 1
    assert len(set(databases)) == 2


def test_a_run_that_asks_for_nothing_starts_nothing(runs: Runs) -> None:
    started = "def test(pytestconfig):\n    from wintry_test_servers.plugin import RUN\n"
    code, output = runs.output(f"{started}    assert pytestconfig.stash[RUN]._supervisor is None\n")
    assert code == 0, output


def test_a_server_of_somebody_else_is_used(runs: Runs, redis_server: Any) -> None:
    test = f"def test(redis_url):\n    assert redis_url.startswith('redis://127.0.0.1:{redis_server.port}/')\n"
    code, output = runs.output(test, TEST_WINTRY_REDIS_URL=redis_server.url)
    assert code == 0, output


def test_what_cannot_be_had_is_skipped_with_the_reason(runs: Runs) -> None:
    code, output = runs.output("def test(redis_system_url): pass\n", PATH="/nowhere")
    assert code == 0
    assert "redis-system: no program for it here: install the system's package redis-server" in output


def test_what_cannot_be_had_fails_where_it_is_required(runs: Runs) -> None:
    required = {"TEST_WINTRY_REQUIRE": "chromium,redis-system"}
    code, output = runs.output("def test(redis_system_url): pass\n", PATH="/nowhere", **required)
    assert code == 1
    assert "redis-system is required by TEST_WINTRY_REQUIRE: no program for it here" in output


# -- the browser


def test_a_browser_that_ends_keeps_nobody_waiting(tmp_path: Path) -> None:
    with available("chromium"):
        program()

    async def end() -> None:
        async with browser(tmp_path) as opened, asyncio.timeout(20):
            for method in ("Browser.crash", "Browser.getVersion"):
                with pytest.raises(PageFailed, match="has ended"):
                    await opened.ask(method)

    asyncio.run(end())


# -- the end of a run


def test_nothing_is_left_behind_a_run(runs: Runs, tmp_path: Path) -> None:
    code, output = runs.output(ASKS_FOR_ALL, STATUS=str(tmp_path / "status"))
    assert code == 0, output
    folder = Path(json.loads((tmp_path / "status").read_text())["address"]).parent
    assert within(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("send", "options"),
    [(os.kill, ()), (os.kill, ("-n", "2")), (os.killpg, ("-n", "2"))],
    ids=["the only process", "the controller", "the group"],
)
def test_nothing_is_left_behind_a_killed_run(
    runs: Runs, send: Callable[[int, int], None], options: tuple[str, ...]
) -> None:
    run, folder = runs.holding(*options)
    send(run.pid, signal.SIGKILL)
    eventually(lambda: not within(folder))
    eventually(lambda: not folder.exists())


def test_no_server_outlives_a_killed_supervisor(runs: Runs) -> None:
    run, folder = runs.holding()
    (supervisor,) = (pid for pid in within(folder) if Path(os.readlink(f"/proc/{pid}/cwd")) == folder)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not within(folder))
    assert folder.exists()
    # The next run removes what is left, once it cannot be that of a run which is about to begin.
    os.utime(folder, (0, 0))
    runs.output("def test(servers): pass\n")
    assert not folder.exists()
    assert run.poll() is None


def test_as_a_plain_user(runs: Runs) -> None:
    """As root it becomes one that may read root's files: the environment is often among them."""
    if os.geteuid() != 0:
        pytest.skip("the whole run is that of a plain user")
    may_read = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *may_read)
    run, folder = runs.holding(prefix=become)
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in within(folder)}
    assert owners == {NOBODY}
    run.kill()
    eventually(lambda: not within(folder))
    eventually(lambda: not folder.exists())
