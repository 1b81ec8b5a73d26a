"""A native network event loop, with asyncio's protocols and transports.

>>> import echoloop
>>> class Echo(echoloop.Protocol):
...     def connection_made(self, transport):
...         self.transport = transport
...
...     def data_received(self, data):
...         self.transport.write(data)
>>> with echoloop.Loop() as loop:
...     listener = loop.listen("127.0.0.1:0", Echo)
...     _ = loop.call_later(0.01, loop.stop)
...     loop.run()

The waiting, the buffers, the timers and the deadlines are libecholoop's, written in Rust and
bundled with this package; there is no extension module.
"""

from ._errors import (
    BrokenLoopError,
    ClosedHandleError,
    Error,
    QueueFullError,
    ReentryError,
    TooManyHandlesError,
    WriteEndedError,
    WrongThreadError,
)
from ._ffi import held as _held
from ._handle import Handle
from ._listener import Listener
from ._loop import Loop
from ._protocol import Protocol
from ._timer_handle import TimerHandle
from ._transport import Transport

__version__: str = _held("echoloop_version")().decode()

__all__ = [
    "BrokenLoopError",
    "ClosedHandleError",
    "Error",
    "Handle",
    "Listener",
    "Loop",
    "Protocol",
    "QueueFullError",
    "ReentryError",
    "TimerHandle",
    "TooManyHandlesError",
    "Transport",
    "WriteEndedError",
    "WrongThreadError",
    "__version__",
]
