"""The echo server as a Protocol of Python's asyncio, or of uvloop with --uvloop.

The standard way: bytes received are written to the transport, and a peer that does not read stops
being read (pause_writing, resume_writing). No limits, no timers.

python3 asyncio_echo.py [--uvloop]     prints "listening on 127.0.0.1:PORT", ends on SIGTERM
"""

import asyncio
import signal
import sys


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main():
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.cancel)
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
    print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    try:
        await ended
    except asyncio.CancelledError:
        pass
    server.close()


if "--uvloop" in sys.argv[1:]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
