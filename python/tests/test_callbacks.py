"""Timers, callbacks, other threads."""

from __future__ import annotations

import contextvars
import gc
import subprocess
import sys
import threading
import time
import warnings

import vocabulary
from vocabulary import LoopCase, Recorder

import echoloop


class Callbacks(LoopCase):
    def test_callbacks_run_in_order_and_those_they_add_wait_for_the_next_turn(self) -> None:
        log: list[object] = []
        self.loop.call_soon(log.append, 1)
        self.loop.call_soon(lambda: self.loop.call_soon(log.append, 3))
        self.loop.call_soon(log.append, 2)
        cancelled = self.loop.call_soon(log.append, "never")
        cancelled.cancel()
        self.assertTrue(cancelled.cancelled())
        self.loop.run_once(5)
        self.assertEqual(log, [1, 2])
        self.loop.run_once(5)
        self.assertEqual(log, [1, 2, 3])

    def test_timers_fire_in_order_and_never_early(self) -> None:
        log: list[tuple[str, float]] = []

        def note(name: str) -> None:
            log.append((name, self.loop.time()))

        start = self.loop.time()
        self.loop.call_later(0.03, note, "third")
        self.loop.call_at(start + 0.02, note, "second")
        self.loop.call_later(0.01, note, "first")
        self.loop.call_later(-1, note, "at once")
        self.loop.call_later(0.015, note, "never").cancel()
        self.until(lambda: len(log) == 4)
        self.assertEqual([name for name, _ in log], ["at once", "first", "second", "third"])
        for (_, at), due in zip(log, (0, 0.01, 0.02, 0.03)):
            self.assertGreaterEqual(at - start, due)
            self.assertLess(at - start, due + 0.5)

    def test_a_timer_can_be_cancelled_after_it_ran_and_twice(self) -> None:
        timer = self.loop.call_later(0, lambda: None)
        self.assertLessEqual(timer.when(), self.loop.time())
        self.until(lambda: not self.loop._timers)
        timer.cancel()
        timer.cancel()

    def test_callbacks_see_the_context_of_their_caller(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
        seen: list[str] = []
        for schedule in (self.loop.call_soon, self.loop.call_soon_threadsafe):
            token = variable.set("mine")
            schedule(lambda: seen.append(variable.get()))
            variable.reset(token)
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        self.loop.call_later(0, lambda: seen.append(variable.get()), context=context)
        self.until(lambda: len(seen) == 3)
        self.assertEqual(sorted(seen), ["given", "mine", "mine"])

    def test_stop_before_run_takes_one_turn(self) -> None:
        log: list[int] = []
        self.loop.call_soon(log.append, 1)
        self.loop.stop()
        self.loop.run()
        self.assertEqual(log, [1])

    def test_run_in_a_handler_is_a_reentry_error(self) -> None:
        caught: list[Exception] = []

        def nested() -> None:
            for call in (self.loop.run, self.loop.run_once, self.loop.close, self.loop.drain):
                try:
                    call()
                except echoloop.ReentryError as error:
                    caught.append(error)
            self.loop.stop()

        self.loop.call_soon(nested)
        self.loop.run()
        self.assertEqual(len(caught), 4)


class OtherThreads(LoopCase):
    def test_call_soon_threadsafe_wakes_a_loop_that_waits(self) -> None:
        entered = threading.Event()
        self.loop.call_soon(entered.set)
        ran_on: list[int] = []

        def other() -> None:
            entered.wait(vocabulary.PATIENCE)
            for _ in range(1000):
                self.loop.call_soon_threadsafe(lambda: ran_on.append(threading.get_ident()))
            self.loop.call_soon_threadsafe(self.loop.stop)

        thread = vocabulary.in_thread(other)
        self.loop.run()
        thread.join(vocabulary.PATIENCE)
        self.assertEqual(ran_on, [threading.get_ident()] * 1000)

    def test_everything_else_on_another_thread_is_a_wrong_thread_error(self) -> None:
        listener = self.listen(Recorder)
        self.peer(listener)
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        timer = self.loop.call_later(60, print)
        calls = {
            "run": self.loop.run,
            "run_once": self.loop.run_once,
            "stop": self.loop.stop,
            "close": self.loop.close,
            "drain": self.loop.drain,
            "listen": self.listen,
            "connect": lambda: self.loop.connect(Recorder, "127.0.0.1:1"),
            "call_soon": lambda: self.loop.call_soon(print),
            "call_later": lambda: self.loop.call_later(0, print),
            "write": lambda: transport.write(b"x"),
            "write_eof": transport.write_eof,
            "pause_reading": transport.pause_reading,
            "close a transport": transport.close,
            "abort": transport.abort,
            "close a listener": listener.close,
            "cancel": timer.cancel,
        }
        errors: dict[str, BaseException] = {}

        def other() -> None:
            for name, call in calls.items():
                try:
                    call()
                except BaseException as error:
                    errors[name] = error

        vocabulary.in_thread(other).join(vocabulary.PATIENCE)
        self.assertEqual(set(errors), set(calls))
        for name, error in errors.items():
            self.assertIsInstance(error, echoloop.WrongThreadError, name)
        self.assertFalse(transport.is_closing())
        self.assertFalse(listener.is_closed)
        timer.cancel()

    def test_what_has_nothing_to_act_on_does_not_raise_on_another_thread(self) -> None:
        listener = self.listen(Recorder)
        self.peer(listener)
        closed = self.listen(Recorder)
        closed.close()
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        timer = self.loop.call_later(60, print)
        timer.cancel()
        answers: list[object] = []

        def other() -> None:
            answers.append(transport.get_write_buffer_size())
            answers.append(transport.get_extra_info("sockname", "unknown"))
            answers.append(timer.cancel())  # type: ignore[func-returns-value]
            answers.append(closed.close())  # type: ignore[func-returns-value]

        vocabulary.in_thread(other).join(vocabulary.PATIENCE)
        self.assertEqual(answers, [0, "unknown", None, None])

    def test_a_loop_runs_on_any_thread(self) -> None:
        got: list[bytes] = []

        def other() -> None:
            with echoloop.Loop() as loop:
                client = Recorder()
                loop.connect(lambda: client, *address).write(b"from a thread")
                end = time.monotonic() + vocabulary.PATIENCE
                while len(client.data) < 13 and time.monotonic() < end:
                    loop.run_once(0.1)
                got.append(bytes(client.data))

        address = self.listen().address
        thread = vocabulary.in_thread(other)
        self.until(lambda: not thread.is_alive())
        self.assertEqual(got, [b"from a thread"])

    def test_an_unclosed_loop_warns_and_may_be_collected_on_any_thread(self) -> None:
        from echoloop._ffi import held

        live = held("echoloop_live_handles")
        before = live()
        loops = [echoloop.Loop()]
        loops[0].listen("127.0.0.1:0", Recorder)
        self.assertGreater(live(), before)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")

            def drop() -> None:
                loops.clear()
                gc.collect()

            vocabulary.in_thread(drop).join(vocabulary.PATIENCE)
        self.assertIn(ResourceWarning, [warning.category for warning in caught])
        self.turns()  # The owner's next call frees what another thread asked to be freed.
        self.assertLessEqual(live(), before)

    def test_a_program_that_forgets_to_close_ends_well(self) -> None:
        text = "import echoloop; loop = echoloop.Loop(); loop.run_once(0.001); loop.stop()"
        done = subprocess.run([sys.executable, "-c", text], timeout=vocabulary.PATIENCE)
        self.assertEqual(done.returncode, 0)
