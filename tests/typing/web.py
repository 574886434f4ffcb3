"""What checkers know of controllers, microservices, answers and settings.

The ignores are expected errors: a checker that stops reporting one reports the ignore instead.
"""

from collections.abc import AsyncIterator
from logging import Logger
from typing import Annotated, assert_type

from wintry.models import Model, RequiredId
from wintry.web import (
    App,
    BackendOptions,
    ConnectionOptions,
    DataResponse,
    NotFoundError,
    Query,
    TransporterSettings,
    TransporterType,
    WinterSettings,
    controller,
    get,
    microservice,
    on,
    post,
)


class Line(Model):
    id: str = RequiredId()


class Views:
    async def lines(self, orderid: str) -> list[Line]:
        return [Line(id=orderid)]


@controller(prefix="/orders", tags=["Orders"])
class Orders:
    views: Views
    logger: Logger

    @get("/{orderid}", response_model=DataResponse[list[Line]])
    async def lines(self, orderid: str, limit: Annotated[int, Query()] = 10) -> DataResponse[list[Line]]:
        found = await self.views.lines(orderid)
        if not found:
            raise NotFoundError(orderid)
        assert_type(limit, int)
        return DataResponse(data=found)

    @post("/", status_code=201)
    async def add(self, line: Line) -> DataResponse[str]:
        return DataResponse[str](data=line.id, status_code=202)

    @get("/events")
    async def events(self) -> AsyncIterator[dict[str, int]]:
        yield {"line": 1}


@controller
class Bare:
    views: Views


@microservice(TransporterType.redis)
class Messages:
    logger: Logger

    @on("line_allocated")
    async def line_allocated(self, line: Line) -> None:
        self.logger.info(line.id)


async def main(logger: Logger) -> None:
    orders = Orders(views=Views(), logger=logger)
    assert_type(await orders.lines("o1"), DataResponse[list[Line]])
    assert_type((await orders.lines("o1", limit=3)).data, list[Line] | None)
    assert_type(await orders.add(Line(id="1")), DataResponse[str])
    assert_type(Bare(views=Views()).views, Views)
    await Messages(logger=logger).line_allocated(Line(id="1"))
    Orders(views=Views())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Bare()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Messages()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    DataResponse[str](data=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


settings = WinterSettings(
    backends=[BackendOptions(name="default", connection_options=ConnectionOptions(url="sqlite:///orders.db"))],
    transporters=[TransporterSettings(transporter=TransporterType.database, service="Messages")],
)
app = App("orders", settings=settings, errors={LookupError: 404})
