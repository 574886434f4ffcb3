"""The MongoDB backend: an aggregate is a document, through PyMongo's asynchronous client or Motor.

Public: `collection(Product, backend)` for statements of one's own beside the repositories, to be run in the session
that the running transaction has (`MongoExecution.client_session`), the backend and its execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backend import MongoBackend, open_backend
from .session import MongoExecution

if TYPE_CHECKING:
    from wintry.models import Model

    from ..backend import Backend

__all__ = ["MongoBackend", "MongoExecution", "collection", "open_backend"]


def collection(model: type[Model], backend: Backend) -> Any:
    """The client's collection that holds the root `model` on `backend`, which must be open.

    Raises `TypeError` for a backend that is not MongoDB.
    """
    if isinstance(backend, MongoBackend):
        return backend.collection(backend.documents(model).name)
    raise TypeError(f"backend {backend.name!r} is {backend.kind}: it has no collections")
