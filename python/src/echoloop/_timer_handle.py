"""A callback that is due at a time, as in asyncio.

The rule: the timer itself is the library's, so it is monotonic and never early, and thousands of
them cost the loop nothing until they are due.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from ._errors import error_of
from ._ffi import Status, held
from ._handle import Handle

_timer_cancel = held("echoloop_timer_cancel")


class TimerHandle(Handle):
    """What ``call_later`` and ``call_at`` return."""

    __slots__ = ("_forget", "_timer", "_when")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        """Keeps the time and the callback; ``start`` tells it about its timer."""
        super().__init__(callback, args, context)
        self._when = when
        self._timer = 0
        self._forget: Callable[..., object] | None = None

    def start(self, timer: int, forget: Callable[..., object]) -> None:
        """Called by the loop: the library's timer, and how to drop it from the loop's table."""
        self._timer = timer
        self._forget = forget

    def when(self) -> float:
        """The time at which it is due, on the clock of ``Loop.time()``."""
        return self._when

    def cancel(self) -> None:
        """Removes the timer; one that has run already is left alone.

        Raises :class:`WrongThreadError` on another thread than the loop's.
        """
        if self._forget is not None and not self.cancelled():
            status = _timer_cancel(self._timer)
            if status == Status.EWRONGTHREAD:
                raise error_of(status)
            self._forget(self._timer, None)
        super().cancel()
