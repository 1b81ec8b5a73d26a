"""Ends the loop's wait when a signal arrives, so that Ctrl-C works at once on an idle loop.

A wait that a signal interrupts returns by itself (EINTR). Two gaps are left: a signal that arrives
after the interpreter last looked and before the wait begins, and one that the kernel delivers to
another thread. Both are closed without a timeout: ``signal.set_wakeup_fd`` makes the interpreter's
C handler write a byte to a socket, whichever thread it runs on, and a sleeping thread at the other
end answers each byte by waking the loop, which is remembered until the next wait.

The rule: only the main thread runs signal handlers, so only a loop there needs this. A wakeup
descriptor that the program has set already stays as it is; then the wait is cut into slices.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

#: How long one wait may last, in seconds, where the wakeup descriptor belongs to somebody else.
SLICE = 0.05


class SignalWaker:
    """Wakes a loop when a signal arrives, while it is armed."""

    def __init__(self, wake: Callable[[], object]) -> None:
        """Starts the thread; it holds on to ``wake`` and to nothing else, least of all the loop."""
        # Whether the descriptor is ours, or may be: an interrupt can come at any step.
        self._armed = False
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        thread = threading.Thread(
            target=_answer, args=(reader, wake), name="echoloop-signals", daemon=True
        )
        thread.start()

    def arm(self) -> bool:
        """Begins to listen to signals; false when somebody else does already."""
        self._armed = True
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if before in (-1, self._writer.fileno()):
            return True
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        self._armed = False
        return False

    def disarm(self) -> None:
        """Stops listening to signals, unless somebody else has taken over."""
        if not self._armed:
            return
        before = signal.set_wakeup_fd(-1)
        if before not in (-1, self._writer.fileno()):
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        self._armed = False

    def close(self) -> None:
        """Ends the thread. The number of the descriptor may soon be another's, so it is disarmed
        first; only the main thread can, and only there does a loop close that ever was armed.
        """
        if threading.current_thread() is threading.main_thread():
            self.disarm()
        self._writer.close()


def _answer(reader: socket.socket, wake: Callable[[], object]) -> None:
    with reader:
        while reader.recv(256):
            wake()
