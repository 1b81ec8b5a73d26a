"""A callback that is due to run soon, as in asyncio."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any


class Handle:
    """What ``call_soon`` returns; ``cancel()`` it to keep the callback from running."""

    __slots__ = ("_args", "_callback", "_context")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None = None,
    ) -> None:
        """Keeps a callback, its arguments and the context variables to run it in."""
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context if context is not None else contextvars.copy_context()

    def cancel(self) -> None:
        """Keeps the callback from running; a second call does nothing."""
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._callback is None

    def run(self) -> None:
        """Runs the callback unless it was cancelled; the loop calls this."""
        if self._callback is not None:
            self._context.run(self._callback, *self._args)

    def __repr__(self) -> str:
        """Says what will be called."""
        what = "cancelled" if self._callback is None else repr(self._callback)
        return f"<{type(self).__name__} {what}>"
