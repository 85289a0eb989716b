"""A network between processes and their servers that can be made slow, cut, or silent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

#: Where a server is: a port on this machine, or a Unix socket.
Address = int | Path


class Link:
    """One way from a process to a server. `listens_at` is where the process connects to.

    pass: bytes go through after `delay_s`. cut: connections are closed and new ones closed at once. silent: connections
    stay open and nothing goes through, and those that were open then stay silent for ever, as after a lost route.
    mute: questions go through, answers do not. break: connections are closed in the middle, after `limit_bytes` in all.
    answer: every connection gets the bytes of `answer` to whatever it asks, and is closed.

    gives_up_s: when silent and mute connections end after all, where it is the system that ends them (TCP's keep-alive
        and user timeout, which our sockets of one machine do not have); None: the process must notice by itself.
    """

    def __init__(self, target: Callable[[], Address], gives_up_s: float | None) -> None:
        self.target = target
        self.gives_up_s = gives_up_s
        self.mode = "pass"
        self.delay_s = 0.0
        self.limit_bytes = 0
        self.answer = b""
        self.listens_at: Address = 0
        self._open: set[_Connection] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if self.mode == "cut":
            writer.close()
            return
        if self.mode == "answer":
            await _answer(reader, writer, self.answer)
            return
        connection = _Connection(self, reader, writer)
        self._open.add(connection)
        connection.obey(self.mode)
        try:
            await connection.carry()
        finally:
            self._open.discard(connection)

    def switch(self, mode: str, delay_s: float) -> None:
        """Change what happens to bytes from now on."""
        self.mode, self.delay_s = mode, delay_s
        for connection in self._open:
            connection.obey(mode)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    try:
        await reader.read(65536)
        writer.write(answer)
        writer.write_eof()
        # Closed with something unread, a connection is reset, and the answer with it.
        while await reader.read(65536):
            pass
    except OSError:
        pass
    finally:
        writer.close()


class _Connection:
    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link = link
        self._asks = self._answers = True
        self._carried_bytes = 0
        self._client = (reader, writer)
        self._writers = [writer]
        self._closed = asyncio.Event()

    async def carry(self) -> None:
        reader, writer = self._client
        try:
            target = self.link.target()
            if isinstance(target, Path):
                server = await asyncio.open_unix_connection(target)
            else:
                server = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        self._writers.append(server[1])
        await asyncio.gather(
            self._pump(reader, server[1], lambda: self._asks), self._pump(server[0], writer, lambda: self._answers)
        )

    def obey(self, mode: str) -> None:
        """Do as a link of this mode does; what has become silent stays so."""
        if mode in ("cut", "answer"):
            self.close()
        if mode in ("silent", "mute"):
            self._answers = False
            self._asks = self._asks and mode == "mute"
            if self.link.gives_up_s is not None:
                asyncio.get_running_loop().call_later(self.link.gives_up_s, self.close)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[], bool]
    ) -> None:
        try:
            while data := await reader.read(65536):
                if not passes():
                    continue
                self._carried_bytes += len(data)
                if self.link.mode == "break" and self._carried_bytes > self.link.limit_bytes:
                    writer.write(data[: len(data) // 2])
                    break
                if self.link.delay_s:
                    await asyncio.sleep(self.link.delay_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            # The end of a connection is news too, which a silent network does not bring.
            if passes():
                self.close()
            else:
                await self._closed.wait()

    def close(self) -> None:
        self._closed.set()
        for writer in self._writers:
            writer.close()


class Network:
    """All links, carried by one thread. A context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._links: list[Link] = []
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(
        self, target: Callable[[], Address], socket: Path | None = None, *, gives_up_s: float | None = None
    ) -> Link:
        """A new link to wherever the server is at each connection; it listens on a port of its own, or at `socket`."""
        link = Link(target, gives_up_s)
        self._links.append(link)
        link.listens_at = self._run(self._listen(link, socket))
        return link

    def switch(self, link: Link, mode: str, delay_s: float = 0.0, *, limit_bytes: int = 0, answer: bytes = b"") -> None:
        """Let the link pass, cut or swallow from now on."""
        link.limit_bytes, link.answer = limit_bytes, answer
        self._loop.call_soon_threadsafe(link.switch, mode, delay_s)

    async def _listen(self, link: Link, socket: Path | None) -> Address:
        if socket is not None:
            self._servers.append(await asyncio.start_unix_server(link.serve, socket))
            return socket
        server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for link in self._links:
            link.switch("cut", 0)
        # They end by themselves now that their connections have.
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=5)
        await asyncio.sleep(0)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
