"""What the service can be asked to do, over HTTP and over the broker, and the limits of what it accepts."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from wintry.bus import Command

MAX_QUANTITY = 2**31 - 1


def storable(text: str) -> str:
    """Refuse what no store keeps: NUL and lone surrogates."""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text") from None
    return text


def whole(number: object) -> object:
    """4.0 is an integer in JSON Schema; "4" and true are none."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(storable)]
Quantity = Annotated[int, BeforeValidator(whole), Field(strict=True, gt=0, le=MAX_QUANTITY)]
NewQuantity = Annotated[int, BeforeValidator(whole), Field(strict=True, ge=0, le=MAX_QUANTITY)]


class Allocate(Command):
    orderid: Text
    sku: Text
    qty: Quantity


class CreateBatch(Command):
    ref: Text
    sku: Text
    qty: Quantity
    eta: date | None = None


class ChangeBatchQuantity(Command):
    ref: Text
    qty: NewQuantity
