"""The settings of an application, merged from code, secrets, a file, `.env` and the environment.

Each source is first brought to one form: `backends` and `transporters` become mappings by name, and `url` becomes
`connection_options.url`. The forms are then merged key by key, the environment on top, so that
`WINTRY_BACKENDS__DEFAULT__URL` replaces one key of one entry and leaves the others alone. Only then is the result
validated, and the two mappings are lists again. Sections that belong to a component (`settings.section`) are kept
as they came until the application knows its components.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from .errors import SettingsError
from .limits import Limits

PREFIX = "WINTRY_"
FILE_VARIABLE = "WINTRY_SETTINGS"
"""The environment variable that names the settings file, TOML or JSON; `--settings` of the commands sets it."""

NAMED = ("backends", "transporters")
LIMITS = tuple(field.name for field in fields(Limits))
given_file: ContextVar[str | None] = ContextVar("given settings file", default=None)
SECTION = TypeVar("SECTION", bound=BaseModel)

# A driver's name (the last word of the spelling in the settings) and the URL schemes that it speaks.
SCHEMES: Mapping[str, frozenset[str]] = {
    "pg": frozenset({"postgres", "postgresql"}),
    "sqlite": frozenset({"sqlite"}),
    "mongo": frozenset({"mongodb", "mongodb+srv"}),
    "memory": frozenset({"memory"}),
    "redis": frozenset({"redis", "rediss", "unix"}),
    "redis_pubsub": frozenset({"redis", "rediss", "unix"}),
    "rabbitmq": frozenset({"amqp", "amqps"}),
    "nats": frozenset({"nats", "tls"}),
}


class TransporterType(StrEnum):
    """The brokers by name. As `@microservice(TransporterType.redis)` it names the entry of the settings."""

    redis = "redis"
    redis_pubsub = "redis_pubsub"
    rabbitmq = "rabbitmq"
    nats = "nats"
    database = "database"
    memory = "memory"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ConnectionOptions(Options):
    """How to reach a server. The URL may hold a password and stays out of `repr`.

    Beside it stand the options of a backend (`pool_size` …), each with its own, which it checks.
    """

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    url: str | None = Field(default=None, repr=False)


class Connected(Options):
    """An entry with a server behind it; `url` is a short spelling of `connection_options.url`."""

    driver: str | None = None
    url: str | None = Field(default=None, repr=False)
    connection_options: ConnectionOptions = Field(default_factory=ConnectionOptions)

    @model_validator(mode="before")
    @classmethod
    def spell(cls, given: Any) -> Any:
        return spelled(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def repeat_url(self) -> Self:
        self.url = self.connection_options.url
        return self


class BackendOptions(Connected):
    """One database: its name, and its URL, or the driver that finds a default one."""

    name: str = "default"


class TransporterSettings(Connected):
    """One broker: the entry that `@microservice(name)` refers to. `service` is a label for logs and health.

    `bridge` lets listeners on redis hear what others send by a plain PUBLISH.
    """

    name: str = ""
    transporter: str | None = None
    service: str | None = None
    backend: str | None = None
    bridge: bool = True

    @field_validator("transporter", mode="before")
    @classmethod
    def plain(cls, value: Any) -> Any:
        return str(value) if isinstance(value, TransporterType) else value

    @field_validator("connection_options")
    @classmethod
    def url_alone(cls, given: ConnectionOptions) -> ConnectionOptions:
        if given.model_extra:
            raise ValueError(f"unknown key {next(iter(given.model_extra))!r}: a broker has no options beside its url")
        return given

    @model_validator(mode="after")
    def complete(self) -> Self:
        self.name = self.name or self.transporter or driver_word(self.driver) or "default"
        return self

    @property
    def kind(self) -> str:
        """The broker's kind: by the URL's scheme, else by the driver, else by the entry's name."""
        word = driver_word(self.driver) or self.transporter or self.name
        if self.url and (fitting := fitting_drivers(self.url)) and word not in fitting:
            return fitting[0]
        return word


class WinterSettings(BaseSettings):
    """What an application runs on.

    Sources, the first that has a key wins: environment (`WINTRY_…`, nested with `__`), `.env`, the file that
    `WINTRY_SETTINGS` names, secrets, the arguments given here.

    Raises:
        SettingsError: a value that is not valid, or a source that cannot be read; one line for each fault.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="allow", hide_input_in_errors=True, secrets_dir=None
    )
    dotenv: ClassVar[str | None] = ".env"

    name: str | None = None
    backends: list[BackendOptions] = Field(default_factory=list)
    transporters: list[TransporterSettings] = Field(default_factory=list)
    journal: str | None = None
    limits: Limits = Field(default_factory=Limits)
    trusted_hosts: list[str] = Field(default_factory=lambda: ["*"])
    docs: bool = True
    access_log: bool = True
    drain_seconds: float = Field(default=10.0, gt=0)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(describe(error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secrets = file_secret_settings if isinstance(file_secret_settings, SecretsSettingsSource) else None
        reads: list[tuple[str, Callable[[], Mapping[str, Any]]]] = [
            ("the environment", lambda: environment(settings_cls, os.environ)),
            (".env", lambda: environment(settings_cls, dotenv_values(cls.dotenv))),
            ("the settings file", settings_file),
            ("the secrets", secrets if secrets is not None else dict),
            ("the code", init_settings),
        ]
        return tuple(NormalisedSource(settings_cls, label, read) for label, read in reads)

    @field_validator("limits", mode="before")
    @classmethod
    def known_limits(cls, given: Any) -> Any:
        """A dataclass would ignore a misspelled limit."""
        if isinstance(given, Mapping) and (unknown := [key for key in given if key not in LIMITS]):
            raise ValueError(f"unknown key {unknown[0]!r}{nearest(unknown[0], LIMITS)}")
        return given

    @model_validator(mode="before")
    @classmethod
    def list_entries(cls, values: Any) -> Any:
        """Make lists of the merged mappings again, each entry with the name that it was found under."""
        merged = dict(values)
        for field in NAMED:
            if isinstance(entries := merged.get(field), Mapping):
                merged[field] = [settled({**entry, "name": name}) for name, entry in entries.items()]
        return merged

    @classmethod
    def from_file(cls, path: str | Path, **values: Any) -> Self:
        """The settings with this file among their sources, whatever `WINTRY_SETTINGS` says.

        Raises:
            SettingsError: as the constructor does.
        """
        token = given_file.set(str(path))
        try:
            return cls(**values)
        finally:
            given_file.reset(token)

    def section(self, name: str, kind: type[SECTION]) -> SECTION:
        """The section of a component, validated by its type.

        Raises:
            SettingsError: a value of the section is not valid.
        """
        try:
            return kind.model_validate((self.model_extra or {}).get(name, {}))
        except ValidationError as error:
            raise SettingsError(describe(error, name)) from None

    def unknown_keys(self, sections: Iterable[str]) -> list[str]:
        """One line for each key at the top that is neither a setting nor one of the sections."""
        known = [*type(self).model_fields, *sections]
        return [
            f"unknown setting {key!r} (as an environment variable {PREFIX}{key.upper()}){nearest(key, known)}"
            for key in self.model_extra or {}
            if key not in known
        ]


class NormalisedSource(PydanticBaseSettingsSource):
    """One source in the form in which sources are merged."""

    def __init__(self, settings_cls: type[BaseSettings], label: str, read: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(settings_cls)
        self.label = label
        self.read = read

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # values come all at once, from __call__

    def __call__(self) -> dict[str, Any]:
        values = dict(self.read())
        for field in NAMED:
            if field in values:
                values[field] = by_name(values[field], field, self.label)
        return values


def by_name(entries: Any, field: str, label: str) -> dict[str, dict[str, Any]]:
    """The entries of one source as a mapping by name, each with `url` in its place."""
    if isinstance(entries, Mapping):
        pairs = [(str(name), plain_entry(entry, f"{field}.{name}", label)) for name, entry in entries.items()]
    else:
        listed = entries if isinstance(entries, list | tuple) else [entries]
        plain = [plain_entry(entry, field, label) for entry in listed]
        pairs = [
            (entry_name(entry) if field == "transporters" else str(entry.get("name", "default")), entry)
            for entry in plain
        ]
    named: dict[str, dict[str, Any]] = {}
    for name, entry in pairs:
        if name in named:
            raise SettingsError([f"{field}: two entries are named {name!r} in {label}; give one of them another name"])
        named[name] = checked(spelled(entry), f"{field}.{name}", label)
    return named


def plain_entry(entry: Any, place: str, label: str) -> dict[str, Any]:
    """An entry as a dictionary of its own, and its `connection_options` as well."""
    if isinstance(entry, BaseModel):
        return entry.model_dump(exclude_unset=True)
    if not isinstance(entry, Mapping):
        kind = type(entry).__name__
        raise SettingsError([f"{place}: an entry is a table of keys, as `url`, and not a {kind} as in {label}"])
    found = dict(entry)
    if found.get("connection_options") is not None:
        found["connection_options"] = plain_entry(found["connection_options"], f"{place}.connection_options", label)
    return found


def entry_name(entry: Mapping[str, Any]) -> str:
    word = entry.get("name") or entry.get("transporter") or driver_word(entry.get("driver"))
    return str(word or "default")


def spelled(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`url` moved to `connection_options.url`, which it is a spelling of."""
    options = {**entry}
    if "url" in options:
        url = options.pop("url")
        connection = options.get("connection_options") or {}
        if isinstance(connection, BaseModel):
            connection = connection.model_dump(exclude_unset=True)
        options["connection_options"] = {**connection, "url": url}
    return options


def checked(entry: dict[str, Any], place: str, label: str) -> dict[str, Any]:
    """Refuse an entry whose driver and URL, written in one place, do not go together."""
    url, driver = (entry.get("connection_options") or {}).get("url"), entry.get("driver")
    if url and driver and not fits(driver, url):
        raise SettingsError(
            [
                f"{place}: driver {driver!r} does not speak {urlsplit(url).scheme!r}, both in {label}; leave the driver out"
            ]
        )
    return entry


def settled(entry: dict[str, Any]) -> dict[str, Any]:
    """The winning URL decides: a driver from a lower source that does not speak it is dropped."""
    url, driver = (entry.get("connection_options") or {}).get("url"), entry.get("driver")
    return {key: value for key, value in entry.items() if key != "driver" or not url or fits(driver, url)}


def fits(driver: str | None, url: str) -> bool:
    schemes = SCHEMES.get(driver_word(driver) or "")
    return schemes is None or urlsplit(url).scheme.partition("+")[0] in schemes or urlsplit(url).scheme in schemes


def fitting_drivers(url: str) -> list[str]:
    return [driver for driver in SCHEMES if fits(driver, url)]


def driver_word(driver: str | None) -> str | None:
    """`wintry.drivers.pg` and `pg` are one driver."""
    return driver.rpartition(".")[2] if driver else None


def environment(settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings in a mapping of environment variables, the sections of components among them."""
    source = EnvSettingsSource(settings_cls)
    source.env_vars = {key.lower(): value for key, value in variables.items()}
    try:
        found = source()
    except ValueError as error:
        raise SettingsError([f"the environment: {error}"]) from None
    for key, value in sorted(variables.items(), key=lambda item: item[0].count("__")):
        path = key.removeprefix(PREFIX).lower().split("__")
        if key.startswith(PREFIX) and key != FILE_VARIABLE and path[0] not in settings_cls.model_fields:
            put(found, key, path, value)
    return found


def put(found: dict[str, Any], key: str, path: list[str], value: str | None) -> None:
    """Put the value of a variable into the section of a component; a section as a whole is JSON."""
    place: Any = found
    for word in path[:-1]:
        place = place.setdefault(word, {})
        if not isinstance(place, dict):
            raise SettingsError(
                [f"the environment: {key}: another variable gives {word.upper()} a value of its own: unset one of them"]
            )
    if len(path) == 1 and value is not None and value.lstrip().startswith("{"):
        try:
            place[path[0]] = json.loads(value)
        except ValueError as error:
            raise SettingsError([f"the environment: {key}: {error}"]) from None
    else:
        place[path[-1]] = value


def dotenv_values(path: str | None) -> dict[str, str | None]:
    import dotenv  # comes with pydantic-settings

    return dotenv.dotenv_values(path) if path is not None and Path(path).is_file() else {}


def settings_file() -> dict[str, Any]:
    """What the settings file holds: the one that was given, else the one that `WINTRY_SETTINGS` names."""
    named = given_file.get() or os.environ.get(FILE_VARIABLE)
    if not named:
        return {}
    path = Path(named)
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError([f"settings file {path}: {reason}"]) from None
    if not isinstance(values, dict):
        raise SettingsError([f"settings file {path}: must hold an object of settings"])
    return values


def describe(error: ValidationError, section: str = "") -> list[str]:
    """One line for each fault: where, why, and the nearest good key; never the value, which may be a secret."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        place = ".".join(str(part) for part in (section, *fault["loc"]) if part != "")
        if fault["type"] == "extra_forbidden":
            known = known_keys(str(fault["loc"][0]) if fault["loc"] else "")
            lines.append(f"{place}: unknown key{nearest(str(fault['loc'][-1]), known)}")
        else:
            lines.append(f"{place}: {fault['msg']}")
    return lines


def known_keys(field: str) -> list[str]:
    kinds: dict[str, type[BaseModel]] = {"backends": BackendOptions, "transporters": TransporterSettings}
    return [*kinds[field].model_fields, "url"] if field in kinds else []


def nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
