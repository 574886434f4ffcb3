"""Streams and PUBLISH keep the contract of every transport, on Valkey and on the redis-server of the system."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_pubsub import RedisPubSub

pytestmark = pytest.mark.anyio


class OnBoth(TransportContract):
    """The contract on a broker of each kind, which is the module's own and can be killed."""

    server: Any

    def opened(self, owner: str) -> Transport:
        raise NotImplementedError

    @pytest.fixture
    async def transport(self, broker: Any) -> AsyncIterator[Transport]:
        self.server = broker
        transport = self.opened("me")
        await transport.start()
        yield transport
        await transport.stop()

    def another(self, transport: Transport) -> Transport:
        return self.opened("another")

    def broker(self) -> Any:
        return self.server


@pytest.mark.contract("WEB-201")
class TestStreams(OnBoth):
    def opened(self, owner: str) -> RedisStreams:
        return RedisStreams(self.server.url, owner=owner)

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, RedisStreams)
        return [(letter.message.body, letter.reason) for letter in await transport.parked(channel)]


@pytest.mark.contract("WEB-400")
class TestPubSub(OnBoth):
    def opened(self, owner: str) -> RedisPubSub:
        return RedisPubSub(self.server.url)
