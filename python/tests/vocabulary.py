"""The words in which the tests speak: a loop that runs until something is so, raw peers, recorders.

The rule: every wait has a deadline, nothing sleeps, and peers are real sockets.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

import echoloop

PATIENCE = 20.0


class Recorder(echoloop.Protocol):
    """Writes down what happens."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.data = bytearray()
        self.transport: echoloop.Transport | None = None

    @property
    def open_transport(self) -> echoloop.Transport:
        assert self.transport is not None
        return self.transport

    def connection_made(self, transport: echoloop.Transport) -> None:
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.log[-1] != "data":
            self.log.append("data")

    def eof_received(self) -> bool | None:
        self.log.append("eof")
        return None

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(("lost", exc))

    @property
    def is_lost(self) -> bool:
        return bool(self.log) and self.log[-1][0] == "lost"

    @property
    def reason(self) -> Exception | None:
        what, exc = self.log[-1]
        assert what == "lost"
        return exc  # type: ignore[no-any-return]


class Echo(Recorder):
    """Sends back what comes."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.open_transport.write(data)


class LoopCase(unittest.TestCase):
    """A test with a loop, whose exceptions of handlers fail the test unless it expects them."""

    def setUp(self) -> None:
        self.loop = echoloop.Loop()
        self.addCleanup(self.loop.close)
        self.reports: list[dict[str, Any]] = []
        self.expects_reports = False
        self.loop.set_exception_handler(lambda loop, context: self.reports.append(context))
        self.addCleanup(self._no_surprise)
        self.served: list[Any] = []

    def _no_surprise(self) -> None:
        if not self.expects_reports:
            self.assertEqual(self.reports, [])

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Runs the loop until something is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            left = end - time.monotonic()
            self.assertGreater(left, 0, f"waited in vain {what}")
            self.loop.run_once(min(left, 0.05))

    def turns(self, count: int = 3) -> None:
        """Lets the loop do what can be done now."""
        for _ in range(count):
            self.loop.run_once(0)

    def listen(
        self, factory: Callable[[], Any] = Echo, address: str = "127.0.0.1:0", **options: Any
    ) -> echoloop.Listener:
        def make() -> Any:
            self.served.append(factory())
            return self.served[-1]

        return self.loop.listen(address, make, **options)

    def peer(self, listener: echoloop.Listener) -> socket.socket:
        """A raw client."""
        return self.peer_at(listener.address)

    def peer_at(self, address: tuple[Any, ...]) -> socket.socket:
        peer = socket.create_connection(address[:2], timeout=PATIENCE)
        self.addCleanup(peer.close)
        return peer

    def receive(self, peer: socket.socket, size: int) -> bytes:
        """That many bytes from a raw peer, while the loop runs."""
        got = bytearray()
        peer.setblocking(False)

        def enough() -> bool:
            with contextlib.suppress(BlockingIOError):
                got.extend(peer.recv(1 << 20))
            return len(got) >= size

        self.until(enough, f"for {size} bytes, got {len(got)}")
        return bytes(got)

    def until_end(self, peer: socket.socket) -> bytes:
        """All that still comes until the peer sees the end of the stream."""
        got = bytearray()
        ended: list[bool] = []
        peer.setblocking(False)

        def end() -> bool:
            try:
                data = peer.recv(1 << 20)
            except BlockingIOError:
                return False
            got.extend(data)
            if not data:
                ended.append(True)
            return bool(ended)

        self.until(end, "for the end of the stream")
        return bytes(got)


def reset(peer: socket.socket) -> None:
    """Closes by a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Runs something beside the test."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Program:
    """A Python program in a process of its own; killed at the end of the test."""

    def __init__(self, case: unittest.TestCase, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        case.addCleanup(self._end)

    def line(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def wait(self) -> tuple[int, str, str]:
        """Its exit code, and the rest of what it said."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
