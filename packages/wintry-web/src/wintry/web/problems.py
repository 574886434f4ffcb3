"""The one error body: `application/problem+json` (RFC 9457) that carries `data`, `message` and `status_code` too.

`Problems` knows which exception means which status; `answer` turns any exception into status, headers and body. It
must be cheap when it is attacked: of a validation error only as much JSON is parsed as shows the first errors, long
texts are cut, and the text of pydantic's error is never made. What was not foreseen is a 500 with an id, under which
the log has the traceback; its message stays inside.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from uuid import uuid4

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from .errors import HTTPError, InvalidInput

logger = logging.getLogger("wintry.web")

MOST_ERRORS: Final = 20
_cut_json: Final = 32 * 1024  # holds the first errors with room to spare
_longest: Final = 120  # characters of a pointer or detail
_room: Final = 6 * 1024  # bytes of all listed errors
_detail: Final = 500  # characters of the message, which stands twice
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_content_type: Final = (b"content-type", b"application/problem+json")
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What is sent: status, headers without `Content-Length`, body."""

    status: int
    headers: Headers
    body: bytes


class Problems:
    """Exceptions and the statuses they mean. One for an application; `map` may be called until it starts."""

    def __init__(self, statuses: Mapping[type[Exception], int] | None = None) -> None:
        self.statuses: dict[type[Exception], int] = dict(statuses or {})

    def map(self, statuses: Mapping[type[Exception], int]) -> None:
        """Let exceptions be answered with statuses; what is mapped already stays."""
        self.statuses = {**statuses, **self.statuses}

    def answer(self, error: Exception, scope: Scope, nearer: Sequence[Mapping[type[Exception], int]] = ()) -> Answer:
        """The problem that an exception means; those of `nearer` are asked first, one by one."""
        if isinstance(error, InvalidInput):
            return invalid(error, scope)
        levels = (nearest(type(error), each) for each in (*nearer, self.statuses))
        status = next((each for each in levels if each is not None), None)
        if status is not None:
            return mapped(error, status, scope)
        if isinstance(error, HTTPException):
            return problem(error.status_code, error.detail, scope, headers=error.headers)
        return unforeseen(error, scope)

    @property
    def handlers(self) -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
        """For Starlette's `exception_handlers=`: problems for what is raised outside of the controllers."""

        async def handle(request: Request, error: Exception) -> Response:
            answer = self.answer(error, request.scope)
            response = Response(answer.body, answer.status)
            length = [(b"content-length", b"%d" % len(answer.body))] if answer.body else []
            response.raw_headers = [*length, *answer.headers]
            return response

        return {HTTPException: handle, InvalidInput: handle, Exception: handle}


def nearest(kind: type[Exception], statuses: Mapping[type[Exception], int]) -> int | None:
    """The status of the nearest base of an exception that has one."""
    for base in kind.__mro__:
        status = statuses.get(base)
        if status is not None:
            return status
    return None


def problem(
    status: int,
    detail: object,
    scope: Scope,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Answer:
    """A problem; `members` are added to its body. A `detail` that is no text is told as JSON."""
    title = phrase(status)
    detail = cut(text_of(detail), _detail) or title
    written = [NOSNIFF, *encoded(headers or {})]
    if status in (204, 304):
        return Answer(status, written, b"")
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": cut((scope.get("raw_path") or b"").decode("latin-1") or scope["path"]),
        **members,
        "data": None,
        "message": detail,
        "status_code": status,
    }
    request_id = scope.get("state", {}).get("request_id")
    if request_id is not None:
        document["request_id"] = request_id
    return Answer(status, [_content_type, *written], json.dumps(document, separators=(",", ":")).encode("ascii"))


def text_of(detail: object) -> str:
    """A text as it is, anything else as its JSON: `HTTPException` takes whatever it is given."""
    if isinstance(detail, str):
        return detail
    try:
        return json.dumps(detail, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that are no texts, or what holds itself
        return str(detail)


def mapped(error: Exception, status: int, scope: Scope) -> Answer:
    """An exception that was foreseen: up to 499 the client reads its text, above only the status.

    Only those of an `HTTPException` are headers of the answer: another library's may be those of an answer that it got.
    """
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status < 500:
        detail = error.detail if isinstance(error, HTTPError) else str(error)
        return problem(status, detail, scope, headers=headers)
    if status == 503:
        headers.setdefault("retry-after", "1")
    logger.warning("%s %s answered %d: %r", scope.get("method"), scope.get("path"), status, error)
    return problem(status, "", scope, headers=headers)


def unforeseen(error: Exception, scope: Scope) -> Answer:
    """A 500 that names nothing but the id of its log entry."""
    identifier = uuid4().hex
    logger.error("%s %s failed, problem %s", scope.get("method"), scope.get("path"), identifier, exc_info=error)
    return problem(500, "", scope, id=identifier)


def invalid(error: InvalidInput, scope: Scope) -> Answer:
    """400 for malformed JSON, else 422 with the first errors and how many there are."""
    found = listed(error)
    if found and found[0]["type"] == "json_invalid" and not found[0]["loc"] and not error.places:
        return problem(400, cut(f"malformed JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}"), scope)
    total = error.error.error_count()
    errors: list[dict[str, Any]] = []
    room = _room
    for each in found:
        told = shown(each, error.places)
        room -= len(json.dumps(told))
        if room < 0:
            break
        errors.append(told)
    detail = "1 value is invalid" if total == 1 else f"{total} values are invalid"
    return problem(422, detail, scope, errors_total=total, errors=errors)


def listed(error: InvalidInput) -> list[dict[str, Any]]:
    """The first errors. Making Python objects of all of them would cost more than the validation did."""
    text = error.error.json(include_url=False, include_context=False, include_input=False)
    found = from_json(text[:_cut_json], allow_partial=True)[:MOST_ERRORS]
    return [each for each in found if "msg" in each and "loc" in each]


def shown(found: Mapping[str, Any], places: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """One error: a JSON pointer into the body, or the name of a parameter and where it belongs."""
    location = found["loc"]
    told = {"detail": cut(found["msg"]), "code": found["type"]}
    if not places:
        return {"in": "body", "pointer": cut("#" + "".join(f"/{escaped(part)}" for part in location)), **told}
    parameter = location[0] if location else ""
    source, name = places.get(parameter) or (next(iter(places.values()))[0], "")
    rest = location[1:] if name else location[2:]
    name = name or str(location[1] if len(location) > 1 else parameter)
    pointer = {"pointer": cut("#" + "".join(f"/{escaped(part)}" for part in rest))} if rest else {}
    return {"in": source, "name": cut(name), **pointer, **told}


def escaped(part: object) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def cut(text: str, longest: int = _longest) -> str:
    """The text, or its beginning."""
    return text if len(text) <= longest else text[:longest] + "…"


def encoded(headers: Mapping[str, str]) -> Headers:
    """Headers of an exception; what HTTP cannot carry is left out of them."""
    return [
        (name.lower().encode("latin-1"), "".join(value.splitlines()).encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


def phrase(status: int) -> str:
    """The standard phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
