//! What a loop tells: events, and the reasons for which connections end.
//!
//! The rule: an [`Event`] is `Copy` and holds ids and kinds, never bytes and never a pointer. The
//! bytes are read through [`Connection`](crate::Connection).

use std::fmt;

use crate::error::{errno_name, errno_text};
use crate::sys::Readiness;
use crate::{ConnId, ListenerId, LookupId, ResolveError, SignalId, TimerId, UdpId, WatchId};

/// One thing that happened. [`EventLoop::next_event`](crate::EventLoop::next_event) hands them out.
///
/// For one connection the order is: `Accepted`, `Connected` (perhaps after `ConnectPaused`) or
/// `Adopted` first (a failed connect has none of them), then any number of `Data`, `Congested` and
/// `Drained`, at most one `EndOfStream`, after which no new bytes come, and `Closed` last, exactly
/// once (promise 3).
///
/// A `match` needs an arm for the rest: kinds that a program never asks for never come, and a later
/// version may add some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A listener accepted a connection.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// Where it came in.
        listener: ListenerId,
    },
    /// A connection that [`connect`](crate::EventLoop::connect) asked for is made.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// A connection that was made elsewhere is this loop's now: one that
    /// [`adopt`](crate::EventLoop::adopt) took, or that another loop
    /// [handed over](crate::EventLoop::hand_over).
    Adopted {
        /// The connection.
        conn: ConnId,
    },
    /// A connect waits for a descriptor or a port of this machine to be free, and goes on by
    /// itself within its deadline. Told once for each connection.
    ConnectPaused {
        /// The connection.
        conn: ConnId,
        /// The error number: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ENOSPC` (of watches, epoll(7)),
        /// `EADDRNOTAVAIL` or `EADDRINUSE` (no port is free), `EAGAIN` (a full backlog, unix(7)).
        errno: i32,
    },
    /// Bytes arrived: [`Connection::received`](crate::Connection::received) has them, together
    /// with what was left unread before.
    Data {
        /// The connection.
        conn: ConnId,
    },
    /// More than the high mark waits to be sent. Reading from the connection is paused until
    /// `Drained`, unless that was switched off (promise 5).
    Congested {
        /// The connection.
        conn: ConnId,
    },
    /// After `Congested`: no more than the low mark waits, and reading goes on. What is unread is
    /// offered again.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// The peer has finished sending (promise 6). Unless half-open was asked for, what is queued
    /// is now flushed and the connection closes; this event's handler may still send.
    EndOfStream {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended. The handle is good until the next call of `next_event` or `poll`,
    /// for its user data, address and unread bytes; then it is stale.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, the one reason.
        reason: CloseReason,
        /// Bytes that `send` took and that never left.
        unsent: u64,
    },
    /// A timer is due. A one-shot timer that its handler does not re-arm is gone after this event.
    Timer {
        /// The timer.
        timer: TimerId,
    },
    /// A word that a [`Remote`](crate::Remote) posted.
    Posted {
        /// The word.
        word: u64,
    },
    /// A [`Remote`](crate::Remote) asked this loop to stop. What to stop is the program's.
    Stop,
    /// A listener can't accept for want of descriptors or memory. Nothing is lost: those who knock
    /// wait in the backlog, and accepting goes on by itself as soon as it can (promise 9).
    AcceptPaused {
        /// The listener.
        listener: ListenerId,
        /// The error number: `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`; `ENOSPC` when the selector has
        /// no room (epoll(7), max_user_watches); that of the last when 64 accepts in a row have failed.
        errno: i32,
    },
    /// After `AcceptPaused`: the listener accepts again.
    AcceptResumed {
        /// The listener.
        listener: ListenerId,
    },
    /// A descriptor of [`watch`](crate::EventLoop::watch) is ready. With
    /// [`WatchMode::Level`](crate::WatchMode::Level) it is told again in the next turn as long as
    /// it stays so.
    Watch {
        /// The watch.
        watch: WatchId,
        /// What the descriptor is ready for.
        readiness: Readiness,
    },
    /// A watched descriptor was closed without `unwatch` (promise 11). The watch is gone after
    /// this event.
    WatchDead {
        /// The watch.
        watch: WatchId,
        /// The number of the descriptor, which may name another one by now: do not close it.
        fd: i32,
    },
    /// Datagrams arrived: [`Udp::datagrams`](crate::Udp::datagrams) has them until the next call of
    /// `next_event` or `poll`.
    Datagrams {
        /// The socket.
        udp: UdpId,
    },
    /// A datagram socket learned of an error, such as `ECONNREFUSED` from a peer that is not
    /// there. The socket goes on.
    UdpError {
        /// The socket.
        udp: UdpId,
        /// The error number.
        errno: i32,
    },
    /// After a datagram was refused with `QueueFull`: the queue is empty again.
    UdpDrained {
        /// The socket.
        udp: UdpId,
    },
    /// A lookup has its answer: [`resolved`](crate::EventLoop::resolved) has it until the next call
    /// of `next_event` or `poll`. Then the lookup is gone.
    Resolved {
        /// The lookup.
        lookup: LookupId,
    },
    /// A signal of [`watch_signal`](crate::EventLoop::watch_signal) arrived, once or several times.
    Signal {
        /// The watch of the signal.
        signal: SignalId,
        /// The number of the signal, signal(7).
        number: i32,
    },
    /// The loop holds more than its memory budget: until `UnderBudget` it does not read from
    /// connections with a queue, accepts nobody, and `send` is refused where something is queued.
    /// Those who knock wait in the backlog.
    OverBudget,
    /// After `OverBudget`: an eighth of the budget is free, and the loop goes on.
    UnderBudget,
}

/// How a connection came to its loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// Asked for, by [`EventLoop::connect`](crate::EventLoop::connect).
    Connected,
    /// Accepted by this listener, which may be closed by now.
    Accepted(ListenerId),
    /// [Adopted](crate::EventLoop::adopt), or [handed over](crate::EventLoop::hand_over) by
    /// another loop.
    Adopted,
}

/// Why a connection ended (promise 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer finished sending, and what was queued for it was flushed.
    PeerFinished,
    /// The peer reset the connection (`ECONNRESET` or `EPIPE`). When a write found that out, the
    /// bytes that came before were handed out first.
    Reset,
    /// [`connect`](crate::EventLoop::connect) failed with this error number; of several tries, the
    /// most telling.
    ConnectFailed(i32),
    /// The name to connect to could not be resolved.
    ResolveFailed(ResolveError),
    /// A deadline passed.
    TimedOut(Deadline),
    /// [`Connection::close`](crate::Connection::close) was called here.
    ClosedHere,
    /// [`Connection::abort`](crate::Connection::abort) was called here.
    AbortedHere,
    /// The handler left [`max_unread`](crate::ConnOptions::max_unread) bytes unread, or more than
    /// its share while the loop is over its budget.
    InputTooLarge,
    /// A server or program that shuts down closed it.
    ShutDown,
    /// Its socket was given away, or handed to another loop; the peer noticed nothing.
    GivenAway,
    /// Any other error of the operating system, with its number.
    Error(i32),
}

/// The deadlines a connection can miss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Deadline {
    /// The connection was not made in time.
    Connect,
    /// No byte moved in either direction for the idle timeout.
    Idle,
    /// The peer took no byte of what is queued for the write-stall timeout.
    WriteStall,
    /// A closed connection could not be flushed in time.
    Close,
    /// The peer sent nothing at all for the first-byte timeout.
    FirstByte,
    /// The connection was open for its whole lifetime. What was sent has been flushed.
    Lifetime,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerFinished => f.write_str("peer finished"),
            Self::Reset => f.write_str("reset by peer"),
            Self::ConnectFailed(errno) => {
                write!(
                    f,
                    "connect failed: {} ({})",
                    errno_text(*errno),
                    errno_name(*errno)
                )
            }
            Self::ResolveFailed(e) => e.fmt(f),
            Self::TimedOut(deadline) => write!(f, "timed out: {deadline}"),
            Self::ClosedHere => f.write_str("closed here"),
            Self::AbortedHere => f.write_str("aborted here"),
            Self::InputTooLarge => f.write_str("input too large"),
            Self::ShutDown => f.write_str("shut down"),
            Self::GivenAway => f.write_str("given away"),
            Self::Error(errno) => write!(f, "{} ({})", errno_text(*errno), errno_name(*errno)),
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::WriteStall => "write stall",
            Self::Close => "close",
            Self::FirstByte => "first byte",
            Self::Lifetime => "lifetime",
        })
    }
}
