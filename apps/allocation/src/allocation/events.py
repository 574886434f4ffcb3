"""What has happened. Events of one sku are handled one after another, in the order of their commits."""

from wintry.bus import Event


class BatchAdded(Event, key="sku"):
    sku: str
    ref: str


class BatchQuantityChanged(Event, key="sku"):
    sku: str
    ref: str
    qty: int


class Allocated(Event, key="sku"):
    orderid: str
    sku: str
    qty: int
    batchref: str


class Deallocated(Event, key="sku"):
    orderid: str
    sku: str
    qty: int
    batchref: str


class OutOfStock(Event, key="sku"):
    orderid: str
    sku: str
    qty: int
