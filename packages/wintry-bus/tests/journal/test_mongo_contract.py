"""The journal and the queue in MongoDB keep the contracts that all of them keep, the journal through each client."""

from collections.abc import AsyncIterator, Sequence

import pytest

from wintry.bus.journal.mongo import MongoJournal
from wintry.bus.testing import JournalContract, TransportContract
from wintry.bus.transports import Transport
from wintry.bus.transports.mongo import MongoQueue
from wintry.repository.mongo import open_backend

pytestmark = pytest.mark.anyio


async def opened(url: str, client: str) -> AsyncIterator[MongoJournal]:
    backend = open_backend("default", url, {"client": client})
    journal = MongoJournal(backend)
    await backend.open()
    await journal.prepare()
    yield journal
    await journal.flush()
    await backend.collection("_wintry_journal").delete_many({})
    await backend.close()


@pytest.mark.contract("BUS-502")
class TestThroughPyMongo(JournalContract):
    @pytest.fixture
    async def journal(self, shared_mongodb_url: str) -> AsyncIterator[MongoJournal]:
        async for journal in opened(shared_mongodb_url, "pymongo"):
            yield journal


@pytest.mark.contract("BUS-502")
class TestThroughMotor(JournalContract):
    @pytest.fixture
    async def journal(self, shared_mongodb_url: str) -> AsyncIterator[MongoJournal]:
        async for journal in opened(shared_mongodb_url, "motor"):
            yield journal


@pytest.mark.contract("BUS-503")
class TestQueue(TransportContract):
    messages = 500  # each takes two transactions to hand out and to settle

    @pytest.fixture
    async def transport(self, mongodb_url: str) -> AsyncIterator[MongoQueue]:
        backend = open_backend("default", mongodb_url, {})
        await backend.open()
        queue = MongoQueue(backend, owner="me")
        await queue.start()
        yield queue
        await queue.stop()
        await backend.close()

    def another(self, transport: Transport) -> MongoQueue:
        assert isinstance(transport, MongoQueue)
        return MongoQueue(transport.backend, owner="another")

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, MongoQueue)
        return [
            (letter.message.body, letter.reason) for letter in await transport.parked() if letter.channel == channel
        ]
