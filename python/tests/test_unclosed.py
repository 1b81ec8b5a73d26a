"""Loops that nobody closes give back their descriptors when their thread ends."""

from __future__ import annotations

import gc
import os
import sys
import threading
import unittest
import warnings
from collections.abc import Callable

import vocabulary

import echoloop

THREADS = 20


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@unittest.skipUnless(os.path.isdir("/proc/self/fd"), "counts descriptors in /proc")
class Unclosed(unittest.TestCase):
    def setUp(self) -> None:
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "echoloop-signals":  # Of a loop that was closed; it ends soon.
                thread.join(vocabulary.PATIENCE)
        self.before = descriptors()
        self.kept: list[echoloop.Loop] = []
        context = warnings.catch_warnings(record=True)
        self.caught = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        warnings.simplefilter("always")

    def threads(self, work: Callable[[], object]) -> None:
        for _ in range(THREADS):
            vocabulary.in_thread(work).join(vocabulary.PATIENCE)

    def in_a_cycle(self) -> None:
        loop = echoloop.Loop()
        loop.me = loop  # type: ignore[attr-defined]
        loop.listen("127.0.0.1:0", echoloop.Protocol)

    def elsewhere(self) -> None:
        self.kept.append(echoloop.Loop())
        self.kept[-1].listen("127.0.0.1:0", echoloop.Protocol)

    def test_loops_that_are_collected_after_their_thread_leak_nothing(self) -> None:
        """Regression: nobody but their thread could free them, and it was gone."""
        gc.disable()
        self.addCleanup(gc.enable)
        self.threads(self.in_a_cycle)
        gc.collect()
        self.assertEqual(descriptors(), self.before)
        self.assertEqual(len(self.caught), THREADS)

    def test_loops_that_others_still_hold_are_closed_with_their_thread(self) -> None:
        self.threads(self.elsewhere)
        self.assertEqual(descriptors(), self.before)
        self.assertTrue(all(loop.is_closed() for loop in self.kept))
        with self.assertRaises(echoloop.ClosedHandleError):
            self.kept[0].call_soon_threadsafe(print)
        self.kept.clear()
        self.assertEqual(len(self.caught), THREADS)

    def test_loops_that_another_thread_collects_are_freed_when_theirs_ends(self) -> None:
        made, end = threading.Barrier(THREADS + 1), threading.Event()

        def work() -> None:
            self.elsewhere()
            made.wait(vocabulary.PATIENCE)
            end.wait(vocabulary.PATIENCE)

        threads = [vocabulary.in_thread(work) for _ in range(THREADS)]
        made.wait(vocabulary.PATIENCE)
        self.kept.clear()
        end.set()
        for thread in threads:
            thread.join(vocabulary.PATIENCE)
        self.assertEqual(descriptors(), self.before)

    def test_closed_loops_of_other_threads_end_without_a_warning(self) -> None:
        def work() -> None:
            with echoloop.Loop() as loop:
                loop.run_once(0)

        self.threads(work)
        self.assertEqual(descriptors(), self.before)
        self.assertEqual(self.caught, [])

    def test_all_are_freed_where_a_warning_is_an_error(self) -> None:
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda unraisable: None
        warnings.simplefilter("error")

        def work() -> None:
            self.elsewhere()
            self.elsewhere()

        self.threads(work)
        self.assertEqual(descriptors(), self.before)
