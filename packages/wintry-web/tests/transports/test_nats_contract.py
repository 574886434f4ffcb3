"""JetStream keeps the contract of every transport."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.web.transports.nats import NatsStreams

pytestmark = pytest.mark.anyio


@pytest.mark.contract("WEB-600")
class TestNats(TransportContract):
    server: Any

    def opened(self) -> NatsStreams:
        return NatsStreams(self.server.url, lease=4.0)

    @pytest.fixture
    async def transport(self, nats_broker: Any) -> AsyncIterator[NatsStreams]:
        self.server = nats_broker
        transport = self.opened()
        await transport.start()
        yield transport
        await transport.stop()

    def another(self, transport: Transport) -> Transport:
        return self.opened()

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, NatsStreams)
        return [(letter.message.body, letter.reason) for letter in await transport.parked(channel)]

    def broker(self) -> Any:
        return self.server
