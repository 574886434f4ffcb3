"""Class controllers, binding, OpenAPI and broker listeners on Starlette."""

from .controllers import Http, HttpOptions, compile_routes, is_controller
from .envelope import DataResponse
from .errors import (
    BodyTooLarge,
    ConflictError,
    DefinitionError,
    ForbiddenError,
    HeadersTooLarge,
    HTTPError,
    InvalidAnswer,
    InvalidRequestError,
    NotFoundError,
    UnauthorizedError,
    UnsupportedMediaType,
    WebError,
    collecting,
)
from .limits import Limits
from .marks import catches, controller, delete, get, head, microservice, on, options, patch, post, put
from .params import Body, Cookie, File, Form, Header, Path, Query
from .problems import Problems
from .streams import EventStream, ServerSentEvent, Streams

__all__ = [
    "Body",
    "BodyTooLarge",
    "ConflictError",
    "Cookie",
    "DataResponse",
    "DefinitionError",
    "EventStream",
    "File",
    "ForbiddenError",
    "Form",
    "HTTPError",
    "Header",
    "HeadersTooLarge",
    "Http",
    "HttpOptions",
    "InvalidAnswer",
    "InvalidRequestError",
    "Limits",
    "NotFoundError",
    "Path",
    "Problems",
    "Query",
    "ServerSentEvent",
    "Streams",
    "UnauthorizedError",
    "UnsupportedMediaType",
    "WebError",
    "catches",
    "collecting",
    "compile_routes",
    "controller",
    "delete",
    "get",
    "head",
    "is_controller",
    "microservice",
    "on",
    "options",
    "patch",
    "post",
    "put",
]
