"""From what a method returns to status, headers and bytes.

A `Responder` is compiled for a route once from its response model. An envelope is not serialised as a whole: its data
is validated and serialised by the declared `T` and the three members are written around it, so that bare
`DataResponse(data=rows)` is filtered like `DataResponse[list[Row]]` is. Validation is an identity check where the
value is what was declared, and otherwise reads the declared fields off the object; the serializer knows only the
declared fields, so no other one leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, get_args, get_origin
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from .envelope import DataResponse
from .errors import DefinitionError, InvalidAnswer, report
from .floats import nulls
from .problems import NOSNIFF, Answer, Headers

Write: TypeAlias = Callable[[Any], bytes]

_content_type: Final = (b"content-type", b"application/json")
_json_headers: Final[Headers] = [_content_type, NOSNIFF]
BODILESS: Final = frozenset([204, 205, 304])  # statuses whose answers have no body
_envelope_fields: Final = frozenset(DataResponse.model_fields)
_uri_safe: Final = "!#$%&'()*+,/:;=?@[]~"


class Responder:
    """Turns what a method returns into an `Answer`; `respond(result)`. Streams and `Response`s never come here."""

    __slots__ = ("_place", "_status", "_write_data", "_write_whole")

    def __init__(self, place: str, status: int | None, write_data: Write, write_whole: Write | None) -> None:
        self._place = place
        self._status = status
        self._write_data = write_data
        self._write_whole = write_whole

    def respond(self, result: Any) -> Answer:
        """The answer.

        Raises `InvalidAnswer` if the result is not what the route declares, or cannot be written as JSON.
        """
        try:
            if isinstance(result, DataResponse):
                return self._enveloped(result)
            if self._write_whole is None:
                if result is None:
                    return Answer(self._status or 204, [NOSNIFF], b"")
                return Answer(self._status or 200, _json_headers, _plain(result))
            return Answer(self._status or 200, _json_headers, self._write_whole(result))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
            path = ".".join(map(str, wrong["loc"]))
            raise InvalidAnswer(f"{self._place} answered what it does not declare: {path}: {wrong['msg']}") from None
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise InvalidAnswer(f"{self._place} answered what JSON cannot hold: {error}") from None

    def _enveloped(self, result: DataResponse[Any]) -> Answer:
        status = result.status_code
        if self._status is not None and "status_code" not in result.model_fields_set:
            status = self._status
        headers = _json_headers
        if result.headers:
            headers = [*headers, *encoded(result.headers, self._place)]
        if status in BODILESS:
            return Answer(status, headers[1:], b"")
        data, message = result.data, result.message
        if self._write_whole is not None and type(result).model_fields.keys() - _envelope_fields:
            stated = result.model_copy(update={"status_code": status})
            return Answer(status, headers, self._write_whole(stated))
        body = b'{"data":%b,"message":%b,"status_code":%d}' % (
            b"null" if data is None else self._write_data(data),
            to_json(message) if message else b'""',
            status,
        )
        return Answer(status, headers, body)


def compile_responder(model: Any, status: int | None, place: str) -> Responder:
    """The responder of a route; `model` None means that whatever is returned is written as it is."""
    if model is None or model is type(None):
        return Responder(place, status, _plain, None)
    try:
        whole = _writer(model)
        data = data_type(model)
        return Responder(place, status, _plain if data is Any else _writer(data), whole)
    except Exception as error:  # noqa: BLE001 - making a schema runs the code of the model
        report(
            DefinitionError(
                place,
                f"pydantic cannot write its response model {model!r}: {error}",
                "state another one with response_model=, or response_model=None",
            )
        )
        return Responder(place, status, _plain, None)


def data_type(model: Any) -> Any:
    """The `T` of a `DataResponse[T]`; the model itself if it is no envelope; `Any` for a bare one."""
    if isinstance(model, type) and issubclass(model, DataResponse):
        annotation = model.model_fields["data"].annotation
        arguments = [each for each in get_args(annotation) if each is not type(None)]
        if model is DataResponse:
            return Any
        return arguments[0] if len(arguments) == 1 and get_origin(annotation) is not None else annotation
    return model


def _writer(annotation: Any) -> Write:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    validate, write = adapter.validator.validate_python, adapter.serializer.to_json

    signs = nulls(adapter.core_schema)

    def serialised(value: Any) -> bytes:
        return write(validate(value, from_attributes=True), by_alias=True)

    def checked(value: Any) -> bytes:
        valid = validate(value, from_attributes=True)
        body = write(valid, by_alias=True)
        for sign in signs:
            if sign in body:
                _plain(adapter.serializer.to_python(valid, mode="json"))
                break
        return body

    return checked if signs else serialised


def _plain(value: Any) -> bytes:
    """The JSON of whatever it is. Raises `PydanticSerializationError` for a float that is no number."""
    body = to_json(value)
    if b"NaN" in body or b"Infinity" in body:  # in a text, or as a number that is none
        json.loads(body, parse_constant=_no_number)
    return body


def _no_number(text: str) -> None:
    raise PydanticSerializationError(f"{text} is no number")


def encoded(headers: Mapping[str, str], place: str) -> Headers:
    """The headers of an envelope. Locations are percent-encoded, as they hold what users called their things.

    Raises `InvalidAnswer` for what HTTP cannot carry.
    """
    found: Headers = []
    for name, value in headers.items():
        lower = name.lower()
        if lower in ("location", "content-location"):
            value = quote(value, safe=_uri_safe)
        try:
            pair = (lower.encode("ascii"), value.encode("latin-1"))
        except UnicodeEncodeError:
            raise InvalidAnswer(f"{place} answered a header that HTTP cannot carry: {name}") from None
        if any(character < 32 and character != 9 for character in b"%b%b" % pair):
            raise InvalidAnswer(f"{place} answered a header with a control character: {name}")
        found.append(pair)
    return found
