"""The answer that a method returns.

`DataResponse[T]` is an ordinary generic pydantic model, so that it documents itself and clients can parse with it. The
responder does not serialise it as a whole: it knows the three fields and writes them around the data (`respond.py`).
`headers` belongs to the answer, not to the body: it is neither serialised nor documented.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

T = TypeVar("T")


class DataResponse(BaseModel, Generic[T]):
    """`{data, message, status_code}`; `status_code` is the status of the HTTP answer.

    A stated `status_code`, from 200 to 599, is sent, else the one that the route declares, else 200. `headers` are added to the answer.
    """

    data: T | None = None
    message: str = ""
    status_code: int = Field(default=200, ge=200, le=599)
    headers: SkipJsonSchema[dict[str, str] | None] = Field(default=None, exclude=True, repr=False)
