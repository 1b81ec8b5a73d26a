"""What ends a wait and what does not: stop, interrupts, times of every size."""

from __future__ import annotations

import math
import time
from typing import Any

from vocabulary import Echo, LoopCase, Recorder

import echoloop


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


class Numbers(LoopCase):
    def later(self) -> None:
        """Something that ends a wait, a moment from now."""
        self.loop.call_later(0.05, self.loop.stop)

    def test_an_infinite_or_a_huge_delay_never_comes(self) -> None:
        """Regression: infinity was an OverflowError, and 1e13 seconds fired at once."""
        fired: list[float] = []
        for delay in (math.inf, 1e12, 9.3e12, 1.9e13, 1e18, 1e300, 10**400):
            handle = self.loop.call_later(delay, fired.append, delay)
            self.assertEqual(handle.when(), math.inf)
        self.loop.call_at(math.inf, fired.append, math.inf)
        self.later()
        self.loop.run()
        self.assertEqual(fired, [])

    def test_a_delay_just_below_never_does_not_come_either(self) -> None:
        fired: list[float] = []
        self.loop.call_later(9.99e11, fired.append, 1)
        self.later()
        self.loop.run()
        self.assertEqual(fired, [])

    def test_a_negative_delay_is_none(self) -> None:
        for delay in (-1, -1e300, -math.inf):
            self.loop.call_later(delay, self.loop.stop)
            self.loop.run()

    def test_an_infinite_wait_waits(self) -> None:
        for timeout in (math.inf, 1.9e13, 1e12, 9.99e11, None):
            self.later()
            start = time.monotonic()
            self.assertEqual(self.loop.run_once(timeout), 1)
            self.assertGreaterEqual(time.monotonic() - start, 0.05)

    def test_an_infinite_drain_ends_with_the_last_connection(self) -> None:
        for timeout in (math.inf, 1e13, 10**400):
            listener = self.listen()
            peer = self.peer(listener)
            self.until(lambda: self.served and self.served[-1].transport)
            self.loop.call_later(0.05, peer.close)
            start = time.monotonic()
            self.assertEqual(self.loop.drain(timeout), 0)
            self.assertGreaterEqual(time.monotonic() - start, 0.05)
            self.served.clear()

    def test_an_infinite_timeout_is_one_that_never_comes(self) -> None:
        for timeout in (math.inf, 1e13):
            listener = self.listen(
                idle_timeout=timeout, write_stall_timeout=timeout, close_timeout=timeout
            )
            protocol = Recorder()
            self.loop.connect(lambda p=protocol: p, listener.address, timeout=timeout)  # type: ignore[misc]
            self.until(lambda p=protocol: p.log)  # type: ignore[misc]
            self.assertEqual(protocol.log, ["made"])
            peer = self.peer(listener)
            peer.sendall(b"hello")
            self.assertEqual(self.receive(peer, 5), b"hello")

    def test_nan_is_no_time(self) -> None:
        nan = math.nan
        for act in (
            lambda: self.loop.call_later(nan, print),
            lambda: self.loop.call_at(nan, print),
            lambda: self.loop.run_once(nan),
            lambda: self.loop.drain(nan),
            lambda: self.loop.connect(Recorder, "127.0.0.1:1", timeout=nan),
            lambda: self.loop.listen("127.0.0.1:0", Recorder, idle_timeout=nan),
            lambda: self.loop.listen("127.0.0.1:0", Recorder, write_stall_timeout=nan),
            lambda: self.loop.listen("127.0.0.1:0", Recorder, close_timeout=nan),
        ):
            with self.assertRaises(ValueError):
                act()

    def test_a_timeout_is_above_0(self) -> None:
        for timeout in (0, -1, -math.inf):
            with self.assertRaises(ValueError):
                self.loop.connect(Recorder, "127.0.0.1:1", timeout=timeout)

    def test_sizes_and_the_backlog_are_positive_and_fit_the_library(self) -> None:
        """Regression: ctypes cut them to their last bits without a word."""
        wrong: list[dict[str, Any]] = [
            {name: size}
            for name in ("high_mark", "send_cap")
            for size in (0, -1, 1 << 63, (1 << 64) + 1)
        ]
        wrong += [{"low_mark": -1}, {"low_mark": 1 << 63}]
        wrong += [{"backlog": size} for size in (0, -3, 1 << 31, (1 << 32) + 1)]
        for options in wrong:
            with self.assertRaises(ValueError, msg=str(options)):
                self.loop.listen("127.0.0.1:0", Recorder, **options)
        for budget in (0, -1, 1 << 63):
            with self.assertRaises(ValueError):
                echoloop.Loop(memory_budget=budget)
        most = (1 << 63) - 1
        self.loop.listen("127.0.0.1:0", Recorder, high_mark=most, send_cap=most, backlog=1).close()
        echoloop.Loop(memory_budget=most).close()
