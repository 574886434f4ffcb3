"""RabbitMQ: one node by itself, from the system's package.

It is the Erlang VM itself that is started, and not the shell script around it, so that a signal meets the node. The
node has a name and listens to no other: no distribution port, no epmd, neither ours nor the system's. Its settings,
data and home are in its folder; nothing of /etc or /var is read. No plugin runs.

A virtual host is what a test has for itself, and AMQP cannot make one, nor is there a plugin that could. So the node
opens a Unix socket in its folder (`CONTROL`) that adds and deletes virtual hosts, in milliseconds; `rabbitmqctl` takes
seconds. It opens when the node has started, which is how the node is known to be ready.

That there is a new quorum queue reaches the disk up to half a second after its declaration has been answered: a node
that is killed sooner has a queue without a leader when it is back, for good. Tests are that quick, and no service is;
so `kill` has the node write that down first, and nothing else.

Nor does a service delete a queue whose node has just started. One with `x-dead-letter-strategy: at-least-once` has a
process that looks after its dead letters; a node of 3.10 whose queue is deleted while that one begins loses the
supervisor of all of them, and from then on every new queue of that kind breaks the connection of who declares it. So
virtual hosts are deleted when their queues have a leader and those processes have begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .daemon import Daemon
from .programs import newest, on_path

CONTROL = "control"
SYNC_SECONDS = 2.0
SERVE_CONTROL = """
file:delete("control"),
{ok, Listening} = gen_tcp:listen(0, [binary, {ifaddr, {local, "control"}}, {packet, line}, {active, false}]),
Begun = fun(Name) ->
    [ra:consistent_query(amqqueue:get_pid(Queue), fun(_) -> ok end, 30000)
        || Queue <- rabbit_amqqueue:list(Name), amqqueue:get_type(Queue) =:= rabbit_quorum_queue],
    [sys:get_status(Worker) || {_, Worker, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup), is_pid(Worker)]
end,
Serve = fun Serve() ->
    {ok, Socket} = gen_tcp:accept(Listening),
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} ->
            Done = case string:lexemes(Line, " \\n") of
                [<<"sync">>] -> [dets:sync(Table) || Table <- dets:all()], ok;
                [<<"add">>, Name] ->
                    rabbit_vhost:add(Name, <<"tests">>),
                    rabbit_auth_backend_internal:set_permissions(
                        <<"guest">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"tests">>);
                [<<"delete">>, Name] -> catch Begun(Name), rabbit_vhost:delete(Name, <<"tests">>)
            end,
            gen_tcp:send(Socket, io_lib:format("~0p~n", [Done]));
        _ -> ok
    end,
    gen_tcp:close(Socket),
    Serve()
end,
Serve().
"""
OPTIONS = (
    *("-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w"),
    *("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),  # no busy waiting beside the tests
    *("-sname", "wintry@localhost", "-dist_listen", "false", "-erl_epmd_port", "1", "-setcookie", "wintry"),
    *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
    *("-kernel", "prevent_overlapping_partitions", "false", "-eval", SERVE_CONTROL),
)


class RabbitMQ(Daemon):
    """A node with the user guest, who may do everything."""

    title = "RabbitMQ"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    async def prepare(self) -> None:
        (self.folder / "home").mkdir()
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("log.console = true\nlog.console.level = warning\n")

    def command(self) -> list[str | Path]:
        return [self.program, *OPTIONS]

    def environment(self) -> Mapping[str, str]:
        server, folder = library(), self.folder
        assert server is not None
        return {
            "HOME": str(folder / "home"),
            "ERL_CRASH_DUMP": "/dev/null",
            "ERL_EPMD_PORT": "1",
            "ERL_LIBS": str(server / "plugins"),
            "ERL_ZFLAGS": "-start_epmd false",  # of every VM that the node starts, too
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_HOME": str(server),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": "wintry@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_PLUGINS_DIR": str(server / "plugins"),
            "RABBITMQ_QUORUM_DIR": str(folder / "quorum"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_STREAM_DIR": str(folder / "stream"),
        }

    async def start(self) -> None:
        if not self.running:
            (self.folder / CONTROL).unlink(missing_ok=True)  # that of a node which was killed
        await super().start()

    async def kill(self) -> None:
        with suppress(OSError, TimeoutError):  # it is paused, or has ended
            async with asyncio.timeout(SYNC_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.folder / CONTROL)
                writer.write(b"sync\n")
                await reader.readline()
                writer.close()
        await super().kill()

    async def ready(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.folder / CONTROL)
        except OSError:
            return False
        writer.close()
        return True


def library() -> Path | None:
    """Where the node's code is."""
    return newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-*")


def erl() -> Path | None:
    """The Erlang VM, where there is a RabbitMQ for it."""
    return on_path("erl") if library() else None
