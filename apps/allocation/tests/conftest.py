"""What the tests of the service share: an event loop, and a publisher that only writes down."""

from __future__ import annotations

from collections.abc import Mapping

import pytest


class FakePublisher:
    """In place of a broker: what was sent, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, object]]] = []

    async def send(self, channel: str, data: Mapping[str, object]) -> None:
        self.sent.append((channel, data))

    def on(self, channel: str) -> list[Mapping[str, object]]:
        return [data for name, data in self.sent if name == channel]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()
