"""What ends a wait and what does not: stop, interrupts, times of every size."""

from __future__ import annotations

import time

from vocabulary import Echo, LoopCase, Recorder


class Stop(LoopCase):
    def test_a_stop_during_run_once_does_not_make_later_turns_spin(self) -> None:
        """Regression: only `run` forgot a stop, so each later turn returned without waiting."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_once(5)
        start = time.monotonic()
        self.loop.run_once(0.1)
        self.assertGreaterEqual(time.monotonic() - start, 0.09)

    def test_a_stop_before_or_during_a_drain_does_not_make_it_spin(self) -> None:
        """Regression: the drain took a whole processor until its deadline."""

        class Stopping(Recorder):
            def connection_lost(protocol, exc: Exception | None) -> None:
                super().connection_lost(exc)
                self.loop.stop()

        listener = self.listen(Stopping)
        first, held = self.peer(listener), self.peer(listener)
        self.until(lambda: len(self.served) == 2)
        first.close()
        self.loop.stop()
        spent = time.thread_time()
        self.assertEqual(self.loop.drain(0.5), 1)
        self.assertLess(time.thread_time() - spent, 0.25)
        held.close()

    def test_a_drain_leaves_no_stop_behind(self) -> None:
        class Stopping(Echo):
            def connection_lost(protocol, exc: Exception | None) -> None:
                super().connection_lost(exc)
                self.loop.stop()

        self.peer(self.listen(Stopping))
        self.until(lambda: self.served)
        self.loop.drain(0.1)
        ran: list[bool] = []
        self.loop.call_later(0.05, ran.append, True)
        self.loop.call_later(0.05, self.loop.stop)
        self.loop.run()
        self.assertEqual(ran, [True])
