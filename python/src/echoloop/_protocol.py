"""The base class of protocols.

The rule: the names and their order are asyncio's (its documentation, "Transports and Protocols"),
so that a class written for one runs on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ._transport import Transport


class Protocol:
    """What happens on one connection; override what you need.

    The order is always: ``connection_made`` once, then any number of ``data_received``,
    ``pause_writing`` and ``resume_writing``, at most one ``eof_received``, and ``connection_lost``
    once, last. A connection that could not be made has only ``connection_lost``, with the reason.
    """

    __slots__ = ()

    def connection_made(self, transport: Transport) -> None:
        """The connection is open; keep the transport to write to it."""

    def data_received(self, data: bytes) -> None:
        """Bytes arrived, in the pieces in which TCP hands them out."""

    def eof_received(self) -> bool | None:
        """The peer has finished sending.

        Return true to keep the writing side open until ``transport.close()``; otherwise all that
        was written is sent, for as long as the peer goes on taking it, and the connection closes.
        """
        return None

    def pause_writing(self) -> None:
        """More than the high mark waits for a slow peer; better stop writing."""

    def resume_writing(self) -> None:
        """After ``pause_writing``: no more than the low mark waits."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended: ``None`` in good order or closed here, else the reason."""


if TYPE_CHECKING:
    #: Any class with these methods will do; asyncio's are named for the type checker.
    AnyProtocol = Union[Protocol, asyncio.BaseProtocol]
    ProtocolFactory = Callable[[], AnyProtocol]
