//! A loop with UDP sockets, for one thread and with deadlines.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use echoloop_core::sys::{Os, System};
use echoloop_core::{Event, EventLoop, LoopOptions, UdpId, UdpOptions};

use super::real::PATIENCE;

/// A datagram, as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Got {
    pub(crate) at: UdpId,
    pub(crate) from: SocketAddr,
    pub(crate) to: Option<IpAddr>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) truncated: bool,
}

/// A loop, and all that its UDP sockets were told.
pub(crate) struct Udps<S: System = Os> {
    pub(crate) el: EventLoop<S>,
    pub(crate) got: Vec<Got>,
    /// Events that are not `Datagrams`.
    pub(crate) told: Vec<Event>,
    /// How many `Datagrams` there were.
    pub(crate) batches: usize,
}

impl Udps {
    pub(crate) fn new() -> Self {
        Self::with_loop(EventLoop::new(LoopOptions::default()).unwrap())
    }
}

impl<S: System> Udps<S> {
    pub(crate) fn with_loop(el: EventLoop<S>) -> Self {
        Self {
            el,
            got: Vec::new(),
            told: Vec::new(),
            batches: 0,
        }
    }

    /// A socket of the loop, and its address.
    pub(crate) fn bind(&mut self, on: &str, options: &UdpOptions) -> (UdpId, SocketAddr) {
        let udp = self.el.bind_udp(on, options).unwrap();
        (udp, self.el.udp(udp).unwrap().local_addr().unwrap())
    }

    /// A socket on IPv4 loopback with the default options.
    pub(crate) fn plain(&mut self) -> (UdpId, SocketAddr) {
        self.bind("127.0.0.1:0", &UdpOptions::default())
    }

    /// A socket on IPv4 loopback that is connected.
    pub(crate) fn connected(&mut self, peer: SocketAddr) -> (UdpId, SocketAddr) {
        let options = UdpOptions {
            connect: Some(peer),
            ..UdpOptions::default()
        };
        self.bind("127.0.0.1:0", &options)
    }

    /// One turn: polls once and takes all events.
    pub(crate) fn turn(&mut self, patience: Duration) {
        self.el.poll(Some(patience)).unwrap();
        while let Some(event) = self.el.next_event() {
            let Event::Datagrams { udp } = event else {
                self.told.push(event);
                continue;
            };
            self.batches += 1;
            let view = self.el.udp(udp).unwrap();
            let before = self.got.len();
            self.got.extend(view.datagrams().map(|d| Got {
                at: udp,
                from: d.from,
                to: d.to,
                bytes: d.bytes.to_vec(),
                truncated: d.truncated,
            }));
            assert_ne!(self.got.len(), before, "a batch has something");
        }
    }

    /// Runs until `done` holds, which is asked between the turns.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain: {:?}", self.told);
            self.turn(Duration::from_millis(5));
        }
    }

    /// Runs until so many datagrams have arrived since the last time, and takes them.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Got> {
        self.run_until(|all| all.got.len() >= count);
        std::mem::take(&mut self.got)
    }

    /// The error numbers that a socket was told.
    pub(crate) fn errors(&self, of: UdpId) -> Vec<i32> {
        let errno = |e: &Event| match e {
            Event::UdpError { udp, errno } if *udp == of => Some(*errno),
            _ => None,
        };
        self.told.iter().filter_map(errno).collect()
    }
}

/// A peer of std's, which blocks, with a deadline.
pub(crate) fn peer() -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = peer.local_addr().unwrap();
    (peer, addr)
}

/// An address of this machine where nobody is.
pub(crate) fn nobody() -> SocketAddr {
    peer().1
}

/// Answers all datagrams of one event.
pub(crate) fn echo<S: System>(el: &mut EventLoop<S>, udp: UdpId) -> usize {
    let (datagrams, mut sender) = el.udp(udp).unwrap().split();
    let mut echoed = 0;
    for datagram in datagrams {
        sender
            .send_from(datagram.to, datagram.from, datagram.bytes)
            .unwrap();
        echoed += 1;
    }
    echoed
}

/// Echoes until so many datagrams were.
pub(crate) fn echo_until(el: &mut EventLoop, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut echoed = 0;
    while echoed < count {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            if let Event::Datagrams { udp } = event {
                echoed += echo(el, udp);
            }
        }
    }
    el.poll(Some(Duration::ZERO)).unwrap();
}
