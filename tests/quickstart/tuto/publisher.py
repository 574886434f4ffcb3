import json
from typing import Protocol
from wintry.ioc import provider
import redis.asyncio as aioredis

from .settings import REDIS_URL

class Publisher(Protocol):
    async def send(self, channel: str, data: dict):
        ...

@provider(of=Publisher) # (1)
class RedisPublisher(Publisher):
    def __init__(self) -> None:
        self.client = aioredis.from_url(REDIS_URL)

    async def send(self, channel: str, data: dict):
        await self.client.publish(channel, json.dumps(data))
