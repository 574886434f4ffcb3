"""The part of an application that opens its stores.

An application finds `RepositoryComponent` under the entry-point group `wintry.components`, and knows it by shape alone;
it knows the application's settings by shape too: `settings.backends` is a list of entries with a `name`, a `url` or
`connection_options.url`, and perhaps a `driver`, whose other connection options go to the backend. The component
provides the `Backends`, opens them before anything else starts, and makes the schema of the repositories that the
container has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from wintry.models import DefinitionError as ModelDefinitionError
from wintry.models import InvalidValue, OwnershipError, collecting

from .connections import Backends
from .errors import (
    AlreadyExists,
    ConcurrentModification,
    ConfigurationError,
    Conflict,
    DefinitionError,
    InvalidArgument,
    MultipleFound,
    NotFound,
    PreconditionFailed,
    UnitTimeout,
    Unreachable,
)
from .repository import Repository

DRIVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pg": "postgresql",
        "mongo": "mongodb",
        "sqlite": "sqlite",
        "memory": "memory",
    }
)
"""The names of drivers that settings may use, and the kind of URL that goes with each; `wintry.drivers.pg` is `pg`."""


C = TypeVar("C")


class Providers(Protocol):
    """What is asked of the container."""

    def subclasses(self, base: type[C], /) -> Iterable[type[C]]:
        """The classes it provides that derive from `base`."""
        ...


class RepositoryComponent:
    """Opens the backends of the settings, and closes them."""

    name = "repository"
    after: tuple[str, ...] = ()
    settings: None = None
    errors: Mapping[type[Exception], int] = MappingProxyType(
        {
            NotFound: 404,
            MultipleFound: 409,
            AlreadyExists: 409,
            ConcurrentModification: 409,
            PreconditionFailed: 412,
            InvalidArgument: 422,
            InvalidValue: 422,
            OwnershipError: 422,
            Conflict: 503,  # it was tried again for a while, and may be once more
            Unreachable: 503,
            UnitTimeout: 503,
        }
    )

    def __init__(self) -> None:
        self._backends: Backends | None = None

    def providers(self, settings: Any) -> Mapping[type, Callable[..., Any]]:
        """`Backends`, as the settings list them; nothing where they list none. Raises `ConfigurationError`, with all."""
        found = backends_of(getattr(settings, "backends", None) or ())
        if found is None:
            return {}
        backends = self._backends = found

        def provide() -> Backends:
            return backends

        return {Backends: provide}

    def faults(self, container: Providers) -> list[Exception]:
        """What is wrong with the container's repositories on these backends; it connects them."""
        if self._backends is None:
            return []
        faults: list[Exception] = []
        for repository in container.subclasses(Repository):
            try:
                repository.connect(self._backends)
            except DefinitionError as error:
                faults += error.faults
            except ConfigurationError as error:
                faults.append(error)
        return faults

    async def start(self, container: Providers) -> None:
        """Connect, and make the schema of every repository. Raises `Unreachable`, and what is among `faults`."""
        if self._backends is None:
            return
        if faults := self.faults(container):
            raise faults[0]
        await self._backends.open()

    async def check(self) -> Mapping[str, Mapping[str, str]]:
        """The state of every backend by name."""
        if self._backends is None:
            return {}
        found = await self._backends.check()
        return {
            name: {"status": "ok", "detail": self._backends[name].kind}
            if fault is None
            else {"status": "down", "detail": fault}
            for name, fault in found.items()
        }

    async def drain(self, deadline: float) -> None:
        """A store has nothing to drain: its connections are used by the components that stop before it."""

    async def stop(self) -> None:
        """Close every connection."""
        if self._backends is not None:
            await self._backends.close()

    def collecting(self) -> AbstractContextManager[list[ModelDefinitionError]]:
        """While open, faults of Models and repositories join the list instead of being raised."""
        return collecting()


def backends_of(listed: Iterable[Any]) -> Backends | None:
    """The backends of the settings' entries, None of no entry. Raises `ConfigurationError`, with every fault."""
    entries: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for entry in listed:
        try:
            entries[entry.name] = entry_of(entry)
        except ConfigurationError as error:
            faults += error.faults
    made = None
    try:
        if entries:
            made = Backends.of(entries)
    except ConfigurationError as error:
        faults += error.faults
    if faults:
        raise ConfigurationError(*faults)
    return made


def entry_of(entry: Any) -> dict[str, Any]:
    """One entry of the settings as `Backends` takes it. Raises `ConfigurationError`."""
    connection = getattr(entry, "connection_options", None)
    options = {} if connection is None else _options(connection)
    url = options.pop("url", None) or getattr(entry, "url", None)
    driver = getattr(entry, "driver", None)
    scheme = DRIVERS.get((driver or "").removeprefix("wintry.drivers."))
    if driver is not None and scheme is None:
        known = ", ".join(DRIVERS)
        raise ConfigurationError(f"backend '{entry.name}': no driver is called '{driver}'; there are: {known}")
    if not url:
        raise ConfigurationError(f"backend '{entry.name}': connection_options.url is missing")
    if scheme is not None and url.partition("://")[0].partition("+")[0] != scheme:
        raise ConfigurationError(f"backend '{entry.name}': the driver '{driver}' wants a URL that begins with {scheme}")
    return {"url": url, **options}


def _options(connection: Any) -> dict[str, Any]:
    """The options that are set, of a mapping, a pydantic model or any other object."""
    dump = getattr(connection, "model_dump", None)
    given = dump() if dump is not None else connection if isinstance(connection, Mapping) else vars(connection)
    return {name: value for name, value in given.items() if value is not None}
