"""``python -m echoloop serve``, and the examples."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import IO

from vocabulary import PATIENCE, Program

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class ServeCase(unittest.TestCase):
    def start(self, *arguments: str) -> tuple[Program, tuple[str, int]]:
        program = Program(self, "-m", "echoloop", "serve", "--listen", "127.0.0.1:0", *arguments)
        return program, self.address(program)

    def address(self, program: Program) -> tuple[str, int]:
        line = program.line()
        self.assertTrue(line.startswith("listening on 127.0.0.1:"), line)
        return "127.0.0.1", int(line.rpartition(":")[2])

    def peer(self, address: tuple[str, int]) -> socket.socket:
        peer = socket.create_connection(address, timeout=PATIENCE)
        self.addCleanup(peer.close)
        return peer

    def echo(self, peer: socket.socket, text: bytes) -> bytes:
        peer.sendall(text)
        got = b""
        while len(got) < len(text):
            got += peer.recv(len(text) - len(got))
        return got


class Serve(ServeCase):
    def test_it_says_where_and_what_to_try_and_echoes(self) -> None:
        program, address = self.start()
        self.assertEqual(program.line(), f"try:  printf hello | nc -N 127.0.0.1 {address[1]}")
        self.assertEqual(self.echo(self.peer(address), b"hello"), b"hello")

    def test_sigint_and_sigterm_drain_and_end_with_code_0(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            program, address = self.start()
            peer = self.peer(address)
            self.assertEqual(self.echo(peer, b"hello"), b"hello")
            program.process.send_signal(number)
            self.assertEqual(peer.recv(10), b"")
            peer.close()
            code, out, _ = program.wait()
            self.assertEqual(code, 0)
            self.assertIn("served 1 connections, 0 refused, 0 cut at the end", out)

    def test_a_sigterm_right_after_the_first_line_drains_too(self) -> None:
        """Regression: the handlers were installed after the first line was out."""
        for _ in range(8):
            program, _address = self.start()
            program.process.send_signal(signal.SIGTERM)
            code, out, _ = program.wait()
            self.assertEqual(code, 0)
            self.assertIn("served 0 connections", out)

    def test_a_second_signal_ends_at_once(self) -> None:
        program, address = self.start()
        peer = self.peer(address)
        self.echo(peer, b"hello")
        sent = 0
        peer.setblocking(False)
        try:
            while True:
                sent += peer.send(b"x" * 100_000)  # And never read: the drain takes its time.
        except BlockingIOError:
            pass
        program.process.send_signal(signal.SIGINT)
        assert program.process.stderr is not None
        self.assertIn("draining", program.process.stderr.readline())
        program.process.send_signal(signal.SIGINT)
        code, _, err = program.wait()
        self.assertEqual(code, 130)
        self.assertIn("ended at once", err)

    def test_more_than_the_maximum_are_refused_with_a_clear_line(self) -> None:
        program, address = self.start("--max-connections", "2")
        peers = [self.peer(address) for _ in range(2)]
        for peer in peers:
            self.echo(peer, b"in")
        third = socket.socket()
        self.addCleanup(third.close)
        third.settimeout(PATIENCE)
        third.bind(("127.0.0.1", 0))
        name = "{}:{}".format(*third.getsockname())
        with self.assertRaises(ConnectionResetError):
            third.connect(address)
            third.recv(1)
        self.assertEqual(self.echo(peers[0], b"still in"), b"still in")
        peers.pop().close()
        program.process.send_signal(signal.SIGTERM)
        for peer in peers:
            peer.close()
        code, out, err = program.wait()
        self.assertEqual(code, 0)
        self.assertIn(f"echoloop: refused {name}: the maximum of 2 connections is reached", err)
        self.assertIn("served 2 connections, 1 refused", out)

    def test_a_flood_of_refusals_is_told_in_few_lines_and_blocks_nobody(self) -> None:
        """Regression: a line for each filled the pipe of standard error, which blocked the loop."""
        program, address = self.start("--max-connections", "1")
        guest = self.peer(address)
        self.echo(guest, b"in")
        start = time.monotonic()
        for _ in range(1500):  # With a line for each, more than a pipe holds.
            with socket.socket() as one:
                one.settimeout(PATIENCE)
                with contextlib.suppress(ConnectionResetError):
                    one.connect(address)
                    one.recv(1)
        self.assertEqual(self.echo(guest, b"still in"), b"still in")
        program.process.send_signal(signal.SIGTERM)
        guest.close()
        code, out, err = program.wait()
        seconds = time.monotonic() - start
        self.assertEqual(code, 0)
        self.assertIn("1500 refused", out)
        lines = [line for line in err.splitlines() if "refused" in line]
        self.assertLessEqual(len(lines), seconds + 2, lines)
        many = re.findall(r"refused (\d+) connections, the last from", err)
        self.assertEqual(sum(map(int, many)) + len(lines) - len(many), 1500, lines)

    def test_the_idle_timeout_cuts_who_is_silent(self) -> None:
        _, address = self.start("--idle-timeout", "0.1")
        self.assertEqual(self.peer(address).recv(1), b"")

    def test_it_listens_on_several_addresses(self) -> None:
        program, first = self.start("--listen", "127.0.0.1:0")
        second = self.address(program)
        self.assertNotEqual(first, second)
        for address in (first, second):
            self.assertEqual(self.echo(self.peer(address), b"hello"), b"hello")

    def test_what_is_wrong_is_one_line_and_code_1_or_2(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            wrong = {
                f"127.0.0.1:{port}": "Address already in use (EADDRINUSE); choose another port",
                "here:80": "'here' is not a numeric address",
                "127.0.0.1": "write IP:PORT",
                "192.0.2.1:0": "(EADDRNOTAVAIL); this machine has no such address",
            }
            for address, text in wrong.items():
                program = Program(self, "-m", "echoloop", "serve", "--listen", address)
                code, out, err = program.wait()
                self.assertEqual((code, out), (1, ""))
                self.assertEqual(err.count("\n"), 1, err)
                self.assertIn(text, err)
        for usage in (["serve", "--idle-timeout", "-1"], ["dance"], []):
            self.assertEqual(Program(self, "-m", "echoloop", *usage).wait()[0], 2)


class AStandardOutputThatIsNoMore(unittest.TestCase):
    """Regression: the server ended with "listen: Broken pipe (EPIPE)"."""

    def serves(self, stdout: int | IO[bytes] | None, shell: str = 'exec "$@"') -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = free.getsockname()
        command = [
            sys.executable,
            "-m",
            "echoloop",
            "serve",
            "--listen",
            f"127.0.0.1:{address[1]}",
        ]
        process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command], stdout=stdout, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        end = time.monotonic() + PATIENCE
        peer: socket.socket | None = None
        while peer is None:
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(process.poll())
            with contextlib.suppress(ConnectionRefusedError):
                peer = socket.create_connection(address, timeout=PATIENCE)
        with peer:
            peer.sendall(b"hello")
            self.assertEqual(peer.recv(10), b"hello")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(peer.recv(10), b"")
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(err, "echoloop: draining; once more to end at once\n")

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs a device that is always full")
    def test_a_full_one_is_not_our_concern(self) -> None:
        with open("/dev/full", "wb") as full:
            self.serves(full)

    def test_a_broken_pipe_is_not_our_concern(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        self.serves(writer)

    def test_a_closed_one_is_not_our_concern(self) -> None:
        self.serves(None, 'exec "$@" >&-')


class Examples(ServeCase):
    def test_the_client_gets_back_what_it_sends_to_the_server(self) -> None:
        server = Program(self, str(EXAMPLES / "echo_server.py"), "127.0.0.1:0")
        host, port = self.address(server)
        text = bytes(range(256)) * 40_000
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "echo_client.py"), f"{host}:{port}"],
            input=text,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        self.assertEqual(done.stdout, text)
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.wait()[0], 0)

    def test_a_refused_client_says_so(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = "{}:{}".format(*gone.getsockname())
        program = Program(self, str(EXAMPLES / "echo_client.py"), address)
        code, _, err = program.wait()
        self.assertEqual(code, 1)
        self.assertIn("Connection refused", err)
