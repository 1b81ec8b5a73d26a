"""The echo service of ``python -m echoloop serve``.

The rule: it is a program like any other on the public names of this package.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from typing import TextIO

from ._listener import Listener
from ._loop import Loop
from ._protocol import Protocol
from ._seldom import Seldom
from ._transport import Transport

logger = logging.getLogger("echoloop")

_ADVICE = {
    errno.EADDRINUSE: "choose another port with --listen, or port 0 for any that is free",
    errno.EACCES: "ports below 1024 need privileges, choose a higher one with --listen",
    errno.EADDRNOTAVAIL: "this machine has no such address, choose one of its own with --listen",
    errno.EAFNOSUPPORT: "this machine has no such protocol, choose an IPv4 address with --listen",
}


class EchoService:
    """An echo server on some addresses (RFC 862): what a client sends comes back to it."""

    def __init__(self, idle_timeout: float | None, max_connections: int | None) -> None:
        """Serves nobody yet."""
        self.idle_timeout = idle_timeout
        self.max_connections = max_connections
        self.open = 0
        self.served = 0
        self.refused = 0
        self._loop = Loop()
        self._asked = False
        self._last_refused: tuple[object, object] = ("?", 0)
        self._refusals = Seldom(self._tell_refusals)

    def serve(self, addresses: list[str]) -> None:
        """Serves until SIGINT or SIGTERM, then drains; a second one ends at once."""
        with self._loop:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._end)
            listeners = [self._listen(address) for address in addresses]
            for listener in listeners:
                say(f"listening on {listener}", sys.stdout)
            host, port = listeners[0].address[:2]
            say(f"try:  printf hello | nc -N {host} {port}", sys.stdout)
            say("      Ctrl-C drains and prints the totals", sys.stdout)
            self._loop.run()
            late = self._loop.drain()
            self._refusals.flush(self._loop)
        totals = f"served {self.served} connections, {self.refused} refused, {late} cut at the end"
        say(totals, sys.stdout)

    def refuse(self, transport: Transport) -> None:
        """Resets a connection that is one too many, and tells of it at most once a second."""
        self.refused += 1
        self._last_refused = transport.get_extra_info("peername", ("?", 0))[:2]
        transport.abort()
        self._refusals.happened(self._loop)

    def _tell_refusals(self, loop: Loop, count: int) -> None:
        host, port = self._last_refused
        logger.warning(
            "refused %s%s:%s: the maximum of %s connections is reached",
            f"{count} connections, the last from " if count > 1 else "",
            host,
            port,
            self.max_connections,
        )

    def _listen(self, address: str) -> Listener:
        return self._loop.listen(address, self._connection, idle_timeout=self.idle_timeout)

    def _connection(self) -> Protocol:
        return EchoConnection(self)

    def _end(self, number: int, frame: object) -> None:
        if self._asked:
            say("echoloop: ended at once", sys.stderr)
            raise SystemExit(128 + number)
        self._asked = True
        self._loop.stop()
        say("echoloop: draining; once more to end at once", sys.stderr)


class EchoConnection(Protocol):
    """One client."""

    __slots__ = ("_admitted", "_service", "_transport")

    def __init__(self, service: EchoService) -> None:
        """Belongs to a service, which counts it."""
        self._service = service

    def connection_made(self, transport: Transport) -> None:
        """Lets the client in, or resets the connection when there are too many."""
        service, most = self._service, self._service.max_connections
        self._transport = transport
        self._admitted = most is None or service.open < most
        if not self._admitted:
            service.refuse(transport)
            return
        service.served += 1
        service.open += 1

    def data_received(self, data: bytes) -> None:
        """Sends back what came."""
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Makes room for another."""
        self._service.open -= self._admitted


def say(line: str, stream: TextIO | None) -> None:
    """Prints a line, for whoever reads it: a stream that is closed or full is not our concern."""
    if stream is None:  # Closed before the interpreter began.
        return
    try:
        print(line, file=stream, flush=True)
    except RuntimeError:
        pass  # A signal handler, in the middle of another line.
    except OSError:
        # What is left in its buffer must not fail once more when the interpreter ends.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def problem_of(error: Exception) -> str:
    """One line that says what went wrong and what to do.

    >>> problem_of(OSError(errno.EADDRINUSE, "Address already in use", "127.0.0.1:7007"))[:60]
    'listen 127.0.0.1:7007: Address already in use (EADDRINUSE); '
    >>> problem_of(OSError(errno.EMFILE, "Too many open files"))
    'Too many open files (EMFILE)'
    """
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    what = f"{error.strerror} ({name})"
    if not error.filename:
        return what
    advice = _ADVICE.get(error.errno)
    return f"listen {error.filename}: {what}" + (f"; {advice}" if advice else "")
