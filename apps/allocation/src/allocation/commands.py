"""What the service can be asked to do, over HTTP and over the broker, and the limits of what it accepts."""

import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from wintry.bus import Command

MAX_QUANTITY = 2**31 - 1


def whole(number: object) -> object:
    """4.0 is an integer in JSON Schema; "4" and true are none."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def iso(day: object) -> object:
    """A date is its ISO text; numbers are none, also not as seconds of the epoch."""
    if isinstance(day, date) or (isinstance(day, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", day, re.ASCII)):
        return day
    raise ValueError("must be a date as 2030-01-31")


def addressable(text: str) -> str:
    """A name stands in URLs, where these two stand for folders, however they are written."""
    if text in (".", ".."):
        raise ValueError("must not be . or .., which no URL can name")
    return text


Text = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$"), AfterValidator(addressable)
]
Day = Annotated[date, BeforeValidator(iso)]
Quantity = Annotated[int, Field(strict=True, gt=0, le=MAX_QUANTITY), BeforeValidator(whole)]
NewQuantity = Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY), BeforeValidator(whole)]


class Allocate(Command):
    orderid: Text
    sku: Text
    qty: Quantity


class CreateBatch(Command):
    ref: Text
    sku: Text
    qty: Quantity
    eta: Day | None = None


class ChangeBatchQuantity(Command):
    ref: Text
    qty: NewQuantity
