"""An echo server. Run it, then try: printf hello | nc -N 127.0.0.1 7007"""

import sys

import echoloop


class Echo(echoloop.Protocol):
    """What a client sends comes back to it."""

    def connection_made(self, transport: echoloop.Transport) -> None:
        """Keeps the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Sends back what came."""
        self.transport.write(data)


with echoloop.Loop() as loop:
    listener = loop.listen(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7007", Echo)
    print(f"listening on {listener}", flush=True)
    try:
        loop.run()
    except KeyboardInterrupt:
        loop.drain()
