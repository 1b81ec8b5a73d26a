"""Numbers and options, from Python's units to the library's.

The rule: Python says ``None`` for none and seconds for times; the library says 0 for its default,
negative for none, and microseconds. What the library could not take is a ``ValueError`` here, but
infinity is a time as good as any.
"""

from __future__ import annotations

import ctypes
import math

from ._ffi import ConnOptions

#: In microseconds: for ever, to everything that takes a time. It is 31,688 years.
FOREVER = 10**18
HIGH_MARK = 256 << 10
LOW_MARK = 64 << 10


def write_limits(high: int, low: int | None) -> tuple[int, int]:
    """The low and the high mark; the low one follows the high one unless it is given.

    >>> write_limits(1000, None), write_limits(1 << 20, None)
    ((250, 1000), (65536, 1048576))
    """
    size_option("high_mark", high)
    if low is None:
        low = min(LOW_MARK, high // 4)
    if not 0 <= low <= high:
        raise ValueError(f"low_mark {low} and high_mark {high} are not 0 <= low <= high")
    return low, high


def conn_options(
    limits: tuple[int, int],
    *,
    idle_timeout: float | None,
    write_stall_timeout: float | None,
    close_timeout: float,
    send_cap: int,
    auto_pause: bool,
    no_delay: bool,
) -> ConnOptions:
    """The options that listeners and connects have in common."""
    low, high = limits
    return ConnOptions(
        ctypes.sizeof(ConnOptions),
        # The protocol decides at the end of stream, so the library must not.
        half_open=True,
        no_delay_off=not no_delay,
        no_auto_pause=not auto_pause,
        high_mark=high,
        low_mark=max(1, low),
        send_cap=size_option("send_cap", send_cap),
        idle_timeout_us=0 if idle_timeout is None else microseconds(idle_timeout),
        write_stall_timeout_us=(
            0 if write_stall_timeout is None else microseconds(write_stall_timeout)
        ),
        close_timeout_us=microseconds(close_timeout),
    )


def microseconds(seconds: float) -> int:
    """A timeout: at least one microsecond, since to the library 0 means the default.

    >>> microseconds(1.5), microseconds(1e-9)
    (1500000, 1)
    """
    if not seconds > 0:
        raise ValueError(f"a timeout of {seconds} seconds; it must be above 0, or None")
    return clamped(seconds)


def clamped(seconds: float) -> int:
    """Any time as microseconds, rounded up, from 0 to :data:`FOREVER`.

    >>> clamped(1.5), clamped(-1), clamped(1e-9), clamped(float("inf")) == FOREVER
    (1500000, 0, 1, True)
    """
    if seconds != seconds:
        raise ValueError("a time of nan seconds; it must be a number")
    if seconds >= FOREVER // 10**6:
        return FOREVER
    return math.ceil(seconds * 1e6) if seconds > 0 else 0


def size_option(name: str, size: int) -> int:
    """A number of bytes, if it is one.

    >>> size_option("send_cap", 1)
    1
    """
    return in_range(name, size, 1, (1 << 63) - 1)


def in_range(name: str, value: int, least: int, most: int) -> int:
    """The value, unless it is outside of these bounds.

    >>> in_range("backlog", 128, 1, 4096)
    128
    """
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, not between {least} and {most}")
    return value
