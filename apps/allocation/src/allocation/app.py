"""The application: everything else in this package is found by it."""

from allocation.models import LineConflict
from allocation.services import BatchExists, InvalidSku, UnknownBatch
from allocation.settings import load
from wintry.web import App

app = App(
    settings=load(),
    errors={InvalidSku: 400, BatchExists: 409, LineConflict: 409, UnknownBatch: 404},
    title="Allocation",
    description="Allocates order lines to batches of stock.",
    exclude=["demo"],
)
