"""The read side: one flat row for each allocated line, kept in step by the event handlers of `services`."""

import json
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from wintry.models import AutoString, Field, Id, Model


class AllocationsViewModel(Model):
    id: str = Id(default_factory=AutoString)
    orderid: str = Field(index=True)
    sku: str
    batchref: str
    allocated_at: datetime


def view_id(orderid: str, sku: str) -> str:
    """The id of the row of a line: derived, so that writing a row twice is writing it once."""
    return uuid5(NAMESPACE_URL, json.dumps([orderid, sku])).hex
