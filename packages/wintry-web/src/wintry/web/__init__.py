"""Class controllers, binding, OpenAPI and broker listeners on Starlette."""

from .app import App
from .components import Component
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
    NotReachable,
    SettingsError,
    StartError,
    UnauthorizedError,
    UnsupportedMediaType,
    WebError,
    collecting,
)
from .limits import Limits
from .marks import catches, controller, delete, get, head, microservice, on, options, patch, post, put
from .params import Body, Cookie, File, Form, Header, Path, Query
from .problems import Problems
from .serve import AddressError, serve
from .settings import BackendOptions, ConnectionOptions, TransporterSettings, TransporterType, WinterSettings
from .streams import EventStream, ServerSentEvent, Streams

__all__ = [
    "AddressError",
    "App",
    "BackendOptions",
    "Body",
    "BodyTooLarge",
    "Component",
    "ConflictError",
    "ConnectionOptions",
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
    "NotReachable",
    "Path",
    "Problems",
    "Query",
    "ServerSentEvent",
    "SettingsError",
    "StartError",
    "Streams",
    "TransporterSettings",
    "TransporterType",
    "UnauthorizedError",
    "UnsupportedMediaType",
    "WebError",
    "WinterSettings",
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
    "serve",
]
