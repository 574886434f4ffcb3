"""The client: PyMongo's asynchronous one or Motor's, behind the few calls in which they differ.

Both give the same collections, cursors and sessions, and the same errors; what one awaits and the other does not is
awaited here if it can be. Which one it is says the option `client`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from bson.codec_options import CodecOptions
from pymongo import ReadPreference
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import InvalidURI
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from ..errors import ConfigurationError, redacted
from ..options import number

CLIENTS: Final = MappingProxyType(
    {"pymongo": ("pymongo", "AsyncMongoClient"), "motor": ("motor.motor_asyncio", "AsyncIOMotorClient")}
)
OPTIONS: Final = ("database", "client", "pool_size", "acquire_timeout", "connect_timeout")
SNAPSHOT: Final = ReadConcern("snapshot")
MAJORITY: Final = WriteConcern("majority")
CODEC: Final = CodecOptions[dict[str, Any]](tz_aware=False)


class Client:
    """A client of one URL, made by `open`; `database` is where everything is."""

    def __init__(self, name: str, url: str, options: Mapping[str, Any]) -> None:
        """Raises `ConfigurationError` for an option that is not known, a client or a URL that cannot be."""
        unknown = [option for option in options if option not in OPTIONS]
        if unknown:
            raise ConfigurationError(f"backend '{name}': no option is called '{unknown[0]}'; {', '.join(OPTIONS)} are")
        self.kind = options.get("client", "pymongo")
        if self.kind not in CLIENTS:
            raise ConfigurationError(f"backend '{name}': the option 'client' is one of {', '.join(CLIENTS)}")
        try:
            parsed = _parsed(url)
        except (InvalidURI, DriverConfigurationError, ValueError) as error:
            raise ConfigurationError(f"backend '{name}': {redacted(url)} cannot be read: {error}") from error
        given = {option.lower() for option in parsed["options"]}
        app: str | None = next((v for k, v in parsed["options"].items() if k.lower() == "appname"), None)
        self.database_name: str = parsed["database"] or options.get("database") or app or "wintry"
        self.url = url
        self.wait = number("acquire_timeout", options.get("acquire_timeout", 30.0), 0.0)
        self.pool_size = number("pool_size", options.get("pool_size", 100), 1)
        connect = number("connect_timeout", options.get("connect_timeout", 5.0), 0.0)
        settings: dict[str, Any] = {
            "maxPoolSize": self.pool_size,
            "waitQueueTimeoutMS": int(self.wait * 1000),
            "serverSelectionTimeoutMS": int(connect * 1000),
        }
        self._settings = {option: value for option, value in settings.items() if option.lower() not in given}
        self._client: Any = None
        self.database: Any = None

    def __str__(self) -> str:
        return redacted(self.url)

    @property
    def client(self) -> Any:
        """The driver's own client; None before `open`."""
        return self._client

    def open(self) -> None:
        """Make the client; it connects at its first statement."""
        module, name = CLIENTS[self.kind]
        self._client = getattr(import_module(module), name)(self.url, **self._settings)
        self.database = self._client.get_database(
            self.database_name, codec_options=CODEC, read_preference=ReadPreference.PRIMARY
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await settled(self._client.close())
            self._client = self.database = None

    async def begin(self) -> Any:
        """A session in a transaction that sees one snapshot and is durable on a majority once committed."""
        session = await settled(self._client.start_session())
        # Motor gives what its `async with` takes, PyMongo a coroutine.
        await settled(
            session.start_transaction(
                read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY
            )
        )
        return session


async def settled(result: Any) -> Any:
    """What a call of the client gives, awaited where that is needed."""
    return await result if inspect.isawaitable(result) else result


def _parsed(url: str) -> Mapping[str, Any]:
    """The parts of a URL; of `mongodb+srv://`, without asking the name server."""
    scheme, _, rest = url.partition("://")
    parsed: Mapping[str, Any] = parse_uri(f"mongodb://{rest}" if scheme == "mongodb+srv" else url, warn=False)
    return parsed
