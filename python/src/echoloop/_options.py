"""Options of connections, from Python's units to the library's.

The rule: Python says ``None`` for none and seconds for times; the library says 0 for its default,
negative for none, and microseconds.
"""

from __future__ import annotations

import math

from ._ffi import ConnOptions

HIGH_MARK = 256 << 10
LOW_MARK = 64 << 10


def write_limits(high: int, low: int | None) -> tuple[int, int]:
    """The low and the high mark; the low one follows the high one unless it is given.

    >>> write_limits(1000, None), write_limits(1 << 20, None)
    ((250, 1000), (65536, 1048576))
    """
    if low is None:
        low = min(LOW_MARK, high // 4)
    if not 0 <= low <= high or high < 1:
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
    if send_cap < 1:
        raise ValueError("send_cap must be above 0")
    low, high = limits
    return ConnOptions(
        # The protocol decides at the end of stream, so the library must not.
        half_open=True,
        no_delay_off=not no_delay,
        no_auto_pause=not auto_pause,
        high_mark=high,
        low_mark=max(1, low),
        send_cap=send_cap,
        idle_timeout_us=0 if idle_timeout is None else microseconds(idle_timeout),
        write_stall_timeout_us=(
            0 if write_stall_timeout is None else microseconds(write_stall_timeout)
        ),
        close_timeout_us=microseconds(close_timeout),
    )


def microseconds(seconds: float) -> int:
    """At least one: to the library 0 means the default.

    >>> microseconds(1.5), microseconds(1e-9)
    (1500000, 1)
    """
    if not 0 < seconds < 1e12:
        raise ValueError(f"a timeout of {seconds} seconds; it must be above 0, or None")
    return math.ceil(seconds * 1e6)
