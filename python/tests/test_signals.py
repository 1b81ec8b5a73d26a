"""Ctrl-C at once, also when nothing happens on the network."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import threading
import time
import unittest
from types import FrameType
from typing import Any

import vocabulary
from vocabulary import LoopCase, Program

import echoloop

#: Within this time Ctrl-C ends an idle loop.
AT_ONCE = 0.1

IDLE = """
import time, sys, echoloop
with echoloop.Loop() as loop:
    loop.listen("127.0.0.1:0", echoloop.Protocol)
    loop.call_soon(lambda: print("idle", flush=True))
    try:
        loop.run()
    except KeyboardInterrupt:
        print(time.monotonic())
"""


class CtrlC(unittest.TestCase):
    def test_it_ends_an_idle_loop_at_once(self) -> None:
        program = Program(self, "-c", IDLE)
        self.assertEqual(program.line(), "idle")
        sent = time.monotonic()
        program.process.send_signal(signal.SIGINT)
        code, out, err = program.wait()
        self.assertEqual((code, err), (0, ""))
        self.assertLess(float(out) - sent, AT_ONCE)


class Signals(LoopCase):
    def setUp(self) -> None:
        super().setUp()
        self.assertIs(threading.current_thread(), threading.main_thread())
        before = signal.signal(signal.SIGUSR1, self.interrupt)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)

    def interrupt(self, number: int, frame: object) -> None:
        if self.loop.is_running():
            raise KeyboardInterrupt
        self.loop.stop()  # Remembered: the next run takes one turn.

    def test_one_that_comes_just_before_the_wait_ends_it(self) -> None:
        """Regression: without a wakeup descriptor the wait would go on until something happens."""
        self.listen()
        for delay in range(100):
            timer = threading.Timer(delay * 1e-5, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            start = time.monotonic()
            with contextlib.suppress(KeyboardInterrupt):
                self.loop.run()
            self.assertLess(time.monotonic() - start, delay * 1e-5 + 1.0)
            timer.join(vocabulary.PATIENCE)

    def test_one_that_arrives_on_another_thread_ends_the_wait(self) -> None:
        entered = threading.Event()
        self.loop.call_soon(entered.set)

        def other() -> None:
            entered.wait(vocabulary.PATIENCE)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        vocabulary.in_thread(other)
        start = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            self.loop.run()
        self.assertLess(time.monotonic() - start, 1.0)

    def test_a_wakeup_descriptor_of_the_program_is_left_alone(self) -> None:
        reader, writer = socket.socketpair()
        self.addCleanup(reader.close)
        self.addCleanup(writer.close)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        self.addCleanup(signal.set_wakeup_fd, -1)
        entered = threading.Event()
        self.loop.call_soon(entered.set)

        def other() -> None:
            entered.wait(vocabulary.PATIENCE)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        vocabulary.in_thread(other)
        with self.assertRaises(KeyboardInterrupt):
            self.loop.run()
        self.assertEqual(signal.set_wakeup_fd(-1), writer.fileno())
        self.assertEqual(reader.recv(10), bytes([signal.SIGUSR1]))

    def test_a_handler_that_does_not_raise_lets_the_loop_go_on(self) -> None:
        seen: list[int] = []

        def note(number: int, frame: object) -> None:
            seen.append(number)
            if len(seen) == 3:
                self.loop.stop()
            else:
                vocabulary.in_thread(lambda: os.kill(os.getpid(), signal.SIGUSR1))

        signal.signal(signal.SIGUSR1, note)
        vocabulary.in_thread(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        self.loop.run()
        self.assertEqual(seen, [signal.SIGUSR1] * 3)

    def test_no_event_is_lost_when_signals_interrupt_at_random(self) -> None:
        """Every connection still ends with `connection_lost`, and every byte of those returns that
        no exception met on its way."""
        random.seed(7)
        listener = self.listen()
        over = threading.Event()
        rounds = 300
        answers: list[bytes] = []

        def clients() -> None:
            for number in range(rounds):
                with socket.create_connection(listener.address, timeout=5) as peer:
                    peer.sendall(b"%d" % number)
                    peer.shutdown(socket.SHUT_WR)
                    try:
                        answers.append(peer.recv(100))
                    except OSError:
                        answers.append(b"")
            over.set()
            self.loop.call_soon_threadsafe(self.loop.stop)

        def signals() -> None:
            while not over.wait(random.random() * 0.003):
                os.kill(os.getpid(), signal.SIGUSR1)

        interrupts = 0
        threads = [vocabulary.in_thread(clients), vocabulary.in_thread(signals)]
        while not over.is_set():
            try:
                self.loop.run()
            except KeyboardInterrupt:
                interrupts += 1
        for thread in threads:
            thread.join(vocabulary.PATIENCE)
        self.until(lambda: not self.loop._transports)
        self.assertGreater(interrupts, 10)
        self.assertGreaterEqual(len(self.served), rounds - interrupts)
        self.assertGreater(sum(map(bool, answers)), rounds // 2)


class AnInterruptAtTheWorstMoment(unittest.TestCase):
    def interrupted_in(self, function: str) -> None:
        """Interrupts `run` at each step of a function in turn; the loop is well after each."""
        step, came = 0, True
        while came:
            step, came = step + 1, False
            with echoloop.Loop() as loop:
                loop.call_soon(loop.stop)
                loop.run()
                count = 0

                def trace(frame: FrameType, event: str, argument: object) -> Any:
                    nonlocal count, came
                    if frame.f_globals.get("__package__") != "echoloop":
                        return None
                    frame.f_trace_opcodes = True
                    if event == "opcode" and frame.f_code.co_name == function:
                        count += 1
                        if count == step:  # noqa: B023
                            sys.settrace(None)
                            came = True
                            raise KeyboardInterrupt
                    return trace

                loop.call_soon(loop.stop)
                sys.settrace(trace)
                try:
                    loop.run()
                except KeyboardInterrupt:
                    self.assertTrue(came)
                finally:
                    sys.settrace(None)
                self.assertFalse(loop.is_running(), (function, step))
                loop.call_soon(loop.stop)
                loop.run()
                self.assertEqual(signal.set_wakeup_fd(-1), -1, (function, step))
        self.assertGreater(step, 3, f"{function} was never called")

    def test_one_while_the_loop_begins_leaves_it_idle(self) -> None:
        """Regression: it was said to run ever after."""
        for function in ("_enter", "_check_idle", "_finish_batch"):
            self.interrupted_in(function)

    def test_one_around_the_wakeup_descriptor_leaves_none(self) -> None:
        """Regression: the descriptor of a closed loop stayed with the interpreter."""
        for function in ("_arm", "arm"):
            self.interrupted_in(function)

    def test_a_descriptor_that_stayed_armed_is_disarmed_by_close(self) -> None:
        for function in ("_disarm", "disarm"):
            self.interrupted_in(function)
        with echoloop.Loop() as loop:
            loop._arm()
        self.assertEqual(signal.set_wakeup_fd(-1), -1)
