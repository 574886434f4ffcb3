"""Brokers by their kind: a distribution brings one by an entry point of the group `wintry.transports`.

The entry point's name is the kind, as the driver of a transporter gives it; its object is a `Broker`, a function that
is called twice: with the transporter's entry of the settings while the application is put together, to say what it
lacks, and what it gave then with the runtime, whose owner and leases it takes over. `memory` and `database` are the
bus's own. A broker need not be reachable for any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from ..errors import SettingsError

if TYPE_CHECKING:
    from ..runtime import Runtime
    from .transport import Transport

GROUP: Final = "wintry.transports"
OWN: Final = ("database", "memory")

Connect = Callable[["Runtime"], "Transport"]
Broker = Callable[[Any], Connect]
"""From a transporter's entry to what makes its transport. Raises ValueError: what the entry lacks, as a sentence."""


def brokers(entries: Iterable[Any]) -> Mapping[str, Connect]:
    """What connects each entry that is no kind of the bus's own, by the entry's name.

    An entry has a `name` and a `kind`. Raises SettingsError with every entry's fault: a kind that nobody brings, or
    what its broker says.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    made: dict[str, Connect] = {}
    faults: list[str] = []
    for entry in entries:
        if entry.kind in OWN:
            continue
        try:
            made[entry.name] = connector(entry, known)
        except ValueError as fault:
            faults.append(f"transporters.{entry.name}: {fault}")
    if faults:
        raise SettingsError(faults)
    return made


def connector(entry: Any, known: Mapping[str, EntryPoint]) -> Connect:
    if entry.kind not in known:
        raise ValueError(f"there is no transport {entry.kind!r}; there are: {', '.join(sorted((*known, *OWN)))}")
    broker: Broker = known[entry.kind].load()
    return broker(entry)
