"""What the service runs on: a settings file, and the folder in which its SQLite files stand."""

import os
from pathlib import Path

from wintry.web import BackendOptions, ConnectionOptions, WinterSettings
from wintry.web.settings import FILE_VARIABLE

SETTINGS_VARIABLE = "ALLOCATION_SETTINGS"
DATA_VARIABLE = "ALLOCATION_DATA"
EMBEDDED = Path(__file__).with_name("embedded.toml")
SQLITE = ("sqlite:///", "sqlite+aiosqlite:///")


def load() -> WinterSettings:
    """The settings of the file that `ALLOCATION_SETTINGS` names, else `WINTRY_SETTINGS`, else `embedded.toml`.

    Relative SQLite paths are resolved against the folder that `ALLOCATION_DATA` names, `./var` without it.
    """
    named = os.environ.get(SETTINGS_VARIABLE) or os.environ.get(FILE_VARIABLE) or EMBEDDED
    settings = WinterSettings.from_file(named)
    return settings.model_copy(update={"backends": [settled(backend) for backend in settings.backends]})


def data_folder() -> Path:
    return Path(os.environ.get(DATA_VARIABLE) or "var").absolute()


def settled(backend: BackendOptions) -> BackendOptions:
    """The entry with the full path of its SQLite file; any other entry as it is."""
    url = backend.connection_options.url or ""
    prefix = next((prefix for prefix in SQLITE if url.startswith(prefix)), None)
    if prefix is None or url[len(prefix) :].startswith(("/", ":memory:")):
        return backend
    full = f"{prefix}{data_folder() / url[len(prefix) :]}"
    options = ConnectionOptions(**{**backend.connection_options.model_dump(), "url": full})
    return BackendOptions(name=backend.name, driver=backend.driver, connection_options=options)
