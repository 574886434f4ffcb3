"""What can go wrong, and how it is told.

    WebError
    ├── DefinitionError      (TypeError)     a mark, path or signature that cannot work: place, reason, next step
    ├── SettingsError        (ValueError)    a setting, or a source of settings, that is not valid
    ├── StartError           (RuntimeError)  the application cannot start: every fault in one report
    │   └── NotReachable                     what it stands on, as a database, is not there
    ├── InvalidAnswer        (RuntimeError)  a method answered something else than it declares
    ├── InvalidInput                         422, or 400 for malformed JSON: what pydantic found wrong with a request
    └── HTTPError            (HTTPException) raised by a method to answer with that status
        ├── InvalidRequestError   400
        ├── UnauthorizedError     401
        ├── ForbiddenError        403
        ├── NotFoundError         404
        ├── ConflictError         409
        ├── BodyTooLarge          413
        ├── UnsupportedMediaType  415
        └── HeadersTooLarge       431

A `DefinitionError` is a fault and an exception in one: definitions hand it to `report`, which raises it unless the
caller has a `collecting()` open; then it joins that list, so that an application can show all faults together.
`HTTPError` is Starlette's `HTTPException`, so that it is understood in middleware and mounted applications too.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

from pydantic import ValidationError
from starlette.exceptions import HTTPException

_open_list: ContextVar[list[DefinitionError] | None] = ContextVar("wintry.web.collecting", default=None)


class WebError(Exception):
    """The base of every error of this library."""


class DefinitionError(WebError, TypeError):
    """Something that was declared cannot work: `place` is a dotted name, `hint` says what to do about `reason`."""

    def __init__(self, place: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{place}: {reason}" + (f"\n  → {hint}" if hint else ""))
        self.place = place
        self.reason = reason
        self.hint = hint


class SettingsError(WebError, ValueError):
    """Settings that are not valid. `faults` has a line for each; none of them shows a value, which may be a secret."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class StartError(WebError, RuntimeError):
    """An application cannot start. `faults` are those of all libraries, each with its drawn text."""

    def __init__(self, faults: Sequence[object]) -> None:
        self.faults = tuple(faults)
        count = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
        super().__init__("\n\n".join([f"The application cannot start: {count}.", *(str(fault) for fault in faults)]))


class NotReachable(StartError):
    """What an application stands on cannot be reached, and there is nothing else to report: `str` is one line."""

    def __init__(self, error: ConnectionError) -> None:
        super().__init__([error])
        self.args = (" ".join(str(error).split()),)


class InvalidAnswer(WebError, RuntimeError):
    """A method answered something that its declared response model does not admit. The client is sent a 500."""


class InvalidInput(WebError):
    """A request does not validate. `places` tells for the names of parameters where they came from.

    Its text is short on purpose: that of pydantic's error may be megabytes long.
    """

    def __init__(self, error: ValidationError, places: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(f"{error.error_count()} errors in {error.title}")
        self.error = error
        self.places = places


class HTTPError(WebError, HTTPException):
    """Raised in a method, it is answered as a problem with `status_code`; `message` is what the client reads.

    `headers` are added to the answer. For a status without a class of its own raise Starlette's `HTTPException`.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        HTTPException.__init__(self, self.status, message or None, headers)

    def __str__(self) -> str:
        return str(self.detail)


class InvalidRequestError(HTTPError):
    """400: the request is well formed, and still makes no sense."""

    status = 400


class UnauthorizedError(HTTPError):
    """401: the client has to say who it is."""

    status = 401


class ForbiddenError(HTTPError):
    """403: the client may not do this."""

    status = 403


class NotFoundError(HTTPError):
    """404: there is nothing of that name."""

    status = 404


class ConflictError(HTTPError):
    """409: the request does not go with what is there now."""

    status = 409


class BodyTooLarge(HTTPError):
    """413: the body is over the limit of the route."""

    status = 413


class UnsupportedMediaType(HTTPError):
    """415: the body is of a type that the route does not read."""

    status = 415


class HeadersTooLarge(HTTPError):
    """431: the headers are over the limits of the application, in number or in bytes."""

    status = 431


@contextmanager
def collecting() -> Generator[list[DefinitionError]]:
    """While open, faults of definitions join the yielded list instead of being raised, in this context only."""
    faults: list[DefinitionError] = []
    token = _open_list.set(faults)
    try:
        yield faults
    finally:
        _open_list.reset(token)


def report(fault: DefinitionError) -> None:
    """Hand over a fault of a definition: into the open list, else it is raised."""
    faults = _open_list.get()
    if faults is None:
        raise fault
    faults.append(fault)
