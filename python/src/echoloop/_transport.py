"""One connection, with the methods of an asyncio transport.

The rule: no method blocks. What concerns the bytes is the library's; what is kept here is only what
asyncio's semantics add: nothing reaches the protocol while reading is paused or after ``close()``,
and writes after the end are dropped without a word.

The way of a message: the loop calls ``_receive``, which *is* the protocol's ``data_received`` while
nothing stands in the way, and another method of this class while something does.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._address import address_tuple
from ._errors import WriteEndedError, error_of
from ._ffi import ADDR_MAX, Status, held, released, unconverted

if TYPE_CHECKING:
    from ._loop import Loop
    from ._protocol import AnyProtocol

_send = held("echoloop_conn_send")
_send_small = unconverted("echoloop_conn_send")
_send_large = released("echoloop_conn_send")
_queued = held("echoloop_conn_queued")
_pause = held("echoloop_conn_pause")
_resume = held("echoloop_conn_resume")
_shutdown_write = held("echoloop_conn_shutdown_write")
_close = held("echoloop_conn_close")
_abort = held("echoloop_conn_abort")
_peer_addr = held("echoloop_conn_peer_addr")
_local_addr = held("echoloop_conn_local_addr")

#: Up to this size the arguments of a send are at hand as ctypes wants them in the end, which saves
#: half of the call: 105 ns in place of 210.
_SMALL = 1024
_SIZES = [ctypes.c_size_t.from_param(size) for size in range(_SMALL + 1)]
#: Above this size a send lets other threads run while it copies.
_MEDIUM = 1 << 18
#: Answers that mean the connection is over; nobody needs to hear it twice.
_OVER = (Status.ECLOSING, Status.EBADHANDLE)


class Transport:
    """What ``connection_made`` gets: write to it, close it."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_eof_held",
        "_eof_written",
        "_error",
        "_handle",
        "_held",
        "_loop",
        "_paused",
        "_peer",
        "_pointer",
        "_protocol",
        "_receive",
        "_write_limits",
    )

    def __init__(
        self,
        loop: Loop,
        handle: int,
        protocol: AnyProtocol,
        write_limits: tuple[int, int],
    ) -> None:
        """Made by the loop."""
        self._loop = loop
        self._handle = handle
        self._pointer = ctypes.c_void_p.from_param(handle)
        self._write_limits = write_limits
        self._closing = False
        self._paused = False
        self._eof_written = False
        self._eof_held = False
        self._held: list[bytes] | None = None
        self._peer: str | None = None
        self._error: Exception | None = None
        self._protocol = protocol
        self._receive: Callable[[bytes], object] = receiver_of(protocol)

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes. What the kernel does not take now is queued, and nothing ever blocks.

        Raises :class:`QueueFullError`, and takes nothing, while more than the hard cap (4 MiB
        unless ``send_cap`` says otherwise) waits for a slow peer; a protocol that heeds
        ``pause_writing`` never sees it. After ``close()`` bytes are dropped, as in asyncio.
        """
        if type(data) is bytes:
            size = len(data)
            if size <= _SMALL:
                status = _send_small(self._pointer, data, _SIZES[size])
            elif size <= _MEDIUM:
                status = _send(self._handle, data, size)
            else:
                status = _send_large(self._handle, data, size)
        else:
            status = self._write_view(memoryview(data))
        if status:
            self._refused(status)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Sends several pieces as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Finishes sending after all that was written; receiving goes on."""
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._done(_shutdown_write(self._handle))

    def can_write_eof(self) -> bool:
        """Always true: TCP has a half-close."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the kernel to take them."""
        return int(max(0, _queued(self._handle)))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark, in bytes."""
        return self._write_limits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Not possible on an open connection; give the marks to ``listen`` or ``connect``."""
        raise NotImplementedError("give high_mark and low_mark to listen() or connect()")

    # Reading

    def pause_reading(self) -> None:
        """Stops ``data_received`` until ``resume_reading``; the peer is slowed down by TCP."""
        if self._closing or self._paused:
            return
        self._done(_pause(self._handle))
        self._paused = True
        self._receive = self._hold

    def resume_reading(self) -> None:
        """Goes on after ``pause_reading``."""
        if self._closing or not self._paused:
            return
        self._done(_resume(self._handle))
        self._paused = False
        if self._held or self._eof_held:
            self._loop.call_soon(self._release)
        else:
            self._receive = receiver_of(self._protocol)

    def is_reading(self) -> bool:
        """Whether bytes may arrive: neither paused nor closing."""
        return not (self._paused or self._closing)

    # Ending

    def close(self) -> None:
        """Sends what was written, then closes; ``connection_lost(None)`` follows.

        It takes until the peer has taken everything and has closed too, at most ``close_timeout``.
        """
        if not self._closing:
            self._done(_close(self._handle))
            self._end()
            self._bury_if_gone()

    def abort(self) -> None:
        """Resets the connection at once; what was not sent yet is lost."""
        self._done(_abort(self._handle))
        self._end()
        self._bury_if_gone()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._closing

    # About

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"peername"`` or ``"sockname"``, as the tuples that sockets have; else ``default``."""
        if name == "peername":
            text = self._peer_text()
        elif name == "sockname":
            text = self._text_of(_local_addr)
        else:
            return default
        return default if text is None else address_tuple(text)

    def set_protocol(self, protocol: AnyProtocol) -> None:
        """Makes another object receive what happens from now on."""
        self._protocol = protocol
        if self.is_reading() and not self._held:
            self._receive = receiver_of(protocol)

    def get_protocol(self) -> AnyProtocol:
        """The protocol object."""
        return self._protocol

    def __repr__(self) -> str:
        """Says who is at the other end, and whether it is closing."""
        return f"<Transport {self._peer_text()}{' closing' if self._closing else ''}>"

    # What the loop calls

    def _opened(self) -> None:
        try:
            self._protocol.connection_made(self)  # type: ignore[arg-type]
        except Exception as exc:
            self._loop._failed(self, "connection_made", exc)

    def _eof(self) -> None:
        """End of stream. Unless the protocol wants to go on, finish sending too: then the library
        closes the connection when all is sent, without a deadline for a peer that reads slowly.
        """
        if self._closing:
            return
        if self._paused or self._held:
            self._eof_held = True
            return
        try:
            # BaseProtocol of asyncio has none; its two subclasses have.
            stays_open = getattr(self._protocol, "eof_received", _nothing)()
        except Exception as exc:
            self._loop._failed(self, "eof_received", exc)
            return
        if not (stays_open or self._closing):
            _shutdown_write(self._handle)
            self._end()

    def _pressure(self, name: str) -> None:
        """``pause_writing`` or ``resume_writing``."""
        try:
            getattr(self._protocol, name)()
        except Exception as exc:
            self._loop._failed(self, name, exc)

    def _lost(self, exc: Exception | None) -> None:
        self._end()
        try:
            self._protocol.connection_lost(self._error or exc)
        except Exception as failure:
            self._loop._failed(self, "connection_lost", failure)

    def _bury_if_gone(self) -> None:
        """If the library has no such connection any more, and the loop was not told: it has its
        `connection_lost` when the events at hand are done.
        """
        loop = self._loop
        if _queued(self._handle) == Status.EBADHANDLE and self._handle in loop._transports:
            loop.call_soon(loop._bury, self)

    def _fail(self, exc: Exception) -> None:
        """Ends the connection for an exception of its own handler."""
        self._error = self._error or exc
        _abort(self._handle)
        self._end()

    # Private

    def _end(self) -> None:
        self._closing = True
        self._held = None
        self._receive = _nothing

    def _hold(self, data: bytes) -> None:
        if self._held is None:
            self._held = []
        self._held.append(data)

    def _release(self) -> None:
        """Hands out what came while reading was paused, and leaves the short way open again."""
        while self._held and self.is_reading():
            data = self._held.pop(0)
            try:
                receiver_of(self._protocol)(data)
            except Exception as exc:
                self._loop._failed(self, "data_received", exc)
        if self.is_reading():
            self._receive = receiver_of(self._protocol)
            if self._eof_held:
                self._eof_held = False
                self._eof()

    def _write_view(self, view: memoryview) -> int:
        """Sends from memory that is no ``bytes`` object: in place where ctypes can, else a copy."""
        if view.readonly or not view.contiguous or not view.nbytes:
            data = view.tobytes()
            return _send(self._handle, data, len(data))  # type: ignore[no-any-return]
        place = ctypes.byref(ctypes.c_char.from_buffer(view))
        send = _send if view.nbytes <= _MEDIUM else _send_large
        return send(self._handle, place, view.nbytes)  # type: ignore[no-any-return]

    def _refused(self, status: int) -> None:
        if status not in _OVER:
            raise error_of(status, self._peer_text())
        if self._eof_written:
            raise WriteEndedError("cannot write after write_eof()")

    def _done(self, status: int) -> None:
        if status and status not in _OVER:
            raise error_of(status, self._peer_text())

    def _peer_text(self) -> str | None:
        if self._peer is None:
            self._peer = self._text_of(_peer_addr)
        return self._peer

    def _text_of(self, function: Callable[..., int]) -> str | None:
        buffer = ctypes.create_string_buffer(ADDR_MAX)
        size = function(self._handle, buffer, ADDR_MAX)
        return buffer.raw[:size].decode() if size > 0 else None


def abort_connection(handle: int) -> None:
    """Resets a connection that has no transport."""
    _abort(handle)


def receiver_of(protocol: Any) -> Callable[[bytes], object]:
    """The method that takes the bytes; asyncio's ``BufferedProtocol`` has another way."""
    receive: Callable[[bytes], object] | None = getattr(protocol, "data_received", None)
    if receive is not None:
        return receive
    if hasattr(protocol, "get_buffer"):
        return functools.partial(_fill, protocol)
    return _nothing


def _fill(protocol: Any, data: bytes) -> None:
    left = memoryview(data)
    while left:
        buffer = memoryview(protocol.get_buffer(len(left))).cast("B")
        size = min(len(buffer), len(left))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = left[:size]
        protocol.buffer_updated(size)
        left = left[size:]


def _nothing(*_: object) -> None:
    pass
