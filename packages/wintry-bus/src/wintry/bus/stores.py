"""Which store goes with which database: the one place of the bus that asks what kind a backend is.

A store is imported when a backend of its kind is met, so that an application needs the client of its own databases and
of no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from wintry.repository.backend import Backend
from wintry.repository.errors import ConfigurationError

from .journal.dialects import DIALECTS
from .journal.home import Home, UnitJournal

if TYPE_CHECKING:
    from .transports.queue import Queue

MONGODB: Final = "mongodb"
KINDS: Final = (*DIALECTS, MONGODB)
"""The kinds of backends that the bus can store on."""


def require(backend: Backend, what: str) -> None:
    """Raises `ConfigurationError` where nothing can be stored on `backend`."""
    if backend.kind not in KINDS:
        raise ConfigurationError(
            f"{what} needs a backend of {', '.join(KINDS[:-1])} or {KINDS[-1]}, and {backend.name!r} is {backend.kind}: "
            "name one of those in the settings"
        )


def home_on(backend: Backend) -> Home:
    """The home on a backend."""
    if backend.kind == MONGODB:
        from .journal.mongo_home import MongoHome

        return MongoHome(_narrowed(backend))
    from .journal.sql_home import SqlHome

    return SqlHome(_narrowed(backend))


def journal_on(home: Home, *, others: Sequence[Home], queues: dict[str, Any]) -> UnitJournal:
    """The journal beside `home`. `others` are the homes of other backends, `queues` the transports of this one."""
    if home.backend.kind == MONGODB:
        from .journal.mongo import MongoJournal

        return MongoJournal(_narrowed(home.backend), home=_narrowed(home), others=others)
    from .journal.sql import SqlJournal

    direct = queues if DIALECTS[home.backend.kind].serial else {}
    return SqlJournal(_narrowed(home.backend), home=_narrowed(home), others=others, direct=direct)


def queue_on(home: Home, **options: Any) -> Queue:
    """A queue beside `home`; `options` are those of the transport."""
    if home.backend.kind == MONGODB:
        from .transports.mongo import MongoQueue

        return MongoQueue(_narrowed(home.backend), home=_narrowed(home), **options)
    from .transports.database import Database

    return Database(_narrowed(home.backend), commits=_narrowed(home).commits, **options)


def _narrowed(store: Any) -> Any:
    """What is of this kind is of this class; the classes cannot be named here without importing their clients."""
    return store
