//! A loop on the real system and clients beside it, for one thread and with deadlines.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use echoloop_core::sys::{Os, System};
use echoloop_core::{
    Addr, CloseReason, ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions,
};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A loop that listens on a free port.
pub(crate) struct Real<S: System = Os> {
    pub(crate) el: EventLoop<S>,
    pub(crate) addr: SocketAddr,
}

impl Real {
    pub(crate) fn new(conn: ConnOptions) -> Self {
        Self::with_loop(EventLoop::new(LoopOptions::default()).unwrap(), conn)
    }
}

impl<S: System> Real<S> {
    pub(crate) fn with_loop(mut el: EventLoop<S>, conn: ConnOptions) -> Self {
        let listen = ListenOptions {
            conn,
            ..ListenOptions::default()
        };
        let listener = el.listen("127.0.0.1:0", &listen).unwrap();
        let addr = ip(&el.listener_addr(listener).unwrap());
        Self { el, addr }
    }

    /// A client that never blocks.
    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// A client, and the connection it has become on our side.
    pub(crate) fn pair(&mut self) -> (TcpStream, ConnId) {
        let client = self.client();
        let accepted = self.until(|_, e| match e {
            Event::Accepted { conn, .. } => Some(conn),
            _ => None,
        });
        (client, accepted)
    }

    /// Runs the loop until an event satisfies `look`, or fails.
    pub(crate) fn until<T>(
        &mut self,
        mut look: impl FnMut(&mut EventLoop<S>, Event) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "waited in vain");
            self.el.poll(Some(Duration::from_millis(50))).unwrap();
            while let Some(event) = self.el.next_event() {
                if let Some(found) = look(&mut self.el, event) {
                    return found;
                }
            }
        }
    }

    /// Runs the loop until `done`, which is asked between the turns, holds; returns the events.
    pub(crate) fn run_until(
        &mut self,
        mut done: impl FnMut(&mut EventLoop<S>) -> bool,
    ) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        while !done(&mut self.el) {
            assert!(Instant::now() < deadline, "waited in vain");
            self.el.poll(Some(Duration::from_millis(1))).unwrap();
            while let Some(event) = self.el.next_event() {
                events.push(event);
            }
        }
        events
    }

    /// Runs the loop until the connection is gone; returns its last event.
    pub(crate) fn until_closed(&mut self, id: ConnId) -> Event {
        self.until(|_, e| matches!(e, Event::Closed { conn, .. } if conn == id).then_some(e))
    }
}

/// The IP address in an address that is one.
pub(crate) fn ip(addr: &Addr) -> SocketAddr {
    addr.ip().expect("an IP address")
}

/// Why a connection ended.
pub(crate) fn reason_of(event: Event) -> CloseReason {
    match event {
        Event::Closed { reason, .. } => reason,
        other => panic!("{other:?} is not an end"),
    }
}

/// Reads what is there; true at the end of stream.
pub(crate) fn read_some(client: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut buf = [0; 65536];
    loop {
        match client.read(&mut buf) {
            Ok(0) => return true,
            Ok(n) => into.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) => panic!("the client reads: {e}"),
        }
    }
}

/// Writes as much as there is room for; returns how much that was.
pub(crate) fn write_some(client: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match client.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("the client writes: {e}"),
        }
    }
    written
}

/// Resets a connection: what close(2) does with SO_LINGER {1, 0}.
pub(crate) fn reset(client: TcpStream) {
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}
