//! A simulated system: an in-memory network with a clock of its own, unkind by a seed.
//!
//! The rule: it keeps the contract of [`System`](super::System) to the letter and not an inch
//! further, so a loop that relies on more fails on it. It cuts reads and writes into random
//! pieces, answers `EAGAIN` and `EINTR` at random, and resets connections at random, as
//! [`SimOptions`] say. Time passes only in `wait`, by its timeout, and only when nothing is ready.

mod datagrams;
mod hands;
mod net;
mod roads;
mod system;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use net::{Host, Net, Plan, Socket};
pub use roads::Meets;

use crate::sys::Random;
use crate::{Addr, Error};

/// How unkind the simulated system is. The chances are one in so many calls; 0 is never.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// All that is random follows from this.
    pub seed: u64,
    /// Bytes the kernel holds for each direction of a connection.
    pub buffer: usize,
    /// Reads and writes are cut short.
    pub cut: u64,
    /// Reads, writes and accepts answer `EAGAIN` without need.
    pub again: u64,
    /// Reads, writes and waits answer `EINTR`.
    pub interrupt: u64,
    /// Reads and writes find the connection reset.
    pub reset: u64,
}

impl SimOptions {
    /// A kind system: nothing is cut and nothing fails.
    #[must_use]
    pub fn kind(seed: u64) -> Self {
        Self {
            seed,
            buffer: 64 << 10,
            cut: 0,
            again: 0,
            interrupt: 0,
            reset: 0,
        }
    }

    /// Small buffers, and half of all calls go wrong in a way that loses nothing.
    #[must_use]
    pub fn unkind(seed: u64) -> Self {
        Self {
            seed,
            buffer: 4 << 10,
            cut: 2,
            again: 5,
            interrupt: 7,
            reset: 0,
        }
    }
}

/// The simulated system, for [`EventLoop::with_system`](crate::EventLoop::with_system). A clone is
/// the same system: keep one to play the peers. Another loop of the same network has a
/// [`neighbour`](Self::neighbour).
#[derive(Clone)]
pub struct Sim {
    net: Rc<RefCell<Net>>,
    woken: Arc<AtomicBool>,
    /// Whose sockets, alarm and signals these are.
    host: usize,
}

/// A socket of the simulated system. Dropping it closes it.
#[derive(Debug)]
pub struct SimSocket {
    index: usize,
    net: Weak<RefCell<Net>>,
}

/// The other end of a connection, played by the test.
#[derive(Clone)]
pub struct Peer {
    net: Rc<RefCell<Net>>,
    index: usize,
}
impl Sim {
    /// A network without anybody on it.
    #[must_use]
    pub fn new(options: SimOptions) -> Self {
        let net = Net {
            clock: 1,
            hosts: vec![Host::default()],
            // Not the numbers of a test that uses the same seed.
            random: Random::new(options.seed ^ 0x51b),
            options,
            sockets: Vec::new(),
            plans: VecDeque::new(),
            connected: VecDeque::new(),
            accept_errors: VecDeque::new(),
            roads: roads::Roads::default(),
        };
        Self {
            net: Rc::new(RefCell::new(net)),
            woken: Arc::default(),
            host: 0,
        }
    }

    /// A system for another loop on the same network and clock, with sockets, an alarm and signals
    /// of its own. Connections and listeners may change hands between the two.
    #[must_use]
    pub fn neighbour(&self) -> Self {
        let hosts = &mut self.net.borrow_mut().hosts;
        hosts.push(Host::default());
        Self {
            net: Rc::clone(&self.net),
            woken: Arc::default(),
            host: hosts.len() - 1,
        }
    }

    /// Connects to a listener of the loop.
    ///
    /// # Panics
    ///
    /// When nobody listens on `addr`, or it is none.
    #[must_use]
    pub fn connect_to(&self, addr: impl TryInto<Addr, Error: Into<Error>>) -> Peer {
        self.knock(None, addr.try_into().map_err(Into::into))
    }

    /// Likewise, from this address.
    ///
    /// # Panics
    ///
    /// As [`connect_to`](Self::connect_to).
    #[must_use]
    pub fn connect_from(
        &self,
        from: SocketAddr,
        addr: impl TryInto<Addr, Error: Into<Error>>,
    ) -> Peer {
        self.knock(Some(from.into()), addr.try_into().map_err(Into::into))
    }

    fn knock(&self, from: Option<Addr>, addr: Result<Addr, Error>) -> Peer {
        let addr = addr.expect("an address");
        let mut net = self.net.borrow_mut();
        let index = net.open();
        net.sockets[index].peer = from;
        let listening = |s: &&Socket| s.open && s.listener.as_ref() == Some(&addr);
        let listener = net.sockets.iter().find(listening);
        let backlog = listener.and_then(|s| s.backlog.as_ref());
        let backlog = backlog.expect("somebody listens");
        backlog.borrow_mut().push_back(index);
        Peer {
            net: Rc::clone(&self.net),
            index,
        }
    }

    /// The peer of the loop's oldest connect that was not taken yet.
    #[must_use]
    pub fn connected_peer(&self) -> Option<Peer> {
        let index = self.net.borrow_mut().connected.pop_front()?;
        Some(Peer {
            net: Rc::clone(&self.net),
            index,
        })
    }

    /// Lets the next connect of the loop be refused.
    pub fn refuse_next(&self) {
        self.net.borrow_mut().plans.push_back(Plan::Refused);
    }

    /// Lets the next connect of the loop get no answer.
    pub fn ignore_next(&self) {
        self.net.borrow_mut().plans.push_back(Plan::Silent);
    }

    /// Lets the next accept fail with this error number.
    pub fn fail_accept(&self, errno: i32) {
        self.net
            .borrow_mut()
            .accept_errors
            .push_back(Errno::from_raw_os_error(errno));
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.net.borrow_mut().clock += by.as_nanos() as u64;
    }

    /// Lets a signal arrive, which does nothing if nobody watches it.
    pub fn raise(&self, number: i32) {
        let net = &mut *self.net.borrow_mut();
        let host = &mut net.hosts[self.host];
        for (watched, came) in &mut host.signals {
            if *watched == number {
                (*came, host.signalled) = (true, true);
            }
        }
    }

    /// Whether a `wait` would report something: what the descriptor of a real system tells.
    #[must_use]
    pub fn readable(&self) -> bool {
        let net = self.net.borrow();
        let host = &net.hosts[self.host];
        self.woken.load(Ordering::Relaxed)
            || host.alarm.is_some_and(|at| at <= net.clock)
            || host.signalled
            || net.answers_wait(self.host)
            || (0..net.sockets.len()).any(|index| net.edges(self.host, index).is_some())
    }

    /// Sockets that are open on the side of the loops, listeners included.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        let net = &mut *self.net.borrow_mut();
        net.close_lost();
        net.sockets.iter().filter(|s| s.open).count()
    }
}

impl Peer {
    /// Sends as much of `bytes` as there is room for, and returns how much that was.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut net = self.net.borrow_mut();
        let room = net.options.buffer;
        let socket = &mut net.sockets[self.index];
        let n = bytes.len().min(room - socket.to_loop.len().min(room));
        if !socket.reset && !socket.hung_up {
            socket.to_loop.extend(&bytes[..n]);
        }
        n
    }

    /// Takes what has arrived, at most `most` bytes.
    pub fn receive(&self, most: usize) -> Vec<u8> {
        let mut net = self.net.borrow_mut();
        let arrived = &mut net.sockets[self.index].to_peer;
        let n = most.min(arrived.len());
        arrived.drain(..n).collect()
    }

    /// The address by which the loop knows this peer.
    #[must_use]
    pub fn addr(&self) -> Addr {
        self.net.borrow().peer_addr(self.index)
    }

    /// Bytes that have arrived and were not taken yet.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.net.borrow().sockets[self.index].to_peer.len()
    }

    /// Bytes sent that the loop's side has not read yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.net.borrow().sockets[self.index].to_loop.len()
    }

    /// Finishes sending.
    pub fn finish(&self) {
        self.net.borrow_mut().sockets[self.index].peer_finished = true;
    }

    /// Closes without having read all: a reset, but what was sent before is still to be read.
    pub fn hang_up(&self) {
        self.net.borrow_mut().sockets[self.index].hung_up = true;
    }

    /// Resets the connection.
    pub fn reset(&self) {
        self.net.borrow_mut().sockets[self.index].reset = true;
    }

    /// The loop has finished sending, or closed, and all it sent was taken.
    #[must_use]
    pub fn sees_end(&self) -> bool {
        let net = self.net.borrow();
        let socket = &net.sockets[self.index];
        (socket.loop_finished || !socket.open) && socket.to_peer.is_empty()
    }

    /// The connection was reset, by either side.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.net.borrow().sockets[self.index].reset
    }
}
