"""`Backends`: names → stores, opened and closed together.

Each entry is a URL, or a mapping with `url` and the options of its connection. The scheme finds the factory in the
entry-point group `wintry.backends`, whose values are callables `(name, url, options) -> Backend`; of
`sqlite+aiosqlite://` the whole scheme is looked for first, then the part before the `+`. Two entries of one URL are one
backend under two names.

A repository binds its Model when it is made, often before anything is opened. What is bound and has no schema yet is
`unready`; the first call on it makes the schema, once, however many tasks ask. So nothing needs to be declared in order.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

from wintry.models import info

from .backend import running
from .errors import ConfigurationError, DefinitionError, Unsupported, redacted

if TYPE_CHECKING:
    from types import TracebackType

    from wintry.models import Model

    from .backend import Backend, Options

Factory: TypeAlias = "Callable[[str, str, Options], Backend]"

GROUP: Final = "wintry.backends"
_EXTRAS: Final = MappingProxyType({"sqlite": "sqlite", "postgresql": "pg", "postgres": "pg", "mongodb": "mongo"})
"""The extra of this distribution that brings the client of a store."""


class Backends:
    """The stores of an application, by name.

    `Backends(default="sqlite+aiosqlite:///shop.db", views={"url": "memory://views"})`; open with `async with`. With
    `create_schema=False` no table is ever made. Raises `ConfigurationError` with every entry that cannot be: its URL is
    none, no backend serves it, or its options are not those of its backend.
    """

    def __init__(self, *, create_schema: bool = True, **backends: str | Mapping[str, Any]) -> None:
        if not backends:
            raise ConfigurationError("Backends: no backend is given; the usual name is default=")
        self._create_schema = create_schema
        self._by_name: dict[str, Backend] = {}
        self._owners: dict[Backend, dict[type[Model], str]] = {}
        self._opened = False
        self._making = asyncio.Lock()
        self.unready: set[Backend] = set()
        """Backends with bound Models whose schema is not known to be there; a call on one awaits `ready` first."""
        made: dict[tuple[str, str], tuple[Backend, Mapping[str, Any]]] = {}
        faults: list[str] = []
        for name, entry in backends.items():
            try:
                self._by_name[name] = _made(name, entry, made)
            except ConfigurationError as error:
                faults += [
                    each if each.startswith("backend '") else f"backend '{name}': {each}" for each in error.faults
                ]
        if faults:
            raise ConfigurationError(*faults)

    @classmethod
    def of(cls, backends: Mapping[str, str | Mapping[str, Any]], *, create_schema: bool = True) -> Self:
        """The same of a mapping, for names that are no keywords."""
        return cls(create_schema=create_schema, **dict(backends))

    def __repr__(self) -> str:
        return f"<Backends {', '.join(f'{name}: {backend.kind}' for name, backend in self._by_name.items())}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they were given."""
        return tuple(self._by_name)

    def __getitem__(self, name: str) -> Backend:
        """The backend of this name. Raises `ConfigurationError`."""
        try:
            return self._by_name[name]
        except KeyError:
            close = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(self._by_name)}"
            raise ConfigurationError(f"there is no backend '{name}'{hint}") from None

    def __iter__(self) -> Iterator[Backend]:
        """Each backend once."""
        return iter(dict.fromkeys(self._by_name.values()))

    def metadata(self, name: str = "default") -> Any:
        """The SQLAlchemy `MetaData` of a SQL backend. Raises `Unsupported` for another kind."""
        backend = self[name]
        metadata = getattr(backend, "metadata", None)
        if metadata is None:
            raise Unsupported(f"backends.metadata({name!r})", f"a backend of kind {backend.kind} has no tables")
        return metadata

    def bind(self, model: type[Model], name: str, repository: str) -> Backend:
        """The backend of a repository class called `repository` on `model`, which is stored there from now on.

        Raises `ConfigurationError` for an unknown name, `DefinitionError` for a Model that another one on the same
        backend owns.
        """
        try:
            backend = self[name]
        except ConfigurationError as error:
            raise ConfigurationError(f"{repository} is for_backend={name!r}, but {error}") from None
        roots = self._owners.setdefault(backend, {})
        if model not in roots:
            _refuse_owned(model, repository, roots)
            backend.bind(model)
            roots[model] = repository
            self.unready.add(backend)
        return backend

    async def ready(self, backend: Backend) -> None:
        """Make the schema of what was bound since the last time. Raises `ConfigurationError` before opening."""
        if not self._opened:
            raise ConfigurationError(f"the backend '{backend.name}' is not open: use `async with backends`")
        async with self._making:
            if backend not in self.unready:
                return
            if self._create_schema:
                _refuse_waiting_for_oneself(backend)
                await backend.create_schema()
            self.unready.discard(backend)

    async def create_schema(self) -> None:
        """Create what is missing of tables and indexes on every backend; alters and drops nothing."""
        for backend in self:
            await backend.create_schema()
            self.unready.discard(backend)

    async def open(self) -> None:
        """Open every backend, and make the schema of what is bound. Raises `Unreachable`."""
        opened: list[Backend] = []
        try:
            for backend in self:
                await backend.open()
                opened.append(backend)
            self._opened = True
            for backend in self:
                if backend in self.unready:
                    await self.ready(backend)
        except BaseException:
            await self._close(opened)
            raise

    async def close(self) -> None:
        """Close every backend, also where one fails to; its error is raised at the end."""
        await self._close(self)

    async def _close(self, backends: Iterable[Backend]) -> None:
        self._opened = False
        self.unready.update(backend for backend, roots in self._owners.items() if roots)
        failures = []
        for backend in backends:
            try:
                await backend.close()
            except Exception as error:  # noqa: BLE001 - kept, and told after all others had their turn
                failures.append(error)
        if failures:
            raise failures[0]

    async def check(self) -> Mapping[str, str | None]:
        """Ask every store for a sign of life: what each name says is wrong with it, None where nothing is."""
        found: dict[Backend, str | None] = {}
        for backend in self:
            try:
                await backend.check()
            except Exception as error:  # noqa: BLE001 - kept, and told after all others had their turn
                found[backend] = redacted(str(error)) or type(error).__name__
            else:
                found[backend] = None
        return {name: found[backend] for name, backend in self._by_name.items()}

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _refuse_waiting_for_oneself(backend: Backend) -> None:
    """Raises `ConfigurationError` where this task's unit has the only place that writes, and would wait for it."""
    execution = getattr(running(backend), "execution", None)
    if backend.kind == "sqlite" and execution is not None and execution.begun and not execution.read_only:
        raise ConfigurationError(
            f"the backend '{backend.name}' lacks the tables of a repository that was made inside a unit of work, which has "
            "begun to write: make repositories before, or call `await backends.create_schema()`"
        )


def _made(
    name: str, entry: str | Mapping[str, Any], made: dict[tuple[str, str], tuple[Backend, Mapping[str, Any]]]
) -> Backend:
    """The backend of an entry, which may be one of those `made` for the entries before it."""
    url, options = _entry(name, entry)
    key = _same_store(url)
    if key not in made:
        made[key] = _factory(name, url)(name, url, options), options
    backend, others = made[key]
    if others != options:
        raise ConfigurationError("another backend has its URL, but not its options")
    return backend


def _entry(name: str, entry: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    options = {"url": entry} if isinstance(entry, str) else dict(entry)
    url = options.pop("url", None)
    if not isinstance(url, str) or "://" not in url:
        shown = redacted(url) if isinstance(url, str) else url
        raise ConfigurationError(f"backend '{name}': a URL such as sqlite:///file.db is wanted, not {shown!r}")
    return url, options


def _same_store(url: str) -> tuple[str, str]:
    """What two URLs of one store have in common."""
    scheme, _, rest = url.partition("://")
    kind = scheme.partition("+")[0].lower()
    if kind == "sqlite" and rest.startswith("/"):
        path, mark, query = rest[1:].partition("?")
        if path and ":memory:" not in path and not path.startswith("file:"):
            path = str(Path(path).resolve())
        rest = f"/{path}{mark}{query}"
    return kind, rest


def _factory(name: str, url: str) -> Factory:
    scheme = url.partition("://")[0].lower()
    kind = scheme.partition("+")[0]
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    entry = found.get(scheme) or found.get(kind)
    if entry is None:
        reason = f"no installed backend serves '{scheme}://' ({redacted(url)}); there are: {', '.join(sorted(found))}"
        raise ConfigurationError(f"backend '{name}': {reason}")
    try:
        return cast("Factory", entry.load())
    except ModuleNotFoundError as error:
        if kind not in _EXTRAS or (error.name or "").startswith("wintry"):
            raise
        hint = f"install wintry-repository with the extra '{_EXTRAS[kind]}'"
        raise ConfigurationError(f"backend '{name}' ({kind}) needs {error.name}: {hint}") from error


def _refuse_owned(model: type[Model], repository: str, roots: Mapping[type[Model], str]) -> None:
    """An aggregate's children are stored with it: a repository of their own would store them twice."""
    for root, owner in roots.items():
        for whole, part in ((root, model), (model, root)):
            path = _owned_at(whole, part, ())
            if path is not None:
                place = f"{whole.__name__}.{'.'.join(path)}"
                name = repository if part is model else owner
                raise DefinitionError(
                    name,
                    f"{part.__name__} belongs to {whole.__name__}, which owns it at {place}",
                    f"reach it through the repository of {whole.__name__}",
                )


def _owned_at(whole: type[Model], part: type[Model], seen: tuple[type[Model], ...]) -> tuple[str, ...] | None:
    """The path on which `whole` holds `part` by value; None where it does not."""
    for field in info(whole).fields:
        held = field.model
        if held is part:
            return (field.name,)
        if held is not None and held not in seen:
            rest = _owned_at(held, part, (*seen, whole))
            if rest is not None:
                return (field.name, *rest)
    return None
