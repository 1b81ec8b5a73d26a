"""What may happen often is told at most once a second."""

from __future__ import annotations

import resource
import socket
import time

from vocabulary import PATIENCE, LoopCase

from echoloop import Loop
from echoloop._seldom import INTERVAL, Seldom


class Often(LoopCase):
    def test_what_happens_often_is_told_once_and_once_more_with_the_count(self) -> None:
        told: list[tuple[float, int]] = []

        def tell(loop: Loop, count: int) -> None:
            told.append((time.monotonic(), count))

        seldom = Seldom(tell)
        for _ in range(100):
            seldom.happened(self.loop)
        self.until(lambda: len(told) == 2)
        self.assertEqual([count for _, count in told], [1, 99])
        self.assertGreaterEqual(told[1][0] - told[0][0], INTERVAL * 0.99)
        self.until(lambda: not self.loop._timers)
        self.assertEqual(len(told), 2)

    def test_a_pause_in_accepting_is_told_once_and_so_is_its_end(self) -> None:
        listener = self.listen()
        self.loop.run_once(0.001)  # The descriptors of the loop itself are open now.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        peer = socket.socket()
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE)
        with self.assertLogs("echoloop") as logs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, hard))
            peer.connect(listener.address)
            self.until(lambda: logs.output)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.until(lambda: self.served and len(logs.output) == 2)
        self.assertIn("accepting is paused: [Errno 24]", logs.output[0])
        self.assertIn("accepting goes on", logs.output[1])
