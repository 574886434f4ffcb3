"""The component that runs the listeners, beside any broker."""

import asyncio
from typing import Any, cast

import pytest

from wintry.web.transports.component import TransportsComponent

pytestmark = pytest.mark.anyio


class Stopping:
    """A runner that is drained only when all are."""

    def __init__(self, all: list["Stopping"]) -> None:
        self.asked = asyncio.Event()
        self._all = all

    async def drain(self, deadline: float) -> None:
        self.asked.set()
        async with asyncio.timeout(deadline):
            for runner in self._all:
                await runner.asked.wait()


@pytest.mark.contract("WEB-318")
async def test_all_runners_stop_taking_at_once_and_share_the_deadline() -> None:
    runners: list[Stopping] = []
    runners += [Stopping(runners), Stopping(runners)]
    component = TransportsComponent()
    component.runners = cast(Any, {"a": runners[0], "b": runners[1]})
    await component.drain(5.0)
    assert component.runners == {}
