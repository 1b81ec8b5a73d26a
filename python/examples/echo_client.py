"""Sends standard input to a server and prints what returns.

Try: echo hello | python echo_client.py 127.0.0.1:7007
"""

from __future__ import annotations

import sys

import echoloop


class Client(echoloop.Protocol):
    """Sends everything, finishes sending, and waits for the peer to finish too."""

    failure: Exception | None = None

    def __init__(self, loop: echoloop.Loop, text: bytes) -> None:
        """Stops the loop when the connection ends."""
        self.loop, self.text = loop, text

    def connection_made(self, transport: echoloop.Transport) -> None:
        """Sends; what the network does not take at once waits in the transport."""
        transport.write(self.text)
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Prints."""
        sys.stdout.buffer.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends, in good order or not; a connect that failed ends here too."""
        self.failure = exc
        self.loop.stop()


with echoloop.Loop() as loop:
    client = Client(loop, sys.stdin.buffer.read())
    # All is sent before anything is read: pausing to read while much is queued would block both.
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7007"
    loop.connect(lambda: client, address, auto_pause=False)
    loop.run()
sys.exit(f"echo_client: {client.failure}" if client.failure else 0)
