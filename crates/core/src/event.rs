//! What a loop tells: events, and the reasons for which connections end.
//!
//! The rule: an [`Event`] is `Copy` and holds ids and kinds, never bytes and never a pointer. The
//! bytes are read through [`Connection`](crate::Connection).

use std::fmt;

use crate::error::{errno_name, errno_text};
use crate::{ConnId, ListenerId, TimerId};

/// One thing that happened. [`EventLoop::next_event`](crate::EventLoop::next_event) hands them out.
///
/// For one connection the order is: `Accepted` or `Connected` first (a failed connect has neither),
/// then any number of `Data`, `Congested` and `Drained`, at most one `EndOfStream`, after which no
/// new bytes come, and `Closed` last, exactly once (promise 3).
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
    /// After `Congested`: no more than the low mark waits, and reading goes on.
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
        /// The error number: `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
        errno: i32,
    },
    /// After `AcceptPaused`: the listener accepts again.
    AcceptResumed {
        /// The listener.
        listener: ListenerId,
    },
}

/// Why a connection ended (promise 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The peer finished sending, and what was queued for it was flushed.
    PeerFinished,
    /// The peer reset the connection (`ECONNRESET` or `EPIPE`).
    Reset,
    /// [`connect`](crate::EventLoop::connect) failed with this error number.
    ConnectFailed(i32),
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
    /// Any other error of the operating system, with its number.
    Error(i32),
}

/// The deadlines a connection can miss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// The connection was not made in time.
    Connect,
    /// No byte moved in either direction for the idle timeout.
    Idle,
    /// The peer took no byte of what is queued for the write-stall timeout.
    WriteStall,
    /// A closed connection could not be flushed in time.
    Close,
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
            Self::TimedOut(deadline) => write!(f, "timed out: {deadline}"),
            Self::ClosedHere => f.write_str("closed here"),
            Self::AbortedHere => f.write_str("aborted here"),
            Self::InputTooLarge => f.write_str("input too large"),
            Self::ShutDown => f.write_str("shut down"),
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
        })
    }
}
