"""The board's page, its stream of events, and the channel on which every process hears of changes."""

from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel
from starlette.responses import HTMLResponse

from allocation.board.hub import BoardHub
from allocation.services import BOARD_CHANNEL
from allocation.views import Views
from wintry.web import ServerSentEvent, controller, get, microservice, on

PAGE = Path(__file__).with_name("board.html").read_text(encoding="utf-8")


class BoardChanged(BaseModel):
    sku: str


@controller(prefix="", tags=["Board"])
class BoardController:
    hub: BoardHub
    views: Views

    @get("/", include_in_schema=False)
    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE)

    @get("/events")
    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """A snapshot, then every product that changes. Watching begins first, so that nothing falls in between."""
        with self.hub.watch() as changes:
            products, latest = await self.views.get_products(), await self.views.get_latest()
            yield ServerSentEvent(event="snapshot", data={"products": products, "latest": latest})
            while True:
                yield ServerSentEvent(event="changed", data={"sku": await changes.get()})


@microservice()
class BoardListener:
    hub: BoardHub

    @on(BOARD_CHANNEL, broadcast=True)
    async def changed(self, change: BoardChanged) -> None:
        self.hub.changed(change.sku)
