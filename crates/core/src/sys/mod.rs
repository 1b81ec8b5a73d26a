//! The narrow interface to the operating system, and its contract.
//!
//! All that a loop asks of the kernel goes through [`System`]. [`Os`] is the real one; the feature
//! `sim` adds `Sim`, an in-memory network with a clock of its own that cuts every read and write
//! into random pieces and fails at random, from a seed.
//!
//! # The contract
//!
//! An implementation must keep this, and the loop relies on nothing else:
//!
//! 1. **Nothing blocks but `wait`.** Every other call answers at once; "not now" is `EAGAIN`.
//! 2. **Registration is once, for both directions, for life.** `accept` and `connect` do not
//!    register; the loop calls `register` once, with a token, and never again.
//! 3. **Readiness is edge-triggered.** After a call answered `EAGAIN`, or read or wrote less than
//!    it was offered, the next `wait` after the socket becomes ready again reports it. Between
//!    those it may report at any time, also wrongly: readiness is a hint (save for a connect, 10).
//! 4. **A short read means drained**, unless the report carried `read_closed` or `error`: then end
//!    of stream or the error is still to be read, and no further report will come for it.
//! 5. **`wait` answers `EINTR` when a signal came**, and then has reported nothing.
//! 6. **`recv` of 0 bytes is end of stream**, and is repeated by every further `recv`.
//! 7. **`send` raises no SIGPIPE**: a dead peer is `EPIPE` or `ECONNRESET`. What it sent before is
//!    still to be read, without an `EAGAIN`; then `recv` answers the error, or end of stream when
//!    another call has answered it.
//! 8. **After `close` or `abort` no report carries the token**, save those already handed out;
//!    `close` lets the kernel deliver what it took, `abort` resets the connection.
//! 9. **The clock is monotonic**, in nanoseconds from any fixed point.
//! 10. **`connect` may answer at once or later**: `Ok` means under way. A report of writability or
//!     an error is the answer, and `take_error` tells which.
//! 11. **A socket may change hands.** `check_adopted` answers the peer's address of a connected
//!     stream socket, after making it non-blocking and close-on-exec and applying the options;
//!     `EPROTOTYPE` for one of another type, `EINVAL` for one that listens, `ENOTCONN`; then it has
//!     changed nothing. `adopt_listener` answers likewise for one that does not listen. `adopt`
//!     makes a socket of it and registers it; `EEXIST` for one that is registered already, which goes
//!     on as it was. `release` undoes that: it is registered no more, and nothing else happens to it.
//!     A system without descriptors answers with what it was given.
//! 12. **Options of a socket are set before it listens or connects**, and handed down to what a
//!     listener accepts, save for what only `tune` can give. When an option was refused, the call
//!     fails and `refused_option` names it, once: `"set TCP_NOTSENT_LOWAT"`.
//! 13. **`listen` on a Unix path makes the file and `unlisten` or dropping the system removes it**,
//!     if it is still the one that was made, and only in the process that made it. `unlisten` is
//!     otherwise `close`. `adopt_listener` owns no file. `share` duplicates the descriptor of a
//!     listener or a UDP socket for another process; the file then goes by `unlisten` alone, and only
//!     if nobody else has the socket by then.
//! 14. **Descriptors of the program are watched by number**, edge-triggered: `watch` answers
//!     `EEXIST` when this open file is registered under this number already, and `EPERM` when it is of
//!     a kind that is always ready. `rewatch` changes token and interest, and makes what is ready be
//!     reported once more. It and `probe` fail when the number is closed, or names another open file
//!     than it did, also one of the system's own; `unwatch` then does nothing. A report says what
//!     poll(2) would (bits as named in `Readiness`), save that with `PRIORITY` it may say `READABLE`,
//!     and with both `ERROR` and `WRITABLE` hang-up, for nothing: `look_again` knows, if it can.
//! 15. **At the time of `set_alarm`, never before, `wait` returns** with a report of `ALARM`,
//!     once, and the system's own descriptor is readable until that report was handed out. Setting
//!     the alarm anew, or to `None`, takes back one that was not handed out. A system without an
//!     alarm answers `ENOSYS`; then timers are as fine as the timeouts of `wait`.
//! 16. **After `watch_signal`, at most once for each number, a signal is reported** by `SIGNALS`
//!     and then handed out by `take_signals`, several of a number once, none never. `EINVAL` is for
//!     what is no signal or can't be watched; then nothing was touched.
//! 17. **`forked` says that this is a child of the process that made the system**, until `after_fork`
//!     has made it the child's own, with nothing registered, watched or looked up. In between no
//!     call disturbs the parent. Wakers from before reach the child's system then.
//!
//! Datagrams have a contract of their own, at the top of `sys/udp.rs`.
//!
//! Names (a system that has none leaves the defaults):
//!
//! - **`lookup` starts to resolve a name**, under a token that no other lookup has, and answers
//!   `ENOBUFS` when too many are under way. Each lookup has one answer, which `looked_up` hands
//!   out, unless `cancel_lookup` came first. `wait` reports `WAKER` after an answer came in; the
//!   report may stand for several, so the loop takes all.
//! - **`use_resolver` comes before the first lookup**, if at all: the function that answers them.
//! - **`reregister` gives a registered socket another token**, and reports anew, under that token,
//!   whatever the socket is ready for. Reports under the old token come no more, save those
//!   already handed out.
//! - **`may_free_up` tells** of a connect that failed whether what it lacked was a thing that this
//!   machine may have again: descriptors, memory, ports, room in a backlog.

mod one_shot;
mod os;
#[cfg(any(test, feature = "sim"))]
mod random;
mod readiness;
#[cfg(any(test, feature = "sim"))]
mod sim;
mod udp;

use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

pub(crate) use one_shot::OneShot;
pub use os::Os;
#[cfg(any(test, feature = "sim"))]
pub use random::Random;
pub use readiness::{Interest, Readiness, WatchMode};
#[cfg(any(test, feature = "sim"))]
pub use sim::{Meets, Peer, Sim, SimOptions, SimSocket};
pub use udp::{Membership, UdpChange, UdpFeatures, UdpPlaces, UdpReceived, UdpSend};

use crate::{
    Addr, ConnOptions, ConnectOptions, Keepalive, ListenOptions, ResolveError, Resolver, UdpOptions,
};

/// The token by which `wait` reports that a [`Waker`] was used.
pub(crate) const WAKER: u64 = 0;
/// The token by which `wait` reports that the alarm went off.
pub(crate) const ALARM: u64 = 2;
/// The token by which `wait` reports that signals came.
pub(crate) const SIGNALS: u64 = 4;

/// One report of readiness.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token the socket was registered with, which is odd, or an even one for what the system
    /// tells of itself: 0 for the waker, 2 for the alarm, 4 for signals.
    pub token: u64,
    /// What the socket is ready for.
    pub readiness: Readiness,
}

/// Ends a `wait`, now or the next, from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Who is at the other end of a Unix socket: its process as it was when it connected, or, for a
/// listener's process, when it called listen(2) (unix(7), SO_PEERCRED).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The process; `None` for one that this process can't see, in another pid namespace. It may
    /// have ended, and its number may be another's, by the time it is looked at.
    pub pid: Option<i32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// An option of a socket that may change while a connection lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketOption {
    /// TCP_NODELAY.
    Nodelay(bool),
    /// SO_KEEPALIVE and its times.
    Keepalive(Option<Keepalive>),
    /// TCP_NOTSENT_LOWAT; `None` is the kernel's default.
    NotsentLowat(Option<u32>),
}

/// The operating system as the loop sees it; the module's documentation is its contract.
#[allow(missing_docs, reason = "the contract above says it all at once")]
pub trait System {
    /// An open socket. Dropping it closes it.
    type Socket;

    fn now(&self) -> u64;
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno>;
    fn waker(&self) -> Waker;
    fn set_alarm(&mut self, _at: Option<u64>) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn forked(&mut self) -> bool {
        false
    }
    fn after_fork(&mut self) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn watch_signal(&mut self, _number: i32) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn unwatch_signal(&mut self, _number: i32) {}
    fn take_signals(&mut self, _into: &mut Vec<i32>) {}
    fn register(&mut self, socket: &Self::Socket, token: u64) -> Result<(), Errno>;

    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<Self::Socket, Errno>;
    fn accept(&mut self, listener: &Self::Socket) -> Result<(Self::Socket, Addr), Errno>;
    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<Self::Socket, Errno>;
    fn take_error(&mut self, socket: &Self::Socket) -> Option<Errno>;
    fn local_addr(&self, socket: &Self::Socket) -> Result<Addr, Errno>;

    fn recv(&mut self, socket: &Self::Socket, buf: &mut [u8]) -> Result<usize, Errno>;
    fn send(&mut self, socket: &Self::Socket, bufs: &[IoSlice<'_>]) -> Result<usize, Errno>;
    fn shutdown_write(&mut self, socket: &Self::Socket) -> Result<(), Errno>;

    fn tune(&mut self, _: &Self::Socket, _: &ConnOptions) -> Result<(), Errno> {
        Ok(())
    }
    fn set(&mut self, _: &Self::Socket, _: SocketOption) -> Result<(), Errno> {
        Ok(())
    }
    fn refused_option(&mut self) -> Option<&'static str> {
        None
    }
    fn adopt_listener(&mut self, _: OwnedFd, _: &ListenOptions) -> Result<Self::Socket, Errno> {
        Err(Errno::NOSYS)
    }
    fn unlisten(&mut self, listener: Self::Socket) {
        self.close(listener);
    }
    fn share(&mut self, _: &Self::Socket) -> Result<OwnedFd, Errno> {
        Err(Errno::NOSYS)
    }
    fn peer_credentials(&self, _: &Self::Socket) -> Result<Credentials, Errno> {
        Err(Errno::NOSYS)
    }

    fn close(&mut self, socket: Self::Socket);
    fn abort(&mut self, socket: Self::Socket);

    fn check_adopted(&mut self, _: BorrowedFd<'_>, _: &ConnOptions) -> Result<Addr, Errno> {
        Err(Errno::NOSYS)
    }
    fn adopt(&mut self, socket: OwnedFd, _token: u64) -> Result<Self::Socket, (Errno, OwnedFd)> {
        Err((Errno::NOSYS, socket))
    }
    fn release(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        Err(socket)
    }

    fn watch(&mut self, _fd: RawFd, _token: u64, _interest: Interest) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn rewatch(&mut self, _fd: RawFd, _token: u64, _interest: Interest) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn unwatch(&mut self, _fd: RawFd) {}
    fn probe(&mut self, _fd: RawFd) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn look_again(&mut self, _fd: RawFd) -> Option<Readiness> {
        None
    }

    fn reregister(&mut self, _socket: &Self::Socket, _token: u64) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn may_free_up(&mut self, _to: &Addr, _options: &ConnectOptions, e: Errno) -> bool {
        matches!(
            e,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN
        )
    }
    fn use_resolver(&mut self, _resolver: &Resolver) {}
    fn lookup(&mut self, _token: u64, _host: &Arc<str>) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn cancel_lookup(&mut self, _token: u64) {}
    fn looked_up(&mut self) -> Option<(u64, Answer)> {
        None
    }

    fn udp_bind(
        &mut self,
        _addr: &Addr,
        _options: &UdpOptions,
    ) -> Result<(Self::Socket, UdpFeatures), Errno> {
        Err(Errno::NOSYS)
    }
    fn udp_adopt(
        &mut self,
        _fd: OwnedFd,
        _options: &UdpOptions,
    ) -> Result<(Self::Socket, UdpFeatures), Errno> {
        Err(Errno::NOSYS)
    }
    fn udp_change(&mut self, _socket: &Self::Socket, _change: UdpChange) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn udp_recv(
        &mut self,
        _socket: &Self::Socket,
        _places: &UdpPlaces,
        _buf: &mut [u8],
        _received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
    fn udp_send(
        &mut self,
        _socket: &Self::Socket,
        _bytes: &[u8],
        _messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }
}

/// What a lookup came to: addresses in the order to try them, or why there are none.
pub type Answer = Result<Vec<IpAddr>, ResolveError>;
