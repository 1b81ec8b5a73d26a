//! A simulated system: an in-memory network with a clock of its own, unkind by a seed.
//!
//! The rule: it keeps the contract of [`System`](super::System) to the letter and not an inch
//! further, so a loop that relies on more fails on it. It cuts reads and writes into random
//! pieces, answers `EAGAIN` and `EINTR` at random, and resets connections at random, as
//! [`SimOptions`] say. Time passes only in `wait`, by its timeout, and only when nothing is ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::{Readiness, Ready, System, WAKER, Waker};
use crate::testing::Random;
use crate::{ConnectOptions, ListenOptions};

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
/// the same network: keep one to play the peers.
#[derive(Clone)]
pub struct Sim {
    net: Rc<RefCell<Net>>,
    woken: Arc<AtomicBool>,
}

/// A socket of the simulated system.
#[derive(Debug)]
pub struct SimSocket(usize);

/// The other end of a connection, played by the test.
#[derive(Clone)]
pub struct Peer {
    net: Rc<RefCell<Net>>,
    index: usize,
}

struct Net {
    clock: u64,
    random: Random,
    options: SimOptions,
    sockets: Vec<Socket>,
    /// What the next connects of the loop meet; established when nothing is planned.
    plans: VecDeque<Plan>,
    /// Peers of connects of the loop, not yet taken by the test.
    connected: VecDeque<usize>,
    /// Accepts that answer this error before any other.
    accept_errors: VecDeque<Errno>,
}

/// What a connect of the loop meets.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Refused,
    Silent,
}

#[derive(Default)]
struct Socket {
    token: Option<u64>,
    open: bool,
    listener: Option<SocketAddr>,
    backlog: VecDeque<usize>,
    to_loop: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    peer_finished: bool,
    loop_finished: bool,
    reset: bool,
    refused: bool,
    /// Connecting to nobody: never ready.
    silent: bool,
    /// A read, or write, has found the end since the last report: report again when there is more.
    read_armed: bool,
    write_armed: bool,
    told_end: bool,
}

impl Sim {
    /// A network without anybody on it.
    #[must_use]
    pub fn new(options: SimOptions) -> Self {
        let net = Net {
            clock: 1,
            random: Random::new(options.seed),
            options,
            sockets: Vec::new(),
            plans: VecDeque::new(),
            connected: VecDeque::new(),
            accept_errors: VecDeque::new(),
        };
        Self {
            net: Rc::new(RefCell::new(net)),
            woken: Arc::default(),
        }
    }

    /// Connects to a listener of the loop.
    ///
    /// # Panics
    ///
    /// When nobody listens on `addr`.
    #[must_use]
    pub fn connect_to(&self, addr: SocketAddr) -> Peer {
        let mut net = self.net.borrow_mut();
        let index = net.open();
        let listening = |s: &&mut Socket| s.open && s.listener == Some(addr);
        let listener = net
            .sockets
            .iter_mut()
            .find(listening)
            .expect("somebody listens");
        listener.backlog.push_back(index);
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

    /// Sockets that are open on the loop's side, listeners included.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.net.borrow().sockets.iter().filter(|s| s.open).count()
    }
}

impl Peer {
    /// Sends as much of `bytes` as there is room for, and returns how much that was.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut net = self.net.borrow_mut();
        let room = net.options.buffer;
        let socket = &mut net.sockets[self.index];
        let n = bytes.len().min(room - socket.to_loop.len().min(room));
        if !socket.reset {
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

    /// Finishes sending.
    pub fn finish(&self) {
        self.net.borrow_mut().sockets[self.index].peer_finished = true;
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

impl Net {
    fn open(&mut self) -> usize {
        let armed = Socket {
            open: true,
            read_armed: true,
            write_armed: true,
            ..Socket::default()
        };
        self.sockets.push(armed);
        self.sockets.len() - 1
    }

    fn chance(&mut self, one_in: u64) -> bool {
        one_in != 0 && self.random.one_in(one_in)
    }

    fn interrupts(&mut self) -> bool {
        self.chance(self.options.interrupt)
    }

    fn refuses_now(&mut self) -> bool {
        self.chance(self.options.again)
    }

    /// How many of `n` bytes this call moves.
    fn piece(&mut self, n: usize) -> usize {
        if n > 1 && self.chance(self.options.cut) {
            1 + self.random.below(n as u64 - 1) as usize
        } else {
            n
        }
    }

    /// What may befall a call on a connection before it does anything.
    fn mishap(&mut self, index: usize) -> Result<(), Errno> {
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

    /// What is to be reported of a socket, if anything.
    fn readiness(&mut self, index: usize) -> Option<Ready> {
        let room = self.options.buffer;
        let s = &mut self.sockets[index];
        let token = s.token.filter(|_| s.open && !s.silent)?;
        let failed = (s.reset || s.refused) && !s.told_end;
        let ended = s.peer_finished && !s.told_end;
        let readable = s.read_armed && (!s.to_loop.is_empty() || !s.backlog.is_empty());
        let writable = s.write_armed && s.to_peer.len() < room && s.listener.is_none();
        if !(failed || ended || readable || writable) {
            return None;
        }
        s.read_armed &= !readable;
        s.write_armed &= !writable;
        s.told_end |= failed || ended;
        let readiness = Readiness::default()
            .and(Readiness::READABLE, readable)
            .and(Readiness::WRITABLE, writable)
            .and(Readiness::READ_CLOSED, ended)
            .and(Readiness::ERROR, failed);
        Some(Ready { token, readiness })
    }
}

impl System for Sim {
    type Socket = SimSocket;

    fn now(&self) -> u64 {
        self.net.borrow().clock
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        let net = &mut *self.net.borrow_mut();
        if net.interrupts() {
            return Err(Errno::INTR);
        }
        if self.woken.swap(false, Ordering::Relaxed) {
            ready.push(Ready {
                token: WAKER,
                readiness: Readiness::READABLE,
            });
        }
        for index in 0..net.sockets.len() {
            ready.extend(net.readiness(index));
        }
        for place in (1..ready.len()).rev() {
            let other = net.random.below(place as u64 + 1) as usize;
            ready.swap(place, other);
        }
        if ready.is_empty() {
            net.clock += timeout.map_or(1_000_000, |t| t.as_nanos() as u64);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || woken.store(true, Ordering::Relaxed))
    }

    fn register(&mut self, socket: &SimSocket, token: u64) -> Result<(), Errno> {
        self.net.borrow_mut().sockets[socket.0].token = Some(token);
        Ok(())
    }

    fn listen(&mut self, addr: SocketAddr, _: &ListenOptions) -> Result<SimSocket, Errno> {
        let net = &mut *self.net.borrow_mut();
        if net
            .sockets
            .iter()
            .any(|s| s.open && s.listener == Some(addr))
        {
            return Err(Errno::ADDRINUSE);
        }
        let index = net.open();
        net.sockets[index].listener = Some(addr);
        Ok(SimSocket(index))
    }

    fn accept(&mut self, listener: &SimSocket) -> Result<(SimSocket, SocketAddr), Errno> {
        let net = &mut *self.net.borrow_mut();
        if let Some(e) = net.accept_errors.pop_front() {
            return Err(e);
        }
        let again = net.refuses_now();
        let socket = &mut net.sockets[listener.0];
        match if again {
            None
        } else {
            socket.backlog.pop_front()
        } {
            Some(index) => Ok((
                SimSocket(index),
                SocketAddr::from(([10, 0, 0, 1], index as u16)),
            )),
            None => {
                socket.read_armed = true;
                Err(Errno::AGAIN)
            }
        }
    }

    fn connect(&mut self, _: SocketAddr, _: &ConnectOptions) -> Result<SimSocket, Errno> {
        let net = &mut *self.net.borrow_mut();
        let index = net.open();
        match net.plans.pop_front() {
            Some(Plan::Refused) => net.sockets[index].refused = true,
            Some(Plan::Silent) => net.sockets[index].silent = true,
            None => net.connected.push_back(index),
        }
        Ok(SimSocket(index))
    }

    fn take_error(&mut self, socket: &SimSocket) -> Option<Errno> {
        let net = self.net.borrow();
        let socket = &net.sockets[socket.0];
        if socket.refused {
            return Some(Errno::CONNREFUSED);
        }
        socket.reset.then_some(Errno::CONNRESET)
    }

    fn local_addr(&self, socket: &SimSocket) -> Result<SocketAddr, Errno> {
        let listener = self.net.borrow().sockets[socket.0].listener;
        Ok(listener.unwrap_or_else(|| SocketAddr::from(([10, 0, 0, 2], 7))))
    }

    fn recv(&mut self, socket: &SimSocket, buf: &mut [u8]) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        net.mishap(socket.0)?;
        let again = net.refuses_now();
        let arrived = net.sockets[socket.0].to_loop.len();
        let n = net.piece(buf.len().min(arrived));
        let socket = &mut net.sockets[socket.0];
        if socket.to_loop.is_empty() && socket.peer_finished {
            return Ok(0);
        }
        if socket.to_loop.is_empty() || again {
            socket.read_armed = true;
            return Err(Errno::AGAIN);
        }
        socket.read_armed |= n < buf.len();
        for (place, byte) in buf.iter_mut().zip(socket.to_loop.drain(..n)) {
            *place = byte;
        }
        Ok(n)
    }

    fn send(&mut self, socket: &SimSocket, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        net.mishap(socket.0)?;
        let again = net.refuses_now();
        let offered: usize = bufs.iter().map(|b| b.len()).sum();
        let room = net
            .options
            .buffer
            .saturating_sub(net.sockets[socket.0].to_peer.len());
        let n = net.piece(offered.min(room));
        let socket = &mut net.sockets[socket.0];
        if socket.loop_finished {
            return Err(Errno::PIPE);
        }
        if n == 0 || again {
            socket.write_armed = true;
            return Err(Errno::AGAIN);
        }
        socket.write_armed |= n < offered;
        socket
            .to_peer
            .extend(bufs.iter().flat_map(|b| b.iter()).take(n));
        Ok(n)
    }

    fn shutdown_write(&mut self, socket: &SimSocket) -> Result<(), Errno> {
        self.net.borrow_mut().sockets[socket.0].loop_finished = true;
        Ok(())
    }

    fn close(&mut self, socket: SimSocket) {
        let net = &mut *self.net.borrow_mut();
        let socket = &mut net.sockets[socket.0];
        socket.open = false;
        socket.token = None;
        let unaccepted = std::mem::take(&mut socket.backlog);
        // As TCP has it: input that nobody will read is answered with a reset.
        socket.reset |= !socket.to_loop.is_empty();
        for index in unaccepted {
            net.sockets[index].open = false;
            net.sockets[index].reset = true;
        }
    }

    fn abort(&mut self, socket: SimSocket) {
        self.net.borrow_mut().sockets[socket.0].reset = true;
        self.close(socket);
    }
}
