"""The description of the application: OpenAPI 3.1, made when it is first asked for.

What is described comes as `Operation` records, so that nothing here knows controllers. All models of all operations go
through one call of pydantic, which names them and shares what they share. Every operation lists each status that it
can send; the problems among them refer to one response each.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from .problems import phrase

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
Mode = Literal["validation", "serialization"]
_parameter_name: Final = re.compile(r"\{\w+")


Problem: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "type": "object",
    "description": "What went wrong (RFC 9457), with the members of the envelope.",
    "required": ["type", "title", "status", "detail", "instance", "data", "message", "status_code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The phrase of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path of the request."},
        "data": {"type": "null"},
        "message": {"type": "string", "description": "The same as detail."},
        "status_code": {"type": "integer", "description": "The same as status."},
        "id": {"type": "string", "description": "Of a 500: where the log tells about it."},
        "request_id": {"type": "string"},
        "errors_total": {"type": "integer", "description": "How many values are invalid."},
        "errors": {"type": "array", "maxItems": 20, "items": {"$ref": "#/components/schemas/InvalidValue"}},
    },
}
InvalidValue: Final[Mapping[str, Any]] = {
    "title": "InvalidValue",
    "type": "object",
    "description": "One value of a request that is invalid: where it stands, and why.",
    "required": ["in", "detail", "code"],
    "properties": {
        "in": {"enum": ["path", "query", "header", "cookie", "body", "form", "file"]},
        "name": {"type": "string", "description": "The parameter or field of a form."},
        "pointer": {"type": "string", "description": "Where in the body or parameter (RFC 6901)."},
        "detail": {"type": "string"},
        "code": {"type": "string"},
    },
}


@dataclass(frozen=True, slots=True)
class Described:
    """A parameter in the path, query, headers or cookies."""

    name: str
    where: str
    annotation: Any
    required: bool
    description: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One route.

    `body` is what its body is validated as, if `media_types` has any. `responses` maps a status to a model, to a
    description, or to None for an answer without a body; `problems` are the statuses of its problems.
    """

    method: str
    path: str
    name: str
    summary: str
    description: str | None
    tags: Sequence[str]
    deprecated: bool
    parameters: Sequence[Described]
    body: Any
    body_required: bool
    media_types: Sequence[str]
    responses: Mapping[int, Any]
    problems: Sequence[int]


class Document:
    """`/openapi.json`: bytes and their entity tag, made at first use and kept."""

    def __init__(self, operations: Iterable[Operation], title: str, version: str, description: str | None) -> None:
        self._operations = tuple(operations)
        self._info = {"title": title, "version": version}
        if description:
            self._info["description"] = description

    @cached_property
    def content(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.as_dict, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def etag(self) -> str:
        """The entity tag of `content`, quoted."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def as_dict(self) -> dict[str, Any]:
        """The document."""
        models = _Models(self._operations)
        places = _Places(self._operations)
        paths: dict[str, dict[str, Any]] = {}
        for each in self._operations:
            template, names = places.of(each.path)
            paths.setdefault(template, {})[each.method.lower()] = _operation(each, models, names)
        problems = sorted({status for each in self._operations for status in each.problems})
        return {
            "openapi": "3.1.0",
            "info": self._info,
            "paths": paths,
            "components": {
                "schemas": {**models.schemas, "Problem": Problem, "InvalidValue": InvalidValue},
                "responses": {f"Problem{status}": _problem(status) for status in problems},
            },
        }


class _Places:
    """How the paths of the operations are written, where `{x}` and `{y}` at one place are the same parameter.

    The first operation of a place names its parameters. The rest of a path, which OpenAPI cannot say, is written like
    a parameter; where a single segment of that name stands at the same place, under another name.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._names: dict[str, list[str]] = {}
        taken: set[str] = set()
        for each in sorted(operations, key=lambda operation: ":path}" in operation.path):
            shape, names = _shape(each.path), _named(each.path)
            if shape in self._names:
                continue
            while _written(shape, names) in taken:
                names[-1] += "_path"
            taken.add(_written(shape, names))
            self._names[shape] = names

    def of(self, path: str) -> tuple[str, dict[str, str]]:
        """The path as it is written, and what is written for each of its names."""
        names = self._names[_shape(path)]
        return _written(path, names), dict(zip(_named(path), names, strict=True))


def _shape(path: str) -> str:
    return _parameter_name.sub("{_", path)


def _named(path: str) -> list[str]:
    return [found.removeprefix("{") for found in _parameter_name.findall(path)]


def _written(path: str, names: Sequence[str]) -> str:
    left = iter(names)
    return _parameter_name.sub(lambda _: "{" + next(left), path).replace(":path}", "}")


class _Names(GenerateJsonSchema):
    """`DataResponse[list[Row]]` is called `DataResponse_list_Row`, without the underscores at its end."""

    def normalize_name(self, name: str) -> str:
        return re.sub("_{2,}", "_", super().normalize_name(name)).strip("_")


class _Models:
    """The schemas of all annotations of all operations, made in one go."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        adapters: dict[tuple[Mode, int], TypeAdapter[Any]] = {}
        self._kept: list[Any] = []  # an id is one only as long as its object lives
        for operation in operations:
            for described in operation.parameters:
                self._adapt(adapters, "validation", described.annotation)
            if operation.media_types:
                self._adapt(adapters, "validation", operation.body)
            for response in operation.responses.values():
                if is_model(response):
                    self._adapt(adapters, "serialization", response)
        found, definitions = TypeAdapter.json_schemas(
            [(key[1], key[0], adapter) for key, adapter in adapters.items()],
            ref_template="#/components/schemas/{model}",
            schema_generator=_Names,
        )
        self._found = {(mode, key): schema for (key, mode), schema in found.items()}
        self.schemas: dict[str, Any] = definitions.get("$defs", {})

    def _adapt(self, adapters: dict[tuple[Mode, int], TypeAdapter[Any]], mode: Mode, annotation: Any) -> None:
        key = (mode, id(annotation))
        if key not in adapters:
            self._kept.append(annotation)
            adapters[key] = TypeAdapter(annotation)

    def of(self, annotation: Any, mode: Mode) -> dict[str, Any]:
        """The schema of an annotation."""
        return self._found[mode, id(annotation)]


def is_model(response: Any) -> bool:
    """Whether a documented response is a type, not a mere description."""
    return response is not None and not isinstance(response, str)


def _operation(each: Operation, models: _Models, names: Mapping[str, str]) -> dict[str, Any]:
    """One operation; `names` are those that the parameters of its path are written with."""
    written: dict[str, Any] = {"operationId": each.name, "summary": each.summary}
    if each.description:
        written["description"] = each.description
    if each.tags:
        written["tags"] = list(each.tags)
    if each.deprecated:
        written["deprecated"] = True
    taken = {parameter.name for parameter in each.parameters if parameter.where == "path"}
    parameters = [
        *(_parameter(parameter, models, names) for parameter in each.parameters),
        *(
            {"name": written_as, "in": "path", "required": True, "schema": {"type": "string"}}
            for name, written_as in names.items()
            if name not in taken  # the method reads it from the request
        ),
    ]
    if parameters:
        written["parameters"] = parameters
    if each.media_types:
        schema = models.of(each.body, "validation")
        written["requestBody"] = {
            "required": each.body_required,
            "content": {media_type: {"schema": schema} for media_type in each.media_types},
        }
    responses: dict[int, Any] = {
        status: {"$ref": f"#/components/responses/Problem{status}"} for status in each.problems
    }
    for status, response in each.responses.items():
        described = _response(status, response, models)
        if status in each.problems and "content" in described:
            described["content"][PROBLEM] = {"schema": {"$ref": "#/components/schemas/Problem"}}
        responses[status] = described
    written["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return written


def _parameter(each: Described, models: _Models, names: Mapping[str, str]) -> dict[str, Any]:
    written = {
        "name": names[each.name] if each.where == "path" else each.name,
        "in": each.where,
        "required": each.required or each.where == "path",
        "schema": models.of(each.annotation, "validation"),
    }
    return written if each.description is None else {**written, "description": each.description}


def _response(status: int, response: Any, models: _Models) -> dict[str, Any]:
    if response is None:
        return {"description": phrase(status)}
    if isinstance(response, str):
        return {"description": response, "content": {JSON: {}}} if status < 400 else _problem(status, response)
    return {"description": phrase(status), "content": {JSON: {"schema": models.of(response, "serialization")}}}


def _problem(status: int, description: str | None = None) -> dict[str, Any]:
    written: dict[str, Any] = {
        "description": description or phrase(status),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == 503:
        written["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds to wait."}}
    return written
