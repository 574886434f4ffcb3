"""Streams keep the contract of every transport, on Valkey and on the redis-server of the system."""

from collections.abc import AsyncIterator

import pytest

from wintry.bus.testing import TransportContract
from wintry.web.transports.redis import RedisStreams

pytestmark = [pytest.mark.anyio, pytest.mark.contract("WEB-201")]


async def opened(url: str) -> AsyncIterator[RedisStreams]:
    transport = RedisStreams(url, owner="me")
    await transport.start()
    await transport.check()
    yield transport
    await transport.stop()


class TestOnValkey(TransportContract):
    @pytest.fixture
    async def transport(self, redis_url: str) -> AsyncIterator[RedisStreams]:
        async for transport in opened(redis_url):
            yield transport


class TestOnRedis(TransportContract):
    @pytest.fixture
    async def transport(self, redis_system_url: str) -> AsyncIterator[RedisStreams]:
        async for transport in opened(redis_system_url):
            yield transport
