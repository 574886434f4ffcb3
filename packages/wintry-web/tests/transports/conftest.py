"""A Redis of each kind that tests may kill."""

from typing import Any

import pytest
from redis.asyncio import Redis

FIXTURES = {"valkey": "shared_redis_server", "redis": "shared_redis_system_server"}


@pytest.fixture(params=[*FIXTURES])
async def broker(request: pytest.FixtureRequest, anyio_backend: str) -> Any:
    """Valkey, and the redis-server of the system: empty, and the module's own, to be killed and restarted."""
    server: Any = request.getfixturevalue(FIXTURES[request.param])
    server.start()  # a test that failed may have left it down
    async with Redis.from_url(server.url) as client:
        await client.flushall()
    return server
