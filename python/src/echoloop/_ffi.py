"""The border to libecholoop: its constants, layouts and prototypes, and the loaded library.

The rule: everything that is said in ``include/echoloop.h`` and needed here is said once, in this
file, and a test compares the two. The prototypes are the header's own C text, from which the
ctypes signatures are made, so there is no second spelling of them.

Functions that never block are bound through :class:`ctypes.PyDLL` (``held``: the GIL stays with the
caller, which is cheaper and never waits for another thread); those that wait or copy a lot through
:class:`ctypes.CDLL` (``released``).
"""

from __future__ import annotations

import ctypes
import enum
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROTOTYPES = """
const char *echoloop_version(void);
const char *echoloop_strerror(int status);
const char *echoloop_errname(int status);
const char *echoloop_last_error(void);
const char *echoloop_close_reason(int reason);
int64_t echoloop_live_handles(void);

echoloop *echoloop_new(const echoloop_options *options);
int echoloop_free(echoloop *loop);
int64_t echoloop_now_us(echoloop *loop);
int echoloop_poll_batch(echoloop *loop, echoloop_event *events, size_t capacity,
                        int64_t timeout_us);
int echoloop_last_status(void);

int echoloop_listen(echoloop *loop, const char *addr, const echoloop_listen_options *options,
                    echoloop_listener **out);
int echoloop_listener_addr(echoloop_listener *listener, char *buf, size_t capacity);
int echoloop_listener_close(echoloop_listener *listener);
int echoloop_connect(echoloop *loop, const char *addr, const echoloop_connect_options *options,
                     echoloop_conn **out);

int echoloop_conn_send(echoloop_conn *conn, const void *data, size_t len);
int echoloop_conn_pause(echoloop_conn *conn);
int echoloop_conn_resume(echoloop_conn *conn);
int echoloop_conn_shutdown_write(echoloop_conn *conn);
int echoloop_conn_close(echoloop_conn *conn);
int echoloop_conn_abort(echoloop_conn *conn);
int64_t echoloop_conn_queued(echoloop_conn *conn);
int echoloop_conn_peer_addr(echoloop_conn *conn, char *buf, size_t capacity);
int echoloop_conn_local_addr(echoloop_conn *conn, char *buf, size_t capacity);
int echoloop_conn_set_auto_pause(echoloop_conn *conn, int on);
int echoloop_conn_set_idle_timeout(echoloop_conn *conn, int64_t us);
int echoloop_conn_set_write_stall_timeout(echoloop_conn *conn, int64_t us);

int echoloop_timer_new(echoloop *loop, int64_t delay_us, int64_t period_us, void *user,
                       echoloop_timer **out);
int echoloop_timer_cancel(echoloop_timer *timer);

int echoloop_remote_new(echoloop *loop, echoloop_remote **out);
int echoloop_remote_wake(echoloop_remote *remote);
int echoloop_remote_free(echoloop_remote *remote);
"""


class Status(enum.IntEnum):
    """What a function answers on failure when it is not a negative ``errno``."""

    EBADHANDLE = -10001
    EQUEUEFULL = -10002
    ECLOSING = -10003
    ECLOSED = -10004
    ETOOMANY = -10005
    ENOMEM = -10006
    EINVAL = -10007
    EWRONGTHREAD = -10008
    EREENTRY = -10009
    EPANIC = -10010
    ENULL = -10011
    EFORKED = -10012


class Event(enum.IntEnum):
    """The ``type`` of an event."""

    OPENED = 1
    CONNECTED = 2
    DATA = 3
    CONGESTED = 4
    DRAINED = 5
    END_OF_STREAM = 6
    CLOSED = 7
    TIMER = 8
    POSTED = 9
    STOP = 10
    ACCEPT_PAUSED = 11
    ACCEPT_RESUMED = 12
    TICK = 13
    REFUSED = 14
    ERROR = 15
    ADOPTED = 16
    CONNECT_PAUSED = 17
    WATCH = 18
    WATCH_DEAD = 19
    DATAGRAMS = 20
    UDP_ERROR = 21
    UDP_DRAINED = 22
    RESOLVED = 23
    SIGNAL = 24
    OVER_BUDGET = 25
    UNDER_BUDGET = 26


class Close(enum.IntEnum):
    """Why a connection ended: the ``status`` of a ``CLOSED`` event where it is not ``-errno``."""

    PEER_FINISHED = 1
    RESET = 2
    CLOSED_HERE = 3
    ABORTED_HERE = 4
    INPUT_TOO_LARGE = 5
    SHUT_DOWN = 6
    TIMED_OUT_CONNECT = 7
    TIMED_OUT_IDLE = 8
    TIMED_OUT_WRITE_STALL = 9
    TIMED_OUT_CLOSE = 10
    TIMED_OUT_FIRST_BYTE = 11
    TIMED_OUT_LIFETIME = 12
    GIVEN_AWAY = 13


ADDR_MAX = 448

#: ``echoloop_event``: type, status, conn, user, data, len, source.
EVENT_FIELDS = (
    ("type", "uint32_t", "I"),
    ("status", "int32_t", "i"),
    ("conn", "echoloop_conn *", "Q"),
    ("user", "void *", "Q"),
    ("data", "const uint8_t *", "Q"),
    ("len", "size_t", "Q"),
    ("source", "union", "Q"),
)
EVENT = struct.Struct("=" + "".join(code for _, _, code in EVENT_FIELDS))

#: A window over the whole address space. ``MEMORY[a:b]`` copies exactly these bytes into a
#: ``bytes`` object, in one step inside ctypes: 55 ns for 64 bytes, where ``string_at`` takes 215.
MEMORY: Any = (ctypes.c_char * sys.maxsize).from_address(0)


class Options(ctypes.Structure):
    """``echoloop_options``."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("memory_budget", ctypes.c_int64),
        ("events_per_turn", ctypes.c_int64),
        ("post_capacity", ctypes.c_int64),
        ("slow_handler_us", ctypes.c_int64),
        ("resolve", ctypes.c_void_p),
        ("resolve_user", ctypes.c_void_p),
    )


class ConnOptions(ctypes.Structure):
    """``echoloop_conn_options``."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("no_delay_off", ctypes.c_int),
        ("half_open", ctypes.c_int),
        ("no_auto_pause", ctypes.c_int),
        ("tos", ctypes.c_int),
        ("high_mark", ctypes.c_int64),
        ("low_mark", ctypes.c_int64),
        ("send_cap", ctypes.c_int64),
        ("max_unread", ctypes.c_int64),
        ("idle_timeout_us", ctypes.c_int64),
        ("write_stall_timeout_us", ctypes.c_int64),
        ("close_timeout_us", ctypes.c_int64),
        ("first_byte_timeout_us", ctypes.c_int64),
        ("lifetime_us", ctypes.c_int64),
        ("linger_us", ctypes.c_int64),
        ("receive_rate", ctypes.c_int64),
        ("receive_burst", ctypes.c_int64),
        ("pacing_rate", ctypes.c_int64),
        ("keepalive_us", ctypes.c_int64),
        ("keepalive_interval_us", ctypes.c_int64),
        ("keepalive_count", ctypes.c_int64),
        ("send_buffer", ctypes.c_int64),
        ("recv_buffer", ctypes.c_int64),
        ("notsent_lowat", ctypes.c_int64),
    )


class ListenOptions(ctypes.Structure):
    """``echoloop_listen_options``."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("backlog", ctypes.c_int),
        ("no_reuse_address", ctypes.c_int),
        ("reuse_port", ctypes.c_int),
        ("dual_stack", ctypes.c_int),
        ("unix_mode", ctypes.c_int),
        ("fast_open", ctypes.c_int),
        ("defer_accept_us", ctypes.c_int64),
        ("device", ctypes.c_char_p),
        ("conn", ctypes.POINTER(ConnOptions)),
    )


class ConnectOptions(ctypes.Structure):
    """``echoloop_connect_options``."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("timeout_us", ctypes.c_int64),
        ("local", ctypes.c_char_p),
        ("device", ctypes.c_char_p),
        ("attempt_delay_us", ctypes.c_int64),
        ("conn", ctypes.POINTER(ConnOptions)),
    )


STRUCTS: dict[str, type[ctypes.Structure]] = {
    "echoloop_options": Options,
    "echoloop_conn_options": ConnOptions,
    "echoloop_listen_options": ListenOptions,
    "echoloop_connect_options": ConnectOptions,
}

SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "void *": ctypes.c_void_p,
    # Takes bytes without a copy, and also byref() of other memory.
    "const void *": ctypes.c_char_p,
    "const char *": ctypes.c_char_p,
    "char *": ctypes.c_char_p,
    "echoloop_resolve_fn": ctypes.c_void_p,
    # The array is one of bytes; its address is given.
    "echoloop_event *": ctypes.c_void_p,
}


def declarations(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Splits C prototypes into name, type of the result, types of the arguments.

    >>> list(declarations("int echoloop_add(echoloop *loop, const char *name);"))
    [('echoloop_add', 'int', ['echoloop *', 'const char *'])]
    """
    for result, name, arguments in re.findall(
        r"([\w ]+?[ *]+)(echoloop_\w+)\(([^()]*)\)\s*;", text
    ):
        types = [spelled(argument) for argument in arguments.split(",")]
        yield name, spelled(result), [] if types == ["void"] else types


def spelled(c_type: str) -> str:
    """A C type in one spelling, without the ``struct`` and the name of a parameter.

    >>> spelled("struct echoloop_conn **out"), spelled(" const void*  data"), spelled("int status")
    ('echoloop_conn **', 'const void *', 'int')
    """
    words = re.findall(r"\w+|\*", c_type)
    words = [word for word in words if word != "struct"]
    stars = words.count("*")
    if stars and words[-1] != "*":
        words.pop()
    names = [word for word in words if word != "*"]
    if not stars and len(names) - ("const" in names) > 1:
        names.pop()
    return " ".join(names) + (" " + "*" * stars if stars else "")


def ctypes_of(c_type: str) -> Any:
    """The ctypes type that stands for a C type.

    Handles are opaque pointers: an integer in Python.

    >>> ctypes_of("int64_t").__name__, ctypes_of("echoloop_conn *").__name__
    ('c_long', 'c_void_p')
    """
    if c_type in SCALARS:
        return SCALARS[c_type]
    name, stars = c_type.rsplit(" ", 1)
    if stars == "**":
        return ctypes.POINTER(ctypes.c_void_p)
    layout = STRUCTS.get(name[len("const ") :])
    return ctypes.POINTER(layout) if layout else ctypes.c_void_p


def _load() -> tuple[ctypes.PyDLL, ctypes.CDLL]:
    folder = Path(__file__).parent
    for name in ("libecholoop.so", "libecholoop.dylib"):
        path = folder / name
        if path.exists():
            return ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
    raise ImportError(f"no libecholoop in {folder}: install the package with pip")


_SIGNATURES = {name: (result, types) for name, result, types in declarations(PROTOTYPES)}
_held, _released = _load()


def _bind(library: ctypes.CDLL, name: str) -> Callable[..., Any]:
    function: Any = library[name]
    result, types = _SIGNATURES[name]
    function.restype = ctypes_of(result)
    function.argtypes = [ctypes_of(c_type) for c_type in types]
    return function  # type: ignore[no-any-return]


def held(name: str) -> Callable[..., Any]:
    """A function that never blocks; the caller keeps the GIL."""
    return _bind(_held, name)


def released(name: str) -> Callable[..., Any]:
    """A function that may take its time; other threads run meanwhile."""
    return _bind(_released, name)


def unconverted(name: str, *, held: bool = True) -> Callable[..., Any]:
    """As the other two, but the caller gives each argument as ctypes wants it in the end: what
    ``from_param`` of the type of the prototype returns, or ``bytes`` for a pointer to them.
    """
    function = _bind(_held if held else _released, name)
    del function.argtypes  # type: ignore[attr-defined]
    return function
