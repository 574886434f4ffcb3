"""The journal and the transport in memory keep the contracts that every store and transport keeps."""

from collections.abc import Sequence

import pytest

from wintry.bus.journal import MemoryJournal
from wintry.bus.testing import JournalContract, TransportContract
from wintry.bus.transports import Memory, Transport

pytestmark = [pytest.mark.anyio, pytest.mark.contract("BUS-060")]


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal(keep_done=True)


class TestMemoryTransport(TransportContract):
    @pytest.fixture
    def transport(self) -> Memory:
        return Memory()

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, Memory)
        return [(letter.message.body, letter.reason) for letter in transport.parked if letter.channel == channel]
