"""The application: a Starlette application that finds its parts, starts them in order, and ends them in reverse.

Constructing an `App` imports its package, every module once, with the `collecting()` of each library open, so that
definitions that cannot work become faults instead of the first of many errors. Starting it, which the lifespan does,
collects the marks (also of names that were defined after `App(...)`), puts providers, controllers and settings into
the container, compiles the routes, and then either shows all faults in one `StartError` or runs: the container builds
the singletons, the components start, and requests are answered. Nothing of this happens at a request.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from wintry.ioc import Container, InjectionError

from . import discovery, logs
from .components import Component, Components, installed
from .controllers import Http, HttpOptions, compile_routes
from .errors import NotReachable, StartError, WebError, collecting
from .health import Phase, health_routes
from .listeners import Listeners, compile_listeners
from .problems import Problems
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
        self.title = title or self.package
        self.version = version
        self.description = description
        self.phase: Phase = "starting"
        self.components = Components(installed() if components is None else list(components))
        self.problems = Problems(errors)
        self.http: Http | None = None
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
            exception_handlers=self.problems.handlers,
        )
        self.router.redirect_slashes = False  # a redirect would be built from what the client calls the host

    def build_middleware_stack(self) -> ASGIApp:
        return logs.RequestLog(super().build_middleware_stack(), self.access, lambda: self.phase == "closing")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif self.phase == "starting":
            raise RuntimeError("The application has not started: serve it with its lifespan, or use running()")
        else:
            await super().__call__(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """Answer the lifespan: start, wait, end. A failed start or end is told in one message."""
        await receive()
        try:
            await self.start()
        except StartError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.end()
        except Exception:  # servers tell of it only where they are sent it
            await send({"type": "lifespan.shutdown.failed", "message": traceback.format_exc()})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The application while it runs, without a server: for tests, and for work that needs its container.

        Raises:
            StartError: it cannot start.
        """
        await self.start()
        try:
            yield self
        finally:
            await self.end()

    # ---- start

    async def start(self) -> None:
        """Wire everything, check it, and start the components. An application starts once.

        Raises:
            StartError: all faults of definition of all libraries.
            NotReachable: they have none, and what the application stands on is not there.
        """
        if self.http is not None:
            raise StartError(["The application has run already; make a new App to run it again."])
        self.http = http = self.wire()
        # A mark that is wrong is found where it stands, and once more where it is compiled.
        if faults := {str(fault): fault for fault in (*self.unknown_settings(), *self.container.faults)}:
            raise StartError([*faults.values()])
        self.router.routes.insert(0, http.routes)
        await self.enter()
        if self.access is not None:
            logs.silence_server()
            self.access.start()
        self.phase = "running"

    def wire(self) -> Http:
        """Register what the package and the components provide, and compile the routes."""
        self.container.collect()
        self.container.register_value(WinterSettings, self.settings)
        if type(self.settings) is not WinterSettings:
            self.container.register_value(type(self.settings), self.settings)
        microservices = discovery.microservices(self.container.modules)
        for microservice in microservices:
            self.container.register(microservice)
        with collecting() as faults:
            listeners = compile_listeners(microservices, self.settings.transporters)
        self.container.add_faults(faults)
        self.container.register_value(Listeners, listeners)
        for component in self.components:
            self.provide(component)
        self.problems.map(self.components.errors)
        options = HttpOptions(
            title=self.title,
            version=self.version,
            description=self.description or None,
            docs=self.settings.docs,
            limits=self.settings.limits,
        )
        controllers = discovery.controllers(self.container.modules)
        http = compile_routes(self.container, controllers, self.problems, options)
        self.container.add_faults(http.faults)
        self.container.add_faults(self.components.faults(self.container))
        return http

    def provide(self, component: Component) -> None:
        """Register what a component provides; what is wrong with its part of the settings is a fault."""
        try:
            if component.settings is not None:
                section = self.settings.section(component.name, component.settings)
                self.container.register_value(component.settings, section)
            provided = component.providers(self.settings)
        except ValueError as error:
            self.container.add_faults(getattr(error, "faults", [error]))
            return
        for key, factory in provided.items():
            self.container.register(key, factory, lifetime="singleton", origin="library")

    def unknown_settings(self) -> list[str]:
        return self.settings.unknown_keys([one.name for one in self.components if one.settings is not None])

    async def enter(self) -> None:
        """Build the singletons and start the components, or undo what was begun and say what could not be reached."""
        try:
            await self.container.__aenter__()
        except Exception as error:
            raise self.start_error(error) from error
        try:
            await self.components.start(self.container)
        except BaseException as error:
            await self.container.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, Exception):
                raise self.start_error(error) from error
            raise

    def start_error(self, error: Exception) -> StartError:
        """What was foreseen by a component is one line; anything else is a bug, whose traceback is logged."""
        if isinstance(error, InjectionError):
            return StartError(error.faults)
        if isinstance(error, ConnectionError):
            return NotReachable(error)
        if not isinstance(error, tuple(self.components.errors)) and not isinstance(error, (WebError, ValueError)):
            logger.error("The application could not be started", exc_info=error)
        return StartError([f"{type(error).__name__}: {error}"])

    # ---- end

    async def quiesce(self) -> None:
        """Take no new work: not ready any more, listeners and relays stopped, event streams ended.

        Requests are still answered, and what they register is delivered.
        """
        if self.phase == "running":
            self.phase = "draining"
            await self.components.drain(self.settings.drain_seconds, intake=True)
            await self.components.quiesce()
            if self.http is not None:
                self.http.streams.close()

    async def end(self) -> None:
        """Drain and stop everything, what started last first."""
        await self.quiesce()
        await self.components.drain(self.settings.drain_seconds, intake=False)
        try:
            await self.components.stop()
            await self.container.__aexit__(None, None, None)
        finally:
            if self.access is not None:
                self.access.stop()
