"""What stands between a client and a server, and loses the network for them."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, final

from tests.harness import START_SECONDS, free_port

# Closed with this, a connection is reset.
_ABORT = struct.pack("ii", 1, 0)


@final
class Proxy:
    """A TCP proxy at ``endpoint``, for the length of a ``with``.

    Its faults hold until `heal`, and each is in force when its method returns.

    Args:
        target: ``HOST:PORT`` of the server.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {target}")
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self.flows = asyncio.Event()
        self.loses_requests = False
        self.loses_replies = False
        self.accepted = 0
        self._refuses = False

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def open(self) -> int:
        """How many connections there are; ``accepted`` is how many there have been."""
        return len(self._connections)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def refuse(self) -> None:
        """Reset all, and refuse new ones, as where the server's process has ended."""
        self._do(self._refuse())

    def cut(self) -> None:
        """Reset all; new ones are welcome."""
        self._do(self._cut(list(self._connections)))

    def hang(self) -> None:
        """Accept, but forward nothing. What is on its way then arrives when this is over, as TCP has it."""
        self._do(self._lose(flows=False))

    def drop_requests(self) -> None:
        """Have what clients send arrive nowhere; what the server still says reaches them."""
        self._do(self._lose(requests=True))

    def drop_replies(self) -> None:
        """Have requests go through, and nobody hear what came of them."""
        self._do(self._lose(replies=True))

    def heal(self) -> None:
        """Forward everything again. A connection that has lost something is reset: half of a reply is none."""
        self._do(self._heal())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(START_SECONDS)

    async def _refuse(self) -> None:
        self._refuses = True
        if self._server is not None:
            # A server that is closed while it takes a connection loses its socket.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        await self._cut(list(self._connections))

    async def _cut(self, tasks: list[asyncio.Task[None]]) -> None:
        connections = [self._connections[task] for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            # One that had not begun to run has not ended anything.
            connection.reset()
        # The loop closes their sockets in its next round.
        await asyncio.sleep(0)

    async def _lose(self, *, flows: bool = True, requests: bool = False, replies: bool = False) -> None:
        if not flows:
            self.flows.clear()
        self.loses_requests |= requests
        self.loses_replies |= replies

    async def _heal(self) -> None:
        self.loses_requests = self.loses_replies = self._refuses = False
        await self._cut([task for task, connection in self._connections.items() if connection.has_lost])
        self.flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        if self._refuses:
            # It was under way when the server was closed.
            connection.reset()
            return
        self.accepted += 1
        task = self._loop.create_task(connection.run(self._target))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)


@final
class _Connection:
    """A client, the server, and what goes between them."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]
        self.has_lost = False

    async def run(self, target: str) -> None:
        """Forward until both have ended, or one has failed; then there is neither."""
        host, _, port = target.rpartition(":")
        pumps: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                self._writers.append(writer)
                pumps = [
                    asyncio.create_task(self._pump(self._reader, writer, requests=True)),
                    asyncio.create_task(self._pump(reader, self._writers[0], requests=False)),
                ]
                await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self.reset()

    def reset(self) -> None:
        """Have neither side hear anything more."""
        for writer in self._writers:
            self._reset(writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, requests: bool) -> None:
        while True:
            data = await source.read(65_536)
            await self._proxy.flows.wait()
            if self._proxy.loses_requests if requests else self._proxy.loses_replies:
                self.has_lost = True
            elif data:
                sink.write(data)
                await sink.drain()
            else:
                sink.write_eof()
            if not data:
                return

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        if not writer.transport.is_closing():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        writer.transport.abort()
