"""The journal and the transport in memory keep the contracts that every store and transport keeps."""

import pytest

from wintry.bus.journal import MemoryJournal
from wintry.bus.testing import JournalContract, TransportContract
from wintry.bus.transports import Memory

pytestmark = [pytest.mark.anyio, pytest.mark.contract("BUS-060")]


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal(keep_done=True)


class TestMemoryTransport(TransportContract):
    @pytest.fixture
    def transport(self) -> Memory:
        return Memory()
