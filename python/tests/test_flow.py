"""Much data, slow peers, many peers: order, bounded memory, fairness."""

from __future__ import annotations

import hashlib
import socket

import vocabulary
from vocabulary import Echo, LoopCase, Recorder

import echoloop


class MuchData(LoopCase):
    def test_70_megabytes_return_byte_for_byte_while_they_are_sent(self) -> None:
        size = 70_000_000
        block = hashlib.sha256(b"echoloop").digest() * 2048
        peer = self.peer(self.listen())
        sent, got = hashlib.sha256(), hashlib.sha256()
        count = [0]

        def send() -> None:
            left = size
            while left:
                piece = block[: min(left, len(block))]
                peer.sendall(piece)
                sent.update(piece)
                left -= len(piece)
            peer.shutdown(socket.SHUT_WR)

        def receive() -> None:
            while data := peer.recv(1 << 18):
                got.update(data)
                count[0] += len(data)
            self.loop.call_soon_threadsafe(self.loop.stop)

        self.served_nothing_kept()
        threads = [vocabulary.in_thread(send), vocabulary.in_thread(receive)]
        self.loop.run()
        for thread in threads:
            thread.join(vocabulary.PATIENCE)
        self.assertEqual(count[0], size)
        self.assertEqual(got.digest(), sent.digest())

    def served_nothing_kept(self) -> None:
        """Accepts, and lets the recorder forget the bytes."""
        self.until(lambda: self.served)
        recorder = self.served[0]
        recorder.data_received = lambda data: recorder.open_transport.write(data)
        recorder.open_transport.set_protocol(recorder)

    def test_one_write_of_70_megabytes_is_taken_whole(self) -> None:
        peer = self.peer(self.listen(Recorder))
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        transport.write(b"z" * 70_000_000)
        self.assertGreater(transport.get_write_buffer_size(), 1_000_000)
        count = [0]

        def receive() -> None:
            while data := peer.recv(1 << 20):
                count[0] += len(data)

        reader = vocabulary.in_thread(receive)
        transport.close()
        self.until(lambda: not reader.is_alive())
        self.assertEqual(count[0], 70_000_000)


class ASlowPeer(LoopCase):
    def test_pause_and_resume_writing_frame_the_time_above_the_high_mark(self) -> None:
        peer = self.peer(self.listen(Recorder, high_mark=100_000, low_mark=50_000))
        self.until(lambda: self.served)
        recorder = self.served[0]
        transport = recorder.open_transport
        self.assertEqual(transport.get_write_buffer_limits(), (50_000, 100_000))
        size = 0
        while "pause" not in recorder.log:
            transport.write(b"x" * 50_000)
            size += 50_000
            self.turns(1)
        self.assertGreater(transport.get_write_buffer_size(), 100_000)
        self.assertEqual(len(self.receive(peer, size)), size)
        self.until(lambda: recorder.log[-1] == "resume")
        self.assertEqual(recorder.log, ["made", "pause", "resume"])

    def test_over_the_hard_cap_write_refuses_and_nothing_is_lost(self) -> None:
        peer = self.peer(self.listen(Recorder, send_cap=200_000))
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        taken = 0
        with self.assertRaises(echoloop.QueueFullError) as caught:
            while True:
                transport.write(b"%07d\n" % (taken // 8) * 10_000)
                taken += 80_000
        self.assertIsInstance(caught.exception, BufferError)
        self.assertFalse(transport.is_closing())
        got = self.receive(peer, taken)
        self.assertEqual(len(got), taken)
        self.assertEqual(got[-8:], b"%07d\n" % ((taken - 80_000) // 8))
        self.until(lambda: transport.get_write_buffer_size() == 0)
        transport.write(b"friends again")
        self.assertEqual(self.receive(peer, 13), b"friends again")

    def test_a_client_that_never_reads_is_held_back_and_others_are_served(self) -> None:
        listener = self.listen()
        hoarder, other = self.peer(listener), self.peer(listener)
        hoarder.setblocking(False)
        sent = still = 0
        while still < 50:
            try:
                sent += hoarder.send(b"h" * 65536)
                still = 0
            except BlockingIOError:
                still += 1
            self.loop.run_once(0.002)
        queued = self.served[0].open_transport.get_write_buffer_size()
        self.assertLess(queued, 2 << 20)
        other.sendall(b"and I?")
        self.assertEqual(self.receive(other, 6), b"and I?")
        self.assertEqual(len(self.receive(hoarder, sent)), sent)

    def test_a_stalled_peer_is_cut_by_the_write_stall_timeout(self) -> None:
        self.peer(self.listen(Recorder, write_stall_timeout=0.1))
        self.until(lambda: self.served)
        self.served[0].open_transport.write(b"x" * 20_000_000)
        self.until(lambda: self.served[0].is_lost)
        self.assertIsInstance(self.served[0].reason, TimeoutError)


class Reading(LoopCase):
    def test_nothing_arrives_while_reading_is_paused(self) -> None:
        peer = self.peer(self.listen(Recorder))
        self.until(lambda: self.served)
        recorder = self.served[0]
        transport = recorder.open_transport
        transport.pause_reading()
        transport.pause_reading()
        self.assertFalse(transport.is_reading())
        peer.sendall(b"wait")
        peer.shutdown(socket.SHUT_WR)
        for _ in range(5):
            self.loop.run_once(0.01)
        self.assertEqual(recorder.log, ["made"])
        transport.resume_reading()
        transport.resume_reading()
        self.assertTrue(transport.is_reading())
        self.until(lambda: recorder.is_lost)
        self.assertEqual(recorder.data, b"wait")
        self.assertEqual(recorder.log, ["made", "data", "eof", ("lost", None)])

    def test_what_the_batch_still_held_waits_for_resume_in_order(self) -> None:
        class Careful(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.open_transport.pause_reading()

        peer = self.peer(self.listen(Careful))
        self.until(lambda: self.served)
        careful = self.served[0]
        transport = careful.open_transport
        transport.pause_reading()
        # What the library brought in one batch although reading was paused in its first event:
        for data in (b"first ", b"second ", b"third"):
            transport._receive(data)
        transport._eof()
        self.assertEqual(careful.log, ["made"])
        for expected in (b"first ", b"first second ", b"first second third"):
            transport.resume_reading()
            self.until(lambda expected=expected: careful.data == expected)  # type: ignore[misc]
            self.assertNotIn("eof", careful.log)
        transport.resume_reading()
        self.until(lambda: "eof" in careful.log)
        self.until_end(peer)

    def test_another_protocol_can_take_over(self) -> None:
        peer = self.peer(self.listen())
        self.until(lambda: self.served)
        transport = self.served[0].open_transport
        other = Echo()
        other.connection_made(transport)
        transport.set_protocol(other)
        self.assertIs(transport.get_protocol(), other)
        peer.sendall(b"you now")
        self.assertEqual(self.receive(peer, 7), b"you now")
        self.assertEqual((self.served[0].data, other.data), (b"", b"you now"))


class ACrowd(LoopCase):
    def test_1000_clients_are_served_at_once(self) -> None:
        listener = self.listen()
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        if hard < 2100:
            self.skipTest(f"only {hard} descriptors are allowed here")
        peers = [self.peer(listener) for _ in range(1000)]
        for number, peer in enumerate(peers):
            peer.sendall(b"client %04d" % number)
        self.until(lambda: sum(len(echo.data) for echo in self.served) == 11_000)
        self.turns()
        answers = [peer.recv(100) for peer in peers]
        self.assertEqual(answers, [b"client %04d" % number for number in range(1000)])
        for peer in peers:
            peer.close()
        self.until(lambda: all(echo.is_lost for echo in self.served))
        self.assertEqual(len(self.loop._transports), 0)
