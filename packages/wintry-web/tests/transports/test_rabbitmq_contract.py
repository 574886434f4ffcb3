"""RabbitMQ keeps the contract of every transport."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.web.transports.rabbitmq import RabbitMQ

pytestmark = pytest.mark.anyio


@pytest.mark.contract("WEB-700")
class TestRabbitMQ(TransportContract):
    server: Any

    @pytest.fixture
    async def transport(self, rabbit: Any) -> AsyncIterator[RabbitMQ]:
        self.server = rabbit
        transport = RabbitMQ(rabbit.url, owner="me")
        await transport.start()
        yield transport
        await transport.stop()

    def another(self, transport: Transport) -> RabbitMQ:
        return RabbitMQ(self.server.url, owner="another")

    def broker(self) -> Any:
        return self.server

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, RabbitMQ)
        return [(letter.message.body, letter.reason) for letter in await transport.parked(channel)]
