"""Every transport on a broker keeps the contract of transports."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.web.transports.redis_pubsub import RedisPubSub

pytestmark = pytest.mark.anyio


class OnABroker(TransportContract):
    """The contract on a broker that can be killed."""

    server: Any

    def opened(self, owner: str) -> Transport:
        raise NotImplementedError

    @pytest.fixture
    async def transport(self, server: Any) -> AsyncIterator[Transport]:
        self.server = server
        transport = self.opened("me")
        await transport.start()
        yield transport
        await transport.stop()

    def another(self, transport: Transport) -> Transport:
        return self.opened("another")

    def broker(self) -> Any:
        return self.server


@pytest.mark.contract("WEB-201", "WEB-600", "WEB-700")
class TestDurable(OnABroker):
    @pytest.fixture
    def server(self, broker: Any) -> Any:
        return broker

    def opened(self, owner: str) -> Transport:
        transport: Transport = self.server.connect(owner, 4.0)
        return transport

    async def dead(self, transport: Any, channel: str) -> Sequence[tuple[bytes, str]]:
        return [(letter.message.body, letter.reason) for letter in await transport.parked(channel)]


@pytest.mark.contract("WEB-400")
class TestPubSub(OnABroker):
    @pytest.fixture
    def server(self, redis_broker: Any) -> Any:
        return redis_broker

    def opened(self, owner: str) -> RedisPubSub:
        return RedisPubSub(self.server.url)
