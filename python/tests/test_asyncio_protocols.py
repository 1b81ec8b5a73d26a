"""Classes written for asyncio, on this loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from vocabulary import LoopCase


class AsyncioEcho(asyncio.Protocol):
    """The echo server of asyncio's documentation."""

    transport: asyncio.Transport
    ended: list[Exception | None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.ended = []
        self.peername = transport.get_extra_info("peername")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.append(exc)


class AsyncioBuffered(asyncio.BufferedProtocol):
    """The same with a buffer of its own, smaller than the messages."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


class AnAsyncioProtocol(LoopCase):
    def test_a_protocol_of_asyncio_runs_unchanged(self) -> None:
        peer = self.peer(self.listen(AsyncioEcho))
        peer.sendall(b"hello")
        self.assertEqual(self.receive(peer, 5), b"hello")
        self.assertEqual(self.served[0].peername, peer.getsockname())
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.until_end(peer), b"")
        self.until(lambda: self.served[0].ended)
        self.assertEqual(self.served[0].ended, [None])

    def test_a_buffered_protocol_of_asyncio_runs_unchanged(self) -> None:
        peer = self.peer(self.listen(AsyncioBuffered))
        peer.sendall(b"a message longer than the buffer")
        self.assertEqual(self.receive(peer, 32), b"a message longer than the buffer")
