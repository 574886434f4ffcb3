"""A way to a broker that breaks where a test wants it: a reply that is lost, a connection that ends half way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Passes everything on, until a client says `word`: then, once, the connection ends.

    With `after` the server is given the command, and it is the reply that is lost.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._word: bytes | None = None
        self._after = False
        self.cut = asyncio.Event()
        self.flowing = asyncio.Event()  # while it is not set, what the server says is on its way
        self.flowing.set()
        self.url = ""
        self.connections = dict[asyncio.Task[None], asyncio.StreamWriter]()

    def cut_at(self, word: bytes, *, after: bool = False) -> None:
        self._word, self._after = word, after
        self.cut.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections[task] = writer
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        losing = asyncio.Event()
        replies = asyncio.ensure_future(self.pass_on(there, writer, losing))
        try:
            await self.pass_back(reader, back, losing, replies)
        finally:
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)
            for each in (writer, back):
                each.close()
            del self.connections[task]

    async def pass_back(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        losing: asyncio.Event,
        replies: asyncio.Future[None],
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._word is not None and self._word in data:
                    self._word = None
                    if self._after:
                        losing.set()
                        back.write(data)
                        await replies
                    self.cut.set()
                    break
                back.write(data)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if losing.is_set():
                    return
                await self.flowing.wait()
                writer.write(data)
            writer.close()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield proxy
    finally:
        server.close()
        for writer in proxy.connections.values():
            writer.close()
        await asyncio.gather(*proxy.connections, return_exceptions=True)
        await asyncio.sleep(0.01)  # until the sockets are closed
