"""Says a thing that may happen often at most once a second, with how often it happened.

The rule: the first time is told at once; what happens within the next second is told together when
that second is over. So a flood costs one line a second, and no end of it goes untold.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._loop import Loop

#: In seconds.
INTERVAL = 1.0


class Seldom:
    """Counts what happens, and calls ``tell(loop, count)`` at most once in :data:`INTERVAL`."""

    __slots__ = ("_count", "_resting", "_tell")

    def __init__(self, tell: Callable[[Loop, int], object]) -> None:
        """Knows how to tell; it holds on to no loop."""
        self._tell = tell
        self._count = 0
        self._resting = False

    def happened(self, loop: Loop) -> None:
        """It happened once more."""
        self._count += 1
        if not self._resting:
            self._resting = True
            loop.call_later(INTERVAL, functools.partial(self._rested, loop))
            self.flush(loop)

    def flush(self, loop: Loop) -> None:
        """Tells now what was not told yet."""
        count, self._count = self._count, 0
        if count:
            self._tell(loop, count)

    def _rested(self, loop: Loop) -> None:
        self._resting = False
        if self._count:
            self._count -= 1
            self.happened(loop)
