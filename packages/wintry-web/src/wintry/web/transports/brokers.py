"""From entries of the settings to transports: which module a kind of broker is in, and what it needs.

`memory` and `database` are wintry-bus's own. The others are put beside them before anything listens or sends, when the
application builds its singletons; the bus starts and stops them all. A broker need not be there for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import SettingsError
from ..settings import TransporterSettings

if TYPE_CHECKING:
    from wintry.bus import Runtime
    from wintry.bus.transports import Transport

LOCAL_REDIS: Final = "redis://localhost:6379/0"


class Brokers:
    """The transports of an application that are brokers, by the names of their entries."""

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self.transports = transports


def redis(entry: TransporterSettings, runtime: Runtime) -> Transport:
    """Streams, with the leases of the bus."""
    from .redis import RedisStreams

    url = entry.url or LOCAL_REDIS
    return RedisStreams(url, owner=runtime.owner, lease=runtime.limits.lease, bridge=entry.bridge)


def redis_pubsub(entry: TransporterSettings, runtime: Runtime) -> Transport:
    """Fire and forget."""
    from .redis_pubsub import RedisPubSub

    return RedisPubSub(entry.url or LOCAL_REDIS)


Make = Callable[[TransporterSettings, "Runtime"], "Transport"]
KINDS: Final[Mapping[str, tuple[Make, str, str]]] = {  # what makes it, the client that it needs, the extra with it
    "redis": (redis, "redis", "redis"),
    "redis_pubsub": (redis_pubsub, "redis", "redis"),
}
OF_THE_BUS: Final = ("database", "memory")


def brokers(entries: Sequence[TransporterSettings]) -> Mapping[Any, Callable[..., Any]]:
    """What puts the brokers of the settings into the runtime: a provider, or nothing if there are none.

    Raises:
        SettingsError: an entry is of a kind that nobody knows, or its client is not installed.
    """
    wanted = [entry for entry in entries if entry.kind not in OF_THE_BUS]
    if faults := [fault for entry in wanted for fault in missing(entry)]:
        raise SettingsError(faults)
    if not wanted:
        return {}
    from wintry.bus import Runtime

    def provide(runtime: Runtime) -> Brokers:
        made = {entry.name: KINDS[entry.kind][0](entry, runtime) for entry in wanted}
        runtime.transports.update(made)
        return Brokers(made)

    provide.__annotations__["runtime"] = Runtime  # the name is of this function only
    return {Brokers: provide}


def missing(entry: TransporterSettings) -> list[str]:
    """Why this entry cannot work."""
    place = f"transporters.{entry.name}"
    if entry.kind not in KINDS:
        known = ", ".join(sorted((*KINDS, *OF_THE_BUS)))
        return [f"{place}: there is no transport {entry.kind!r}; there are: {known}"]
    _, client, extra = KINDS[entry.kind]
    for module in ("wintry.bus", client):
        try:
            __import__(module)
        except ImportError:
            return [f"{place}: {entry.kind} needs {module}: install wintry-web[{extra}]"]
    return []
