//! A TCP client that checks what it reads and gives up instead of hanging.
//!
//! Blocking calls with the deadline [`PATIENCE`]: a server that loses a byte fails the test, it does not stop it. The
//! methods are what a peer can do to a server, the rude things included.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Pattern;
use crate::patience::{PATIENCE, until};
use crate::probe::{Queues, queues};

const CHUNK: usize = 64 * 1024;

/// One connection to a server under test.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Client {
    /// Connects; small messages leave at once (no Nagle delay).
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .unwrap_or_else(|e| panic!("connect to {to}: {e}"));
        Self::with(stream)
    }

    fn with(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        // Kept, because a connection that has ended no longer says who its peer was.
        let local = stream.local_addr().expect("a connected socket");
        let peer = stream.peer_addr().expect("a connected socket");
        let client = Self {
            stream,
            local,
            peer,
        };
        client.limit(PATIENCE);
        client
    }

    /// Reads like `read`, and goes on after a signal: one that stops and continues this process interrupts a read with a
    /// deadline even where nobody handles it (signal(7)).
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.stream).read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    fn limit(&self, patience: Duration) {
        let some = Some(patience);
        self.stream.set_read_timeout(some).expect("SO_RCVTIMEO");
        self.stream.set_write_timeout(some).expect("SO_SNDTIMEO");
    }

    /// The address of this end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) {
        (&self.stream)
            .write_all(bytes)
            .unwrap_or_else(|e| panic!("sending {} bytes: {e}", bytes.len()));
    }

    /// Sends the next `n` bytes of a pattern.
    #[track_caller]
    pub fn send_pattern(&self, pattern: &mut Pattern, mut n: u64) {
        while n > 0 {
            let chunk = pattern.take(n.min(CHUNK as u64) as usize);
            self.send(&chunk);
            n -= chunk.len() as u64;
        }
    }

    /// Sends without reading until the kernel takes no more for half a second; returns how many bytes it took.
    ///
    /// # Panics
    /// When `limit` bytes were taken: then somebody stores without bound.
    #[track_caller]
    pub fn send_until_blocked(&self, mut pattern: Pattern, limit: u64) -> u64 {
        self.limit(Duration::from_millis(500));
        let mut sent = 0;
        'sending: loop {
            let chunk = pattern.take(CHUNK);
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                match (&self.stream).write(rest) {
                    Ok(n) => rest = &rest[n..],
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        sent += (chunk.len() - rest.len()) as u64;
                        break 'sending;
                    }
                    Err(e) => panic!("sending without reading, after {sent} bytes: {e}"),
                }
            }
            sent += chunk.len() as u64;
            assert!(sent < limit, "{sent} bytes were taken and none was read");
        }
        self.limit(PATIENCE);
        sent
    }

    /// Receives exactly `n` bytes.
    #[track_caller]
    pub fn receive(&self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        let mut have = 0;
        while have < n {
            match self.read(&mut bytes[have..]) {
                Ok(0) => panic!("the server ended the stream after {have} of {n} bytes"),
                Ok(k) => have += k,
                Err(e) => panic!("after {have} of {n} bytes: {e}"),
            }
        }
        bytes
    }

    /// Receives `n` bytes and checks that they are the next ones of the pattern.
    #[track_caller]
    pub fn receive_pattern(&self, pattern: &mut Pattern, mut n: u64) {
        while n > 0 {
            let chunk = self.receive(n.min(CHUNK as u64) as usize);
            pattern.check(&chunk);
            n -= chunk.len() as u64;
        }
    }

    /// Receives and checks the pattern until the server ends the stream; returns how many bytes came.
    #[track_caller]
    pub fn receive_pattern_to_the_end(&self, pattern: &mut Pattern) -> u64 {
        let mut chunk = vec![0; CHUNK];
        let mut have = 0;
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return have,
                Ok(n) => {
                    pattern.check(&chunk[..n]);
                    have += n as u64;
                }
                Err(e) => panic!("after {have} bytes, before the end of the stream: {e}"),
            }
        }
    }

    /// Sends `message` and receives the same bytes; returns how long that took.
    #[track_caller]
    pub fn echo(&self, message: &[u8]) -> Duration {
        let start = Instant::now();
        self.send(message);
        let back = self.receive(message.len());
        assert!(
            back == message,
            "sent {:?}, received {:?}",
            String::from_utf8_lossy(message),
            String::from_utf8_lossy(&back)
        );
        start.elapsed()
    }

    /// Sends `n` bytes of a pattern and checks the echo, both at the same time.
    #[track_caller]
    pub fn exchange(&self, seed: u64, n: u64) {
        thread::scope(|scope| {
            scope.spawn(|| self.send_pattern(&mut Pattern::new(seed), n));
            self.receive_pattern(&mut Pattern::new(seed), n);
        });
    }

    /// Waits until exactly `n` bytes wait in this socket, without reading them.
    #[track_caller]
    pub fn until_waiting(&self, n: usize) {
        let mut room = vec![0; n + 1];
        until(&format!("{n} bytes wait to be read"), PATIENCE, || {
            (self.peek(&mut room).unwrap_or(0) == n).then_some(())
        });
    }

    /// Of `sent` bytes, how many the server's program has read for certain.
    pub fn taken_by_the_server(&self, sent: u64) -> u64 {
        let ours = queues(self.local, self.peer).unwrap_or_default();
        let Queues { unread, .. } = queues(self.peer, self.local).unwrap_or_default();
        sent.saturating_sub(ours.unacknowledged + unread)
    }

    /// Waits until the server's program has read everything this client has sent.
    #[track_caller]
    pub fn until_taken(&self) {
        until("the server has read all that was sent", PATIENCE, || {
            (self.taken_by_the_server(1) == 1).then_some(())
        });
    }

    /// Receives and checks the pattern until the stream ends in any way, a reset included.
    #[track_caller]
    pub fn drain_pattern(&self, pattern: &mut Pattern) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => pattern.check(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return,
                Err(e) => panic!("waiting for the end of the stream: {e}"),
            }
        }
    }

    /// Whether the server has neither ended the stream nor reset it; reads nothing.
    #[track_caller]
    pub fn is_open(&self) -> bool {
        match self.peek(&mut [0]) {
            Ok(n) => n > 0,
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        }
    }

    fn peek(&self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.set_nonblocking(true).expect("fcntl");
        let waiting = self.stream.peek(room);
        self.stream.set_nonblocking(false).expect("fcntl");
        waiting
    }

    /// Receives the end of the stream and nothing before it; returns when it came.
    #[track_caller]
    pub fn expect_end(&self) -> Instant {
        match self.read(&mut [0; 64]) {
            Ok(0) => Instant::now(),
            Ok(n) => panic!("{n} bytes came instead of the end of the stream"),
            Err(e) => panic!("instead of the end of the stream: {e}"),
        }
    }

    /// Says that this client sends no more; it still reads.
    pub fn shutdown_write(&self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Vanishes with a reset instead of a farewell (`SO_LINGER` with zero seconds).
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER");
    }
}
