"""The loop: waits for events in the library and calls protocols, timers and callbacks.

The rule: one call of ``echoloop_poll_batch`` brings many events, and no Python code is ever called
from the library, so an exception always goes where Python would have it go. An event that was
brought is handled even when KeyboardInterrupt ends ``run()`` at the worst moment: what is left of
the batch is handled when the loop goes on.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import itertools
import logging
import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._address import AddressLike, address_text
from ._errors import ClosedHandleError, ReentryError, WrongThreadError, error_of, error_of_close
from ._ffi import (
    ADDR_MAX,
    EVENT,
    MEMORY,
    ConnectOptions,
    Event,
    ListenOptions,
    Options,
    held,
    unconverted,
)
from ._handle import Handle
from ._listener import Listener
from ._options import (
    FOREVER,
    HIGH_MARK,
    LOW_MARK,
    clamped,
    conn_options,
    in_range,
    microseconds,
    size_option,
    write_limits,
)
from ._protocol import Protocol
from ._reaper import remember
from ._seldom import Seldom
from ._signals import SLICE, SignalWaker
from ._timer_handle import TimerHandle
from ._transport import Transport, abort_connection

if TYPE_CHECKING:
    from ._protocol import ProtocolFactory

    ExceptionHandler = Callable[["Loop", dict[str, Any]], object]

_new = held("echoloop_new")
_free = held("echoloop_free")
_now_us = held("echoloop_now_us")
_poll = unconverted("echoloop_poll_batch", held=False)
_last_status = held("echoloop_last_status")
_listen = held("echoloop_listen")
_listener_addr = held("echoloop_listener_addr")
_connect = held("echoloop_connect")
_timer_new = held("echoloop_timer_new")
_remote_new = held("echoloop_remote_new")
_remote_wake = held("echoloop_remote_wake")
_remote_free = held("echoloop_remote_free")

#: Events of one batch.
_CAPACITY = 256
_DATA = int(Event.DATA)
#: The other events of a connection that was opened.
_OF_CONNECTION = (
    Event.CONNECTED,
    Event.CLOSED,
    Event.END_OF_STREAM,
    Event.CONGESTED,
    Event.DRAINED,
)

logger = logging.getLogger("echoloop")


class Loop:
    """A network event loop for one thread, with asyncio's names.

    >>> with Loop() as loop:
    ...     _ = loop.call_later(0.01, loop.stop)
    ...     loop.run()

    All methods but :meth:`call_soon_threadsafe` belong to the thread that made the loop; on another
    they raise :class:`WrongThreadError`. Close it when you are done, or use ``with``.
    """

    def __init__(self, *, memory_budget: int | None = None) -> None:
        """Makes a loop; ``memory_budget`` bounds what all connections queue (default 1 GiB)."""
        self._closed = True
        _free_orphans()
        budget = 0 if memory_budget is None else size_option("memory_budget", memory_budget)
        options = Options(ctypes.sizeof(Options), budget)
        handle = _new(options)
        if not handle:
            raise error_of(_last_status())
        self._handle: int = handle
        remote = ctypes.c_void_p()
        status = _remote_new(handle, remote)
        if status:
            error = error_of(status)
            _free(handle)
            raise error
        self._remote: int = remote.value or 0
        self._closed = False
        self._thread = threading.get_ident()
        self._running = False
        self._stopping = False
        self._waker: SignalWaker | None = None
        self._transports: dict[int, Transport] = {}
        self._listeners: dict[int, Listener] = {}
        self._timers: dict[int, TimerHandle] = {}
        self._ready: deque[Handle] = deque()
        self._exception_handler: ExceptionHandler | None = None
        # Why accepting is paused, None where it goes on.
        self._accept_error: Exception | None = None
        self._accept_changes = Seldom(_tell_accepting)
        self._array = ctypes.create_string_buffer(EVENT.size * _CAPACITY)
        self._address = ctypes.addressof(self._array)
        view = memoryview(self._array)
        self._views = [view[: count * EVENT.size] for count in range(_CAPACITY + 1)]
        # The size of a batch that was brought and not begun, and the rest of the one begun.
        self._brought: list[int] = []
        self._events: Iterator[tuple[int, ...]] = iter(())
        remember(self, _free_orphans)

    # Connections

    def listen(
        self,
        address: AddressLike,
        protocol_factory: ProtocolFactory,
        *,
        backlog: int = 4096,
        reuse_port: bool = False,
        dual_stack: bool = False,
        idle_timeout: float | None = None,
        write_stall_timeout: float | None = None,
        close_timeout: float = 10.0,
        high_mark: int = HIGH_MARK,
        low_mark: int | None = None,
        send_cap: int = 4 << 20,
        auto_pause: bool = True,
        no_delay: bool = True,
    ) -> Listener:
        """Accepts connections on ``"127.0.0.1:7007"`` or ``("127.0.0.1", 7007)``.

        ``protocol_factory`` is called for each, and its result gets ``connection_made``. Port 0
        takes any free port; the listener's ``address`` says which. Raises the ``OSError`` of
        listen(2), such as ``PermissionError`` or "Address already in use".

        Timeouts are in seconds, sizes in bytes. ``idle_timeout`` closes a connection on which
        nothing moves, ``write_stall_timeout`` one whose peer takes nothing of what waits. Above
        ``high_mark`` waiting bytes ``pause_writing`` is called, and unless ``auto_pause`` is false
        reading pauses too; at ``low_mark`` both go on. ``send_cap`` is where ``write`` refuses.
        """
        self._check()
        limits = write_limits(high_mark, low_mark)
        options = ListenOptions(
            ctypes.sizeof(ListenOptions),
            backlog=in_range("backlog", backlog, 1, (1 << 31) - 1),
            reuse_port=reuse_port,
            dual_stack=dual_stack,
            conn=ctypes.pointer(
                conn_options(
                    limits,
                    idle_timeout=idle_timeout,
                    write_stall_timeout=write_stall_timeout,
                    close_timeout=close_timeout,
                    send_cap=send_cap,
                    auto_pause=auto_pause,
                    no_delay=no_delay,
                )
            ),
        )
        text = address_text(address)
        out = ctypes.c_void_p()
        status = _listen(self._handle, text.encode(), options, out)
        if status < 0:
            raise error_of(status, text)
        handle = out.value or 0
        buffer = ctypes.create_string_buffer(ADDR_MAX)
        size = _listener_addr(handle, buffer, ADDR_MAX)
        if size > 0:
            text = buffer.raw[:size].decode()
        listener = Listener(handle, text, protocol_factory, limits, self._listeners.pop)
        self._listeners[handle] = listener
        return listener

    def connect(
        self,
        protocol_factory: ProtocolFactory,
        host: AddressLike,
        port: int | None = None,
        *,
        timeout: float | None = 30.0,
        local_address: AddressLike | None = None,
        idle_timeout: float | None = None,
        write_stall_timeout: float | None = None,
        close_timeout: float = 10.0,
        high_mark: int = HIGH_MARK,
        low_mark: int | None = None,
        send_cap: int = 4 << 20,
        auto_pause: bool = True,
        no_delay: bool = True,
    ) -> Transport:
        """Starts to connect and returns the transport at once.

        What is written before the connection is made leaves when it is. The answer is one call:
        ``connection_made``, or ``connection_lost`` with the ``OSError`` of connect(2)
        (``ConnectionRefusedError``, ``TimeoutError`` after ``timeout`` seconds, ...). Raises only
        what is wrong on this machine, such as too many open files. The other options are those of
        :meth:`listen`.
        """
        self._check()
        limits = write_limits(high_mark, low_mark)
        text = address_text(host, port)
        options = ConnectOptions(
            ctypes.sizeof(ConnectOptions),
            timeout_us=-1 if timeout is None else microseconds(timeout),
            local=None if local_address is None else address_text(local_address).encode(),
            conn=ctypes.pointer(
                conn_options(
                    limits,
                    idle_timeout=idle_timeout,
                    write_stall_timeout=write_stall_timeout,
                    close_timeout=close_timeout,
                    send_cap=send_cap,
                    auto_pause=auto_pause,
                    no_delay=no_delay,
                )
            ),
        )
        protocol = protocol_factory()
        out = ctypes.c_void_p()
        status = _connect(self._handle, text.encode(), options, out)
        if status < 0:
            raise error_of(status, text)
        handle = out.value or 0
        transport = Transport(self, handle, protocol, limits)
        transport._peer = text
        self._transports[handle] = transport
        return transport

    # Callbacks and time

    def time(self) -> float:
        """The clock of ``call_at``: monotonic seconds."""
        return time.monotonic()

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Calls ``callback(*args)`` when the handlers of this turn are done."""
        self._check()
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """As :meth:`call_soon`, from any thread, and also from a signal handler."""
        if self._closed:
            raise ClosedHandleError("the loop is closed")
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        _remote_wake(self._remote)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> TimerHandle:
        """Calls ``callback(*args)`` once, ``delay`` seconds from now, never earlier.

        A negative delay is none; an infinite one, as any above 1e12, is for ever.
        """
        self._check()
        delay_us = clamped(delay)
        when = math.inf if delay_us == FOREVER else self.time() + delay
        handle = TimerHandle(when, callback, args, context)
        out = ctypes.c_void_p()
        status = _timer_new(self._handle, delay_us, 0, None, out)
        if status < 0:
            raise error_of(status)
        timer = out.value or 0
        handle.start(timer, self._timers.pop)
        self._timers[timer] = handle
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> TimerHandle:
        """Calls ``callback(*args)`` at a time of :meth:`time`."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    # Running

    def run(self) -> None:
        """Runs until :meth:`stop`.

        ``KeyboardInterrupt`` and ``SystemExit`` come out of here at once, whichever handler runs;
        the loop can go on after them, or be closed. Other exceptions of a handler are reported by
        :meth:`call_exception_handler` and end only the connection they concern.
        """
        self._check_idle()
        try:
            self._enter()
            try:
                self._spin(self._arm())
            finally:
                self._disarm()
        finally:
            self._running = False
            self._stopping = False

    def run_once(self, timeout: float | None = None) -> int:
        """Waits for events, at most ``timeout`` seconds, and handles them.

        Returns how many there were; 0 is possible at any time, after a signal for example.
        """
        self._check_idle()
        try:
            self._enter()
            wanted = FOREVER if timeout is None else clamped(timeout)
            if not wanted:
                return self._spin(0, once=True)
            try:
                slice_us = self._arm()
                if slice_us > 0:
                    wanted = min(wanted, slice_us)
                return self._spin(wanted, once=True)
            finally:
                self._disarm()
        finally:
            self._running = False
            self._stopping = False

    def stop(self) -> None:
        """Makes :meth:`run` return when the handlers of this turn are done.

        Before ``run`` or ``run_once`` it is remembered: the next one takes one turn without
        waiting. :meth:`drain` does not heed it.
        """
        self._check()
        self._stopping = True

    def drain(self, timeout: float = 5.0) -> int:
        """Ends in good order: stops listening, and runs until every connection is closed.

        What was written is sent; connections that take longer than ``timeout`` seconds are
        aborted. Returns how many those were.
        """
        self._check_idle()
        if clamped(timeout) == FOREVER:
            timeout = math.inf
        for listener in list(self._listeners.values()):
            listener.close()
        for transport in list(self._transports.values()):
            transport.close()
            transport._bury_if_gone()
        self._stopping = False
        end = self.time() + timeout
        while self._transports and self.time() < end:
            self.run_once(end - self.time())
        late = list(self._transports.values())
        for transport in late:
            transport.abort()
        end = self.time() + 1.0
        while self._transports and self.time() < end:
            self.run_once(end - self.time())
        return len(late)

    def close(self) -> None:
        """Closes everything: each connection gets ``connection_lost``, and no callback runs again.

        What was written is sent as far as the kernel takes it at once; :meth:`drain` waits for the
        rest. A second call does nothing.
        """
        if self._closed:
            return
        self._check_idle()
        try:
            self._enter()
            for listener in list(self._listeners.values()):
                listener.close()
            for transport in list(self._transports.values()):
                transport.close()
            for timer in list(self._timers.values()):
                timer.cancel()
            self._spin(0, once=True)
            for transport in list(self._transports.values()):
                transport._peer_text()
            self._release()
            while self._transports:
                self._transports.popitem()[1]._lost(None)
            self._ready.clear()
        finally:
            self._running = False

    def is_running(self) -> bool:
        """Whether :meth:`run` is on the stack."""
        return self._running

    def is_closed(self) -> bool:
        """Whether the loop was closed."""
        return self._closed

    # Exceptions of handlers

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Sets who is told of exceptions: ``handler(loop, context)``; ``None`` is the default."""
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Who is told of exceptions, ``None`` for the default."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Logs the message, the objects concerned and the traceback, to the logger ``echoloop``."""
        lines = [context.get("message") or "Unhandled exception in event loop"]
        skipped = ("message", "exception")
        lines += [f"{key}: {context[key]!r}" for key in sorted(context) if key not in skipped]
        logger.error("\n".join(lines), exc_info=context.get("exception"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tells the exception handler of ``context``: ``message`` and, where there is one,
        ``exception``, ``protocol``, ``transport``, ``handle``.
        """
        handler = self._exception_handler
        try:
            if handler is None:
                self.default_exception_handler(context)
            else:
                handler(self, context)
        except Exception as exc:
            logger.error("Exception in the exception handler, for %r", context, exc_info=exc)

    # Life

    def __enter__(self) -> Loop:
        """Closes the loop at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the loop."""
        self.close()

    def __del__(self, _warn: Callable[..., object] = warnings.warn) -> None:
        """Frees a loop that nobody closed, with a warning; any thread may do that."""
        self._abandon(_warn)

    def __repr__(self) -> str:
        """Says how much there is to do."""
        state = "closed" if self._closed else "running" if self._running else "open"
        return f"<Loop {state}, {len(self._transports)} connections>"

    # Private

    def _check(self) -> None:
        if self._closed:
            raise ClosedHandleError("the loop is closed")
        if self._thread != threading.get_ident():
            raise WrongThreadError("the loop belongs to another thread; use call_soon_threadsafe")

    def _abandon(self, _warn: Callable[..., object] = warnings.warn) -> None:
        """Frees the loop, if nobody closed it, with a warning and without a word to protocols."""
        if self._closed:
            return
        try:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
        finally:
            self._release()

    def _check_idle(self) -> None:
        self._check()
        if self._running:
            raise ReentryError("the loop is running; stop() it first")

    def _enter(self) -> None:
        """Begins to run, with what an exception left of the last batch; the caller takes care that
        `_running` ends whatever comes.
        """
        self._running = True
        if _orphans:
            _free_orphans()
        self._finish_batch()

    def _arm(self) -> int:
        """Listens to signals; how long one wait may last, in microseconds, negative for ever."""
        if threading.current_thread() is not threading.main_thread():
            return -1
        if self._waker is None:
            self._waker = SignalWaker(functools.partial(_remote_wake, self._remote))
        return -1 if self._waker.arm() else int(SLICE * 1e6)

    def _disarm(self) -> None:
        if self._waker is not None:
            self._waker.disarm()

    def _release(self) -> None:
        """Gives back what is not Python's."""
        self._closed = True
        if self._waker is not None:
            self._waker.close()
        _free(self._handle)
        _remote_free(self._remote)
        if self._thread != threading.get_ident():
            _orphans.append((self._thread, self._handle))

    def _spin(self, wait_us: int, once: bool = False) -> int:
        """Waits for a batch, handles it and all callbacks that were due before, and so on until the
        loop is to stop. Returns the size of the last batch.
        """
        at_once, waiting = (self._poll_arguments(0),), (self._poll_arguments(wait_us),)
        brought, views, unpack = self._brought, self._views, EVENT.iter_unpack
        while True:
            now = self._stopping or self._ready
            # As `brought.append(_poll(...))`, but in one step: a signal handler that raises when
            # the wait is over would otherwise lose the batch.
            brought.extend(itertools.starmap(_poll, at_once if now else waiting))
            count = brought[-1]
            if count > 0:
                self._events = unpack(views[count])
                brought.clear()
                self._dispatch()
            else:
                brought.clear()
                if count < 0:
                    raise error_of(count)
            if self._ready:
                self._run_ready()
            if once or self._stopping:
                return count

    def _poll_arguments(self, wait_us: int) -> tuple[object, ...]:
        return (
            ctypes.c_void_p.from_param(self._handle),
            ctypes.c_void_p.from_param(self._address),
            ctypes.c_size_t.from_param(_CAPACITY),
            ctypes.c_int64.from_param(wait_us),
        )

    def _finish_batch(self) -> None:
        """Handles what an exception left of the last batch."""
        self._dispatch()
        if self._brought:
            self._events = EVENT.iter_unpack(self._views[max(0, self._brought[-1])])
            self._brought.clear()
            self._dispatch()

    def _dispatch(self) -> None:
        """Handles what is left of the batch. The way of a message is the first branch."""
        events, transports, memory = self._events, self._transports, MEMORY
        transport: Transport | None = None
        kind = conn = 0
        while True:
            try:
                for kind, status, conn, _user, data, size, source in events:
                    if kind == _DATA:
                        transport = transports[conn]
                        transport._receive(memory[data : data + size])
                    else:
                        transport = None
                        self._handle_other(kind, status, conn, source)
                return
            except Exception as exc:
                if kind != _DATA:
                    self._failed(None, "the loop", exc)
                elif transport is None or transport._handle != conn:
                    # The table had no such connection; `transport` is still the one before.
                    abort_connection(conn)
                else:
                    self._failed(transport, "data_received", exc)

    def _handle_other(self, kind: int, status: int, conn: int, source: int) -> None:
        if kind == Event.OPENED:
            self._accept(conn, source)
        elif kind in _OF_CONNECTION:
            transport = self._transports.get(conn)
            if transport is not None:
                self._handle_connection(transport, kind, status)
            elif kind != Event.CLOSED:
                abort_connection(conn)
        elif kind == Event.TIMER:
            timer = self._timers.pop(source, None)
            if timer is not None:
                self._call(timer)
        elif kind == Event.STOP:
            self._stopping = True
        elif kind in (Event.ACCEPT_PAUSED, Event.ACCEPT_RESUMED):
            self._accept_error = error_of(status) if kind == Event.ACCEPT_PAUSED else None
            self._accept_changes.happened(self)
        elif kind == Event.ERROR:
            logger.error("the loop could not do something: %s", error_of(status))

    def _handle_connection(self, transport: Transport, kind: int, status: int) -> None:
        if kind == Event.CONNECTED:
            transport._opened()
        elif kind == Event.CLOSED:
            del self._transports[transport._handle]
            transport._lost(error_of_close(status, transport._peer_text()))
        elif kind == Event.END_OF_STREAM:
            transport._eof()
        elif kind == Event.CONGESTED:
            transport._pressure("pause_writing")
        elif kind == Event.DRAINED:
            transport._pressure("resume_writing")

    def _bury(self, transport: Transport) -> None:
        """Ends a connection that the library has no more, and whose end did not reach us: an
        interrupt may cost one event.
        """
        if self._transports.get(transport._handle) is transport:
            del self._transports[transport._handle]
            transport._lost(None)

    def _accept(self, conn: int, source: int) -> None:
        listener = self._listeners.get(source)
        limits = listener._write_limits if listener else (LOW_MARK, HIGH_MARK)
        transport = self._transports[conn] = Transport(self, conn, _STRANGER, limits)
        if listener is None:
            transport.abort()
            return
        try:
            transport.set_protocol(listener.factory())
        except Exception as exc:
            self._failed(transport, "the protocol factory", exc)
        else:
            transport._opened()

    def _run_ready(self) -> None:
        """Runs the callbacks that are due now; those they add wait for the next turn."""
        for _ in range(len(self._ready)):
            self._call(self._ready.popleft())

    def _call(self, handle: Handle) -> None:
        try:
            handle.run()
        except Exception as exc:
            context = {"message": f"exception in callback {handle!r}", "exception": exc}
            self.call_exception_handler({**context, "handle": handle})

    def _failed(self, transport: Transport | None, where: str, exc: Exception) -> None:
        """Reports an exception of a handler, once, and ends the connection it concerns."""
        context: dict[str, Any] = {"message": f"exception in {where}", "exception": exc}
        if transport is not None:
            context.update(transport=transport, protocol=transport.get_protocol())
            transport._fail(exc)
        self.call_exception_handler(context)


#: Loops that were collected on another thread than their own, with the thread that must free them:
#: the library does it when its owner calls next, and nobody else has the handle.
_orphans: list[tuple[int, int]] = []


def _free_orphans() -> None:
    for orphan in [orphan for orphan in _orphans if orphan[0] == threading.get_ident()]:
        _orphans.remove(orphan)
        _now_us(orphan[1])


def _tell_accepting(loop: Loop, changes: int) -> None:
    error = loop._accept_error
    logger.warning(
        "accepting %s%s",
        "goes on" if error is None else f"is paused: {error}",
        f" (after {changes} changes)" if changes > 1 else "",
    )


#: The protocol of a connection that has none: all methods do nothing.
_STRANGER = Protocol()
