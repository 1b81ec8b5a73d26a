//! The network of the simulated system: sockets in a table, and what may befall a call on one.
//!
//! The rule: a report is given once, and again only after a call has found the end of what there
//! is; so edges come exactly where the contract demands them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use rustix::io::Errno;

use super::SimOptions;
use super::datagrams::Inbox;
use super::roads::Roads;
use crate::Addr;
use crate::sys::{Random, Readiness, Ready};

pub(super) struct Net {
    pub(super) clock: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) random: Random,
    pub(super) options: SimOptions,
    pub(super) sockets: Vec<Socket>,
    /// What the next connects of the loop meet; established when nothing is planned.
    pub(super) plans: VecDeque<Plan>,
    /// Peers of connects of the loop, not yet taken by the test.
    pub(super) connected: VecDeque<usize>,
    /// Accepts that answer this error before any other.
    pub(super) accept_errors: VecDeque<Errno>,
    pub(super) roads: Roads,
}

/// What each loop has for itself.
#[derive(Default)]
pub(super) struct Host {
    pub(super) alarm: Option<u64>,
    /// Signals that are watched, and whether each came.
    pub(super) signals: Vec<(i32, bool)>,
    /// A signal is to be reported.
    pub(super) signalled: bool,
}

/// What a connect of the loop meets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Refused,
    Silent,
}

#[derive(Default)]
pub(super) struct Socket {
    /// The host whose it is.
    pub(super) owner: usize,
    pub(super) token: Option<u64>,
    pub(super) open: bool,
    /// Where nobody has it, this tells whether the descriptor that stands for it is still open.
    pub(super) in_hand: Option<UnixStream>,
    pub(super) listener: Option<Addr>,
    /// The address of the other end, where it is not made up.
    pub(super) peer: Option<Addr>,
    /// Of a listener: who waits to be accepted, by any of those that share it.
    pub(super) backlog: Option<Rc<RefCell<VecDeque<usize>>>>,
    pub(super) to_loop: VecDeque<u8>,
    pub(super) to_peer: VecDeque<u8>,
    pub(super) peer_finished: bool,
    pub(super) loop_finished: bool,
    pub(super) reset: bool,
    /// Reset, but what the peer had sent is still to be read.
    pub(super) hung_up: bool,
    /// The error of that was answered once.
    pub(super) told_error: bool,
    pub(super) refused: bool,
    /// Connecting to nobody: never ready.
    pub(super) silent: bool,
    /// A connect is answered then.
    pub(super) answers_at: u64,
    /// A read, or write, has found the end since the last report: report again when there is more.
    pub(super) read_armed: bool,
    pub(super) write_armed: bool,
    pub(super) told_end: bool,
    /// A UDP socket has one.
    pub(super) inbox: Option<Inbox>,
}

impl Net {
    /// Opens a socket that is nobody's yet.
    pub(super) fn open(&mut self) -> usize {
        let armed = Socket {
            open: true,
            read_armed: true,
            write_armed: true,
            ..Socket::default()
        };
        self.sockets.push(armed);
        self.sockets.len() - 1
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        one_in != 0 && self.random.one_in(one_in)
    }

    pub(super) fn interrupts(&mut self) -> bool {
        self.chance(self.options.interrupt)
    }

    pub(super) fn refuses_now(&mut self) -> bool {
        self.chance(self.options.again)
    }

    /// How many of `n` bytes this call moves.
    pub(super) fn piece(&mut self, n: usize) -> usize {
        if n > 1 && self.chance(self.options.cut) {
            1 + self.random.below(n as u64 - 1) as usize
        } else {
            n
        }
    }

    /// What may befall a call on a connection before it does anything.
    pub(super) fn mishap(&mut self, index: usize) -> Result<(), Errno> {
        if self.interrupts() {
            return Err(Errno::INTR);
        }
        if self.chance(self.options.reset) {
            self.sockets[index].reset = true;
        }
        if self.sockets[index].reset {
            return Err(Errno::CONNRESET);
        }
        Ok(())
    }

    /// What a call on a socket that hung up answers: the error once, as Linux has it.
    pub(super) fn hang_up(&mut self, index: usize) -> Option<Errno> {
        let s = &mut self.sockets[index];
        let first = s.hung_up && !std::mem::replace(&mut s.told_error, true);
        first.then_some(Errno::CONNRESET)
    }

    /// Closes a socket, and the backlog that nobody else has.
    pub(super) fn close(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if !std::mem::take(&mut socket.open) {
            return;
        }
        socket.token = None;
        socket.in_hand = None;
        // As TCP has it: input that nobody will read is answered with a reset.
        socket.reset |= !socket.to_loop.is_empty();
        let Some(unaccepted) = socket.backlog.take().and_then(Rc::into_inner) else {
            return;
        };
        for index in unaccepted.into_inner() {
            self.sockets[index].open = false;
            self.sockets[index].reset = true;
        }
    }

    /// The address of whoever is at the other end.
    pub(super) fn peer_addr(&self, index: usize) -> Addr {
        let peer = self.sockets[index].peer.clone();
        peer.unwrap_or_else(|| SocketAddr::from(([10, 0, 0, 1], index as u16)).into())
    }

    /// What is to be reported to a host of a socket, if anything.
    pub(super) fn readiness(&mut self, host: usize, index: usize) -> Option<Ready> {
        let edges = self.edges(host, index)?;
        let s = &mut self.sockets[index];
        s.read_armed &= !edges.readable;
        s.write_armed &= !edges.writable;
        s.told_end |= edges.failed || edges.ended;
        let readiness = Readiness::default()
            .and(Readiness::READABLE, edges.readable)
            .and(Readiness::WRITABLE, edges.writable)
            .and(Readiness::READ_CLOSED, edges.ended)
            .and(Readiness::ERROR, edges.failed);
        Some(Ready {
            token: edges.token,
            readiness,
        })
    }

    /// What the next `readiness` of a socket reports, if anything.
    pub(super) fn edges(&self, host: usize, index: usize) -> Option<Edges> {
        let room = self.options.buffer;
        let s = &self.sockets[index];
        if s.owner != host {
            return None;
        }
        let answered = !s.silent && s.answers_at <= self.clock;
        let arrived = s.inbox.as_ref().is_some_and(|i| !i.arrived.is_empty());
        let knocks = s.backlog.as_ref().is_some_and(|b| !b.borrow().is_empty());
        let unreachable = s.inbox.as_ref().is_some_and(|i| i.refusal.is_some());
        let edges = Edges {
            token: s.token.filter(|_| s.open && answered)?,
            failed: (s.reset || s.hung_up || s.refused || unreachable) && !s.told_end,
            ended: (s.hung_up || s.peer_finished) && !s.told_end,
            readable: s.read_armed && (!s.to_loop.is_empty() || knocks || arrived),
            writable: s.write_armed && s.to_peer.len() < room && s.listener.is_none(),
        };
        (edges.failed || edges.ended || edges.readable || edges.writable).then_some(edges)
    }
}

/// What has changed at a socket since it was reported.
pub(super) struct Edges {
    token: u64,
    failed: bool,
    ended: bool,
    readable: bool,
    writable: bool,
}
