"""What goes wrong, as Python exceptions.

The rule: an error of the operating system is the ``OSError`` subclass that a Python person expects,
with number, text and address. A mistake in the program is a subclass of :class:`Error`, and also of
the built-in exception that the standard library raises in such a case, so code written for asyncio
catches it.
"""

from __future__ import annotations

import errno
import os

from ._ffi import Close, Status, held

_last_error = held("echoloop_last_error")
_close_reason = held("echoloop_close_reason")
_strerror = held("echoloop_strerror")


class Error(Exception):
    """A mistake in the use of echoloop; the base of all exceptions of this package."""


class ClosedHandleError(Error, RuntimeError):
    """The loop, connection, listener or timer is closed."""


class QueueFullError(Error, BufferError):
    """More bytes wait for a slow peer than the hard cap allows; nothing of this write was taken.

    What was written before stays queued, in order. Write again after ``resume_writing()``. It is a
    ``BufferError`` and no ``OSError``: the connection is well, its buffer is full.
    """


class WrongThreadError(Error, RuntimeError):
    """The loop belongs to another thread; there only ``call_soon_threadsafe`` may be used."""


class ReentryError(Error, RuntimeError):
    """The loop is running; it can be neither run nor closed from inside one of its handlers."""


class WriteEndedError(Error, RuntimeError):
    """``write()`` after ``write_eof()``."""


class TooManyHandlesError(Error, RuntimeError):
    """All handles of this kind are in use."""


class BrokenLoopError(Error, RuntimeError):
    """A bug inside the library was caught; this loop can only be closed. Please report it."""


_CLASSES: dict[int, type[Exception]] = {
    Status.EBADHANDLE: ClosedHandleError,
    Status.ECLOSING: ClosedHandleError,
    Status.ECLOSED: ClosedHandleError,
    Status.EQUEUEFULL: QueueFullError,
    Status.ETOOMANY: TooManyHandlesError,
    Status.ENOMEM: MemoryError,
    Status.EINVAL: ValueError,
    Status.ENULL: ValueError,
    Status.EWRONGTHREAD: WrongThreadError,
    Status.EREENTRY: ReentryError,
    Status.EPANIC: BrokenLoopError,
}


def error_of(status: int, address: str | None = None) -> Exception:
    """The exception for what a function answered; call it before any other function.

    >>> error_of(-errno.ECONNREFUSED, "127.0.0.1:1").strerror
    'Connection refused'
    """
    if status in _CLASSES:
        text: bytes = _last_error()
        return _CLASSES[status](text.decode(errors="replace"))
    if status < Status.EBADHANDLE:
        return Error(_strerror(status).decode(errors="replace"))
    return OSError(-status, os.strerror(-status), address)


_TIMEOUTS = (
    Close.TIMED_OUT_CONNECT,
    Close.TIMED_OUT_IDLE,
    Close.TIMED_OUT_WRITE_STALL,
    Close.TIMED_OUT_CLOSE,
    Close.TIMED_OUT_FIRST_BYTE,
    Close.TIMED_OUT_LIFETIME,
)


def error_of_close(reason: int, address: str | None) -> Exception | None:
    """The argument of ``connection_lost``: ``None`` for an end in good order.

    >>> error_of_close(Close.PEER_FINISHED, "127.0.0.1:1") is None
    True
    >>> error_of_close(Close.TIMED_OUT_IDLE, "127.0.0.1:1").strerror
    'timed out: idle'
    """
    if reason < 0:
        return OSError(-reason, os.strerror(-reason), address)
    if reason == Close.RESET:
        return OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET), address)
    if reason in _TIMEOUTS:
        return OSError(errno.ETIMEDOUT, _close_reason(reason).decode(), address)
    if reason == Close.INPUT_TOO_LARGE:
        return OSError(errno.ENOBUFS, _close_reason(reason).decode(), address)
    return None
