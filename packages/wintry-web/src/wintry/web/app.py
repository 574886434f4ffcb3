"""The application: a Starlette application that finds its parts, starts them in order, and ends them in reverse.

Constructing an `App` imports its package, every module once, with the `collecting()` of each library open, so that
definitions that cannot work become faults instead of the first of many errors. Starting it, which the lifespan does,
collects the marks (also of names that were defined after `App(...)`), puts providers, controllers and settings into
the container, compiles the routes, and then either shows all faults in one `StartError` or runs: the container builds
the singletons, the components start, and requests are answered. Nothing of this happens at a request.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import BaseRoute

from wintry.ioc import Container

from . import discovery, logs
from .components import Component, Components, installed
from .errors import collecting
from .health import Phase, health_routes
from .settings import WinterSettings

logger = logging.getLogger("wintry.web")


class App(Starlette):
    """An application of a package.

    Args:
        package: the package to scan; not given, that of the calling module.
        settings: what it runs on; not given, what file and environment say.
        errors: exceptions and the statuses that they are answered with, e.g. `{InvalidSku: 400}`.
        routes: further Starlette routes and mounts, asked after the controllers'.
        middleware: Starlette middleware around all of them.
        components: instead of those of the installed libraries.
        exclude: modules of the package that the scan leaves out.
        title, version, description: for the documentation.

    Raises:
        StartError: no package is given, and the caller is of none.
    """

    def __init__(
        self,
        package: str | None = None,
        *,
        settings: WinterSettings | None = None,
        errors: Mapping[type[Exception], int] | None = None,
        routes: Sequence[BaseRoute] = (),
        middleware: Sequence[Middleware] = (),
        components: Iterable[Component] | None = None,
        exclude: Iterable[str] = (),
        title: str | None = None,
        version: str = "0.1.0",
        description: str = "",
    ) -> None:
        self.package = package or discovery.calling_package(1)
        given = settings or WinterSettings()
        self.settings = given.model_copy(update={"name": given.name or self.package.rpartition(".")[2]})
        self.errors = dict(errors or {})
        self.title = title or self.package
        self.version = version
        self.description = description
        self.phase: Phase = "starting"
        self.components = Components(installed() if components is None else list(components))
        logs.configure(self.package)
        self.access = logs.AccessWriter() if self.settings.access_log else None
        self.container = Container()
        self.container.load(
            self.package, exclude, [collecting, *(component.collecting for component in self.components)]
        )
        hosts = self.settings.trusted_hosts
        guards = [] if hosts == ["*"] else [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
        super().__init__(
            routes=[*health_routes(lambda: self.phase, self.components.check), *routes],
            middleware=[*guards, *middleware],
            exception_handlers={},
        )
