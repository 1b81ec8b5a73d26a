"""Frees the loops of a thread when the thread ends.

The rule: only its own thread can free a loop. So each thread that makes one keeps a :class:`Reaper`
in its thread-local storage, which the interpreter drops on the ending thread. The main thread needs
none: the process ends with it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._loop import Loop


class Reaper:
    """Knows the loops of one thread, and what to do with them at its end."""

    __slots__ = ("_free_orphans", "_loops", "_thread")

    def __init__(self, free_orphans: Callable[[], object]) -> None:
        """``free_orphans`` frees the loops of this thread that were collected on another."""
        self._thread = threading.get_ident()
        self._free_orphans = free_orphans
        self._loops: weakref.WeakSet[Loop] = weakref.WeakSet()

    def add(self, loop: Loop) -> None:
        """This loop ends with the thread, if not before."""
        self._loops.add(loop)

    def __del__(self) -> None:
        """The thread ends; unless it was cut off by the end of the process or by a fork."""
        if self._thread != threading.get_ident():
            return
        # All of them, also where a warning is an error.
        with contextlib.ExitStack() as stack:
            stack.callback(self._free_orphans)
            for loop in list(self._loops):
                stack.callback(loop._abandon)


class _Threads(threading.local):
    reaper: Reaper | None = None


_threads = _Threads()


def remember(loop: Loop, free_orphans: Callable[[], object]) -> None:
    """Frees the loop when this thread ends, if nobody closes it before."""
    if threading.get_ident() == threading.main_thread().ident:
        return
    if _threads.reaper is None:
        _threads.reaper = Reaper(free_orphans)
    _threads.reaper.add(loop)
