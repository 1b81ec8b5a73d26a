"""Connections from the first byte to the last: echo, end of stream, close, abort, connect."""

from __future__ import annotations

import errno
import socket
import threading

import vocabulary
from vocabulary import Echo, LoopCase, Recorder

import echoloop


class AServer(LoopCase):
    def test_what_two_clients_send_in_three_parts_comes_back_to_each(self) -> None:
        listener = self.listen()
        peers = [self.peer(listener) for _ in range(2)]
        for part in (b"This is the message. ", b"It will be sent ", b"in parts."):
            for peer in peers:
                peer.sendall(part)
            for peer in peers:
                self.assertEqual(self.receive(peer, len(part)), part)
        self.assertEqual([bytes(echo.data)[-6:] for echo in self.served], [b"parts."] * 2)

    def test_events_of_one_connection_come_in_the_order_that_asyncio_has(self) -> None:
        peer = self.peer(self.listen())
        peer.sendall(b"hello")
        self.assertEqual(self.receive(peer, 5), b"hello")
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.until_end(peer), b"")
        self.until(lambda: self.served[0].is_lost)
        self.assertEqual(self.served[0].log, ["made", "data", "eof", ("lost", None)])

    def test_all_bytes_return_after_the_client_has_finished_sending(self) -> None:
        peer = self.peer(self.listen())
        text = bytes(range(256)) * 400
        peer.sendall(text)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.until_end(peer), text)

    def test_a_true_eof_received_keeps_the_writing_side_open(self) -> None:
        class Stubborn(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                return True

        peer = self.peer(self.listen(Stubborn))
        peer.shutdown(socket.SHUT_WR)
        self.until(lambda: self.served and "eof" in self.served[0].log)
        self.turns()
        transport = self.served[0].open_transport
        self.assertFalse(transport.is_closing())
        transport.write(b"still here")
        self.assertEqual(self.receive(peer, 10), b"still here")
        transport.close()
        self.assertEqual(self.until_end(peer), b"")
        self.until(lambda: self.served[0].is_lost)
        self.assertIsNone(self.served[0].reason)

    def test_close_sends_what_was_written_first(self) -> None:
        text = b"x" * 3_000_000

        class Generous(Recorder):
            def connection_made(self, transport: echoloop.Transport) -> None:
                super().connection_made(transport)
                transport.write(text)
                transport.close()
                transport.write(b"too late, and dropped as in asyncio")

        peer = self.peer(self.listen(Generous))
        self.assertEqual(len(self.until_end(peer)), len(text))
        peer.close()
        self.until(lambda: self.served[0].is_lost)
        self.assertIsNone(self.served[0].reason)

    def test_abort_resets_and_connection_lost_has_no_exception(self) -> None:
        class Rude(Recorder):
            def connection_made(self, transport: echoloop.Transport) -> None:
                super().connection_made(transport)
                transport.abort()

        peer = self.peer(self.listen(Rude))
        self.until(lambda: self.served and self.served[0].is_lost)
        self.assertEqual(self.served[0].log, ["made", ("lost", None)])
        with self.assertRaises(ConnectionResetError):
            peer.recv(1)

    def test_a_reset_is_a_connection_reset_error_with_the_address(self) -> None:
        peer = self.peer(self.listen())
        name = "{}:{}".format(*peer.getsockname())
        self.until(lambda: self.served)
        vocabulary.reset(peer)
        self.until(lambda: self.served[0].is_lost)
        self.assertIsInstance(self.served[0].reason, ConnectionResetError)
        self.assertEqual(self.served[0].reason.filename, name)

    def test_a_silent_client_is_cut_at_the_idle_timeout_with_a_timeout_error(self) -> None:
        peer = self.peer(self.listen(idle_timeout=0.05))
        start = self.loop.time()
        self.assertEqual(self.until_end(peer), b"")
        self.assertGreaterEqual(self.loop.time() - start, 0.04)
        self.until(lambda: self.served[0].is_lost)
        self.assertIsInstance(self.served[0].reason, TimeoutError)
        self.assertEqual(self.served[0].reason.strerror, "timed out: idle")

    def test_a_closed_listener_accepts_no_more_and_its_connections_go_on(self) -> None:
        with self.listen() as listener:
            peer = self.peer(listener)
            self.until(lambda: self.served)
        self.assertTrue(listener.is_closed)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(listener.address, timeout=1)
        peer.sendall(b"hello")
        self.assertEqual(self.receive(peer, 5), b"hello")
        listener.close()

    def test_it_listens_on_ipv6_too(self) -> None:
        listener = self.listen(address="[::1]:0")
        self.assertEqual(listener.address[0], "::1")
        self.assertEqual(str(listener), f"[::1]:{listener.address[1]}")
        peer = self.peer(listener)
        peer.sendall(b"six")
        self.assertEqual(self.receive(peer, 3), b"six")
        info = self.served[0].open_transport.get_extra_info
        self.assertEqual(info("peername"), peer.getsockname())
        self.assertEqual(info("sockname"), peer.getpeername())

    def test_an_address_in_use_is_the_os_error_with_its_address(self) -> None:
        listener = self.listen()
        with self.assertRaises(OSError) as caught:
            self.listen(address=str(listener))
        self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
        self.assertEqual(caught.exception.filename, str(listener))

    def test_a_host_name_is_refused_with_advice(self) -> None:
        with self.assertRaisesRegex(ValueError, "getaddrinfo"):
            self.loop.listen("example.org:80", Echo)


class AClient(LoopCase):
    def client(self, *address: object, **options: object) -> Recorder:
        recorder = Recorder()
        self.transport = self.loop.connect(lambda: recorder, *address, **options)  # type: ignore[arg-type]
        return recorder

    def test_bytes_written_before_the_connection_is_made_leave_when_it_is(self) -> None:
        client = self.client(*self.listen().address)
        self.transport.write(b"early bird")
        self.until(lambda: len(client.data) == 10)
        self.assertEqual(client.log, ["made", "data"])
        self.assertIs(self.transport, client.transport)

    def test_write_eof_finishes_sending_and_receiving_goes_on(self) -> None:
        client = self.client(str(self.listen()))
        self.until(lambda: client.transport)
        self.assertTrue(self.transport.can_write_eof())
        self.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
        self.transport.write_eof()
        with self.assertRaises(echoloop.WriteEndedError):
            self.transport.write(b"more")
        self.until(lambda: client.is_lost)
        self.assertEqual(client.data, b"one two three")
        self.assertEqual(client.log, ["made", "data", "eof", ("lost", None)])

    def test_a_refused_connect_is_connection_lost_without_connection_made(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = gone.getsockname()
        client = self.client(address)
        self.until(lambda: client.is_lost)
        self.assertEqual(len(client.log), 1)
        self.assertIsInstance(client.reason, ConnectionRefusedError)
        self.assertEqual(getattr(client.reason, "filename", ""), "{}:{}".format(*address))

    def test_a_connect_that_nobody_answers_is_a_timeout_error_at_the_deadline(self) -> None:
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(full.close)
        fillers = []
        for _ in range(3):  # The backlog of 0 holds one or two; the rest is not answered.
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        start = self.loop.time()
        client = self.client(*full.getsockname(), timeout=0.1)
        self.until(lambda: client.is_lost)
        self.assertIsInstance(client.reason, TimeoutError)
        self.assertGreaterEqual(self.loop.time() - start, 0.1)

    def test_closing_before_the_connection_is_made_ends_it(self) -> None:
        client = self.client(self.listen().address)
        self.transport.close()
        self.until(lambda: client.is_lost)
        self.assertEqual(client.log, [("lost", None)])

    def test_every_kind_of_bytes_can_be_written(self) -> None:
        client = self.client(self.listen().address)
        large = bytearray(b"abc") * 200_000
        pieces = [b"", b"bytes", bytearray(b"array"), memoryview(b"view"), memoryview(large)]
        pieces += [memoryview(large)[::2], memoryview(bytearray(8)).cast("Q"), bytearray()]
        for piece in pieces:
            self.transport.write(piece)  # type: ignore[arg-type]
        expected = b"".join(bytes(piece) for piece in pieces)
        self.until(lambda: len(client.data) >= len(expected))
        self.assertEqual(client.data, expected)
        pieces.clear()
        large.append(0)  # Nothing holds on to the memory.
        for wrong in ("text", 5, None):
            with self.assertRaises(TypeError):
                self.transport.write(wrong)  # type: ignore[arg-type]


class Closing(LoopCase):
    def test_closing_the_loop_ends_every_connection_and_sends_what_was_written(self) -> None:
        peers = [self.peer(listener) for listener in [self.listen()] for _ in range(3)]
        self.until(lambda: len(self.served) == 3)
        for echo in self.served:
            echo.open_transport.write(b"bye")
        self.loop.close()
        self.assertEqual([echo.log for echo in self.served], [["made", ("lost", None)]] * 3)
        self.assertEqual([peer.recv(10) for peer in peers], [b"bye"] * 3)
        self.assertEqual([peer.recv(10) for peer in peers], [b""] * 3)

    def test_drain_flushes_and_cuts_who_takes_too_long(self) -> None:
        listener = self.listen(Recorder)
        quick, slow = self.peer(listener), self.peer(listener)
        self.until(lambda: len(self.served) == 2)
        text = b"x" * 30_000_000
        for recorder in self.served:
            recorder.open_transport.write(text)
        got = bytearray()

        def read() -> None:
            while data := quick.recv(1 << 20):
                got.extend(data)
            quick.close()

        reader = vocabulary.in_thread(read)
        self.assertEqual(self.loop.drain(timeout=3.0), 1)
        reader.join(vocabulary.PATIENCE)
        self.assertEqual(len(got), len(text))
        self.assertTrue(all(recorder.is_lost for recorder in self.served))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(listener.address, timeout=1)
        slow.close()

    def test_a_closed_loop_says_so(self) -> None:
        listener = self.listen()
        self.peer(listener)
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        self.loop.close()
        self.loop.close()
        listener.close()
        transport.write(b"dropped")
        transport.close()
        transport.abort()
        self.assertTrue(self.loop.is_closed())
        for call in (self.loop.run, self.loop.run_once, self.loop.stop, self.loop.drain):
            with self.assertRaises(echoloop.ClosedHandleError):
                call()
        with self.assertRaises(echoloop.ClosedHandleError):
            self.loop.call_soon_threadsafe(print)
        with self.assertRaises(RuntimeError):
            self.listen()

    def test_descriptors_and_threads_are_given_back(self) -> None:
        import os

        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        for _ in range(20):
            with echoloop.Loop() as loop:
                loop.listen("127.0.0.1:0", Echo)
                loop.run_once(0.001)
        after = os.listdir("/proc/self/fd") if before else []
        end = self.loop.time() + vocabulary.PATIENCE
        while any(t.name == "echoloop-signals" for t in threading.enumerate()):
            for thread in threading.enumerate():
                if thread.name == "echoloop-signals":
                    thread.join(end - self.loop.time())
        after = os.listdir("/proc/self/fd") if before else []
        self.assertLessEqual(len(after), len(before))
