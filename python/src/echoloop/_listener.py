"""A listening socket.

The rule: a listener makes connections until it is closed; those it made live on without it.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._address import address_tuple
from ._errors import error_of
from ._ffi import Status, held

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._protocol import ProtocolFactory

_listener_close = held("echoloop_listener_close")


class Listener:
    """What :meth:`Loop.listen` returns: where it listens, and how to stop that."""

    __slots__ = ("_forget", "_handle", "_text", "_write_limits", "factory")

    def __init__(
        self,
        handle: int,
        text: str,
        factory: ProtocolFactory,
        write_limits: tuple[int, int],
        forget: Callable[..., object],
    ) -> None:
        """Made by the loop."""
        self._handle = handle
        self._text = text
        self._write_limits = write_limits
        self._forget = forget
        #: Called for each connection, to make its protocol.
        self.factory = factory

    @property
    def address(self) -> tuple[Any, ...]:
        """Where it listens, with the port that the system chose: ``("127.0.0.1", 40123)``."""
        return address_tuple(self._text)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return not self._handle

    def close(self) -> None:
        """Stops listening; a second call does nothing."""
        handle, self._handle = self._handle, 0
        if not handle:
            return
        status = _listener_close(handle)
        if status == Status.EWRONGTHREAD:
            self._handle = handle
            raise error_of(status)
        self._forget(handle, None)

    def __enter__(self) -> Listener:
        """Closes at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def __str__(self) -> str:
        """The address as text, ``127.0.0.1:40123`` or ``[::1]:40123``."""
        return self._text

    def __repr__(self) -> str:
        """Says where, and whether it still listens."""
        return f"<Listener {self._text}{' closed' if self.is_closed else ''}>"
