"""Exceptions in handlers: reported once, with traceback, and only that connection ends."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable

from vocabulary import Echo, LoopCase

import echoloop


class Failing(Echo):
    """Fails where it is told to."""

    where = ""

    def fail(self, where: str) -> None:
        if where == Failing.where:
            raise LookupError(where)

    def connection_made(self, transport: echoloop.Transport) -> None:
        super().connection_made(transport)
        self.fail("connection_made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data == b"fail":
            self.fail("data_received")

    def eof_received(self) -> None:
        super().eof_received()
        self.fail("eof_received")

    def pause_writing(self) -> None:
        self.fail("pause_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.fail("connection_lost")


class AnException(LoopCase):
    def setUp(self) -> None:
        super().setUp()
        self.expects_reports = True
        Failing.where = ""

    def provoke(self, where: str, act: Callable[[socket.socket], object]) -> None:
        """Lets the handler `where` fail, between two connections that go on."""
        listener = self.listen(Failing, high_mark=1000, low_mark=1)
        witness = self.peer(listener)
        witness.sendall(b"before")
        self.assertEqual(self.receive(witness, 6), b"before")
        Failing.where = where
        victim = self.peer(listener)
        act(victim)
        self.until(lambda: self.reports, where)
        self.until(lambda: self.served[1].is_lost, where)
        Failing.where = ""
        self.assertEqual(len(self.reports), 1, self.reports)
        context = self.reports[0]
        self.assertEqual(context["message"], f"exception in {where}")
        self.assertIsInstance(context["exception"], LookupError)
        self.assertIs(context["protocol"], self.served[1])
        self.assertIs(context["transport"], self.served[1].transport)
        frames = traceback.extract_tb(context["exception"].__traceback__)
        self.assertEqual(frames[-1].name, "fail")
        if where != "connection_lost":
            self.assertIs(self.served[1].reason, context["exception"])
        witness.sendall(b"after")
        self.assertEqual(self.receive(witness, 5), b"after")

    def test_in_connection_made_ends_that_connection_only(self) -> None:
        self.provoke("connection_made", lambda victim: None)

    def test_in_data_received_ends_that_connection_only(self) -> None:
        self.provoke("data_received", lambda victim: victim.sendall(b"fail"))

    def test_in_eof_received_ends_that_connection_only(self) -> None:
        self.provoke("eof_received", lambda victim: victim.shutdown(socket.SHUT_WR))

    def test_in_connection_lost_is_reported(self) -> None:
        self.provoke("connection_lost", lambda victim: victim.close())

    def test_in_pause_writing_ends_that_connection_only(self) -> None:
        def act(victim: socket.socket) -> None:
            self.until(lambda: len(self.served) == 2)
            self.served[1].open_transport.write(b"x" * 20_000_000)

        self.provoke("pause_writing", act)

    def test_in_the_factory_resets_the_connection(self) -> None:
        def fail() -> echoloop.Protocol:
            raise LookupError("no protocol today")

        peer = self.peer(self.loop.listen("127.0.0.1:0", fail))
        self.until(lambda: self.reports)
        self.turns()
        with self.assertRaises(ConnectionResetError):
            peer.recv(1)

    def test_the_other_events_of_the_batch_are_handled(self) -> None:
        listener = self.listen(Failing)
        peers = [self.peer(listener) for _ in range(20)]
        self.until(lambda: len(self.served) == 20)
        Failing.where = "data_received"
        for number, peer in enumerate(peers):
            peer.sendall(b"fail" if number % 2 else b"good")
        self.until(lambda: len(self.reports) == 10)
        self.until(lambda: sum(echo.is_lost for echo in self.served) == 10)
        for peer in peers[::2]:
            self.assertEqual(self.receive(peer, 4), b"good")

    def test_in_a_callback_or_timer_is_reported_and_the_loop_goes_on(self) -> None:
        handles = [self.loop.call_soon(int, "x"), self.loop.call_later(0, int, "y")]
        self.until(lambda: len(self.reports) == 2)
        self.assertEqual({report["handle"] for report in self.reports}, set(handles))
        self.assertIsInstance(self.reports[0]["exception"], ValueError)

    def test_the_default_handler_logs_it_with_traceback(self) -> None:
        self.loop.set_exception_handler(None)
        self.assertIsNone(self.loop.get_exception_handler())
        self.loop.call_soon(int, "not a number")
        with self.assertLogs("echoloop", "ERROR") as logs:
            self.loop.run_once(1)
        self.assertEqual(len(logs.output), 1)
        self.assertIn("exception in callback", logs.output[0])
        self.assertIn("Traceback", logs.output[0])
        self.assertIn("ValueError", logs.output[0])

    def test_an_exception_of_the_exception_handler_is_logged(self) -> None:
        def fail(loop: echoloop.Loop, context: dict[str, object]) -> None:
            raise LookupError("again")

        self.loop.set_exception_handler(fail)
        self.loop.call_soon(int, "x")
        with self.assertLogs("echoloop", "ERROR") as logs:
            self.loop.run_once(1)
        self.assertIn("LookupError: again", logs.output[0])


class LeavingTheLoop(LoopCase):
    def test_keyboard_interrupt_and_system_exit_come_out_and_the_loop_goes_on(self) -> None:
        class Interrupting(Echo):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if data == b"interrupt":
                    raise KeyboardInterrupt
                if data == b"exit":
                    raise SystemExit(3)

        listener = self.listen(Interrupting)
        peers = [self.peer(listener) for _ in range(20)]
        self.until(lambda: len(self.served) == 20)
        for number, peer in enumerate(peers):
            peer.sendall({3: b"interrupt", 7: b"exit"}.get(number, b"good"))
        left: list[BaseException] = []
        done = self.loop.call_later(0.2, self.loop.stop)
        while not done.when() < self.loop.time():
            try:
                self.loop.run()
            except (KeyboardInterrupt, SystemExit) as exc:
                left.append(exc)
        self.assertEqual({type(exc) for exc in left}, {KeyboardInterrupt, SystemExit})
        self.assertEqual(len(left), 2)
        for number, peer in enumerate(peers):
            expected = {3: b"interrupt", 7: b"exit"}.get(number, b"good")
            self.assertEqual(self.receive(peer, len(expected)), expected)

    def test_the_loop_can_be_closed_after_it(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        peer = self.peer(self.listen())
        self.until(lambda: self.served)
        self.loop.call_soon(interrupt)
        with self.assertRaises(KeyboardInterrupt):
            self.loop.run()
        self.assertFalse(self.loop.is_running())
        self.loop.close()
        self.assertTrue(self.served[0].is_lost)
        self.assertEqual(peer.recv(1), b"")


class AfterAnInterrupt(LoopCase):
    """An interrupt may cost the event that was at hand; nothing else may suffer for it."""

    def three(self) -> list[socket.socket]:
        """Clients, of which the loop has forgotten the second."""
        listener = self.listen()
        peers = []
        for number in range(3):
            peers.append(self.peer(listener))
            self.until(lambda number=number: len(self.served) > number)  # type: ignore[misc]
        del self.loop._transports[self.served[1].open_transport._handle]
        return peers

    def test_bytes_on_an_unknown_connection_reset_it_and_blame_nobody(self) -> None:
        """Regression: the connection that was served before it in the batch was reset."""
        peers = self.three()
        for peer in peers:
            peer.sendall(b"hello")
        for peer in (peers[0], peers[2]):
            self.assertEqual(self.receive(peer, 5), b"hello")
        self.turns()
        peers[1].settimeout(5)
        with self.assertRaises(ConnectionResetError):
            peers[1].recv(1)
        self.assertFalse(self.served[0].is_lost or self.served[2].is_lost)

    def test_other_events_of_an_unknown_connection_reset_it_and_blame_nobody(self) -> None:
        peers = self.three()
        peers[1].shutdown(socket.SHUT_WR)
        peers[0].sendall(b"hello")
        self.assertEqual(self.receive(peers[0], 5), b"hello")
        self.turns()
        peers[1].settimeout(5)
        with self.assertRaises(ConnectionResetError):
            peers[1].recv(1)

    def lost_end(self) -> Echo:
        """A connection that has ended without a word to its protocol."""
        peer = self.peer(self.listen())
        self.until(lambda: self.served)
        protocol: Echo = self.served[0]
        kept = dict(self.loop._transports)
        self.loop._transports.clear()
        peer.close()
        self.until(lambda: protocol.open_transport.get_extra_info("sockname") is None)
        self.assertFalse(protocol.is_lost)
        self.loop._transports.update(kept)
        return protocol

    def test_a_drain_does_not_wait_for_an_end_that_was_missed(self) -> None:
        """Regression: it waited until its deadline, and a second more."""
        protocol = self.lost_end()
        start = time.monotonic()
        self.assertEqual(self.loop.drain(5), 0)
        self.assertLess(time.monotonic() - start, 1)
        self.assertTrue(protocol.is_lost)

    def test_an_abort_finds_out_that_the_end_was_missed(self) -> None:
        protocol = self.lost_end()
        protocol.open_transport.abort()
        self.assertFalse(protocol.is_lost)
        self.turns(1)
        self.assertTrue(protocol.is_lost)
