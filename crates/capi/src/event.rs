//! Events as C sees them in batches, and the reasons for which connections end.
//!
//! The rule: an event is a plain struct of 48 bytes whose layout never changes; a new kind of event
//! is a new number, which old programs skip. `run` hands the same things to callbacks.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use echoloop_core::{CloseReason, Deadline};

use crate::{echoloop_conn, echoloop_listener, echoloop_timer, status};

/// A listener accepted conn; source.listener.
pub const ECHOLOOP_EVENT_OPENED: u32 = 1;
/// A connection that echoloop_connect() asked for is made.
pub const ECHOLOOP_EVENT_CONNECTED: u32 = 2;
/// Bytes arrived: data, len.
pub const ECHOLOOP_EVENT_DATA: u32 = 3;
/// More than the high mark waits to be sent; reading from conn is paused, unless no_auto_pause.
pub const ECHOLOOP_EVENT_CONGESTED: u32 = 4;
/// After CONGESTED: no more than the low mark waits.
pub const ECHOLOOP_EVENT_DRAINED: u32 = 5;
/// The peer has finished sending. Unless half_open, what is queued is now flushed and conn closes;
/// until the next call for events it still takes sends. Always the last event of its batch.
pub const ECHOLOOP_EVENT_END_OF_STREAM: u32 = 6;
/// conn has ended: status is the reason (ECHOLOOP_CLOSE_... or -errno), source.unsent the bytes
/// that were sent and never left. Its handle is stale after the next call for events. Always the
/// last event of its batch.
pub const ECHOLOOP_EVENT_CLOSED: u32 = 7;
/// source.timer is due, user is what was given with it. Always the last event of its batch, so
/// that a timer that fires once can still be re-armed.
pub const ECHOLOOP_EVENT_TIMER: u32 = 8;
/// echoloop_remote_post(): source.word.
pub const ECHOLOOP_EVENT_POSTED: u32 = 9;
/// echoloop_remote_stop() or echoloop_stop() was called. What to stop is the program's. Always the
/// last event of its batch.
pub const ECHOLOOP_EVENT_STOP: u32 = 10;
/// source.listener can't accept for want of descriptors or memory: status is -errno. Nothing is
/// lost, it goes on by itself.
pub const ECHOLOOP_EVENT_ACCEPT_PAUSED: u32 = 11;
/// After ACCEPT_PAUSED: source.listener accepts again.
pub const ECHOLOOP_EVENT_ACCEPT_RESUMED: u32 = 12;
/// A server's tick interval has passed.
pub const ECHOLOOP_EVENT_TICK: u32 = 13;
/// A server's maximum of connections is reached, and the next one was refused: status is
/// ECHOLOOP_ETOOMANY. It has no other events.
pub const ECHOLOOP_EVENT_REFUSED: u32 = 14;
/// Something went wrong that is no single connection's: status. The loop goes on.
pub const ECHOLOOP_EVENT_ERROR: u32 = 15;

/// The peer finished sending, and what was queued for it was flushed.
pub const ECHOLOOP_CLOSE_PEER_FINISHED: c_int = 1;
/// The peer reset the connection.
pub const ECHOLOOP_CLOSE_RESET: c_int = 2;
/// echoloop_conn_close() was called.
pub const ECHOLOOP_CLOSE_CLOSED_HERE: c_int = 3;
/// echoloop_conn_abort() was called.
pub const ECHOLOOP_CLOSE_ABORTED_HERE: c_int = 4;
/// More than max_unread, or than the loop's memory budget, was left unread.
pub const ECHOLOOP_CLOSE_INPUT_TOO_LARGE: c_int = 5;
/// A server that drains closed it.
pub const ECHOLOOP_CLOSE_SHUT_DOWN: c_int = 6;
/// The connection was not made in time.
pub const ECHOLOOP_CLOSE_TIMED_OUT_CONNECT: c_int = 7;
/// No byte moved in either direction for the idle timeout.
pub const ECHOLOOP_CLOSE_TIMED_OUT_IDLE: c_int = 8;
/// The peer took no byte of what is queued for the write-stall timeout.
pub const ECHOLOOP_CLOSE_TIMED_OUT_WRITE_STALL: c_int = 9;
/// A closed connection could not be flushed in time.
pub const ECHOLOOP_CLOSE_TIMED_OUT_CLOSE: c_int = 10;
/// The peer sent nothing at all for the first-byte timeout.
pub const ECHOLOOP_CLOSE_TIMED_OUT_FIRST_BYTE: c_int = 11;
/// The connection was open for its whole lifetime, and was closed in order.
pub const ECHOLOOP_CLOSE_TIMED_OUT_LIFETIME: c_int = 12;

/// What an event is about beside its connection; which member counts is said at its type.
#[repr(C)]
#[derive(Clone, Copy)]
pub union echoloop_event_source {
    /// OPENED, ACCEPT_PAUSED, ACCEPT_RESUMED.
    pub listener: *mut echoloop_listener,
    /// TIMER.
    pub timer: *mut echoloop_timer,
    /// POSTED.
    pub word: *mut c_void,
    /// CLOSED.
    pub unsent: u64,
}

/// One event of a batch, filled by echoloop_poll_batch().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_event {
    /// ECHOLOOP_EVENT_...; skip types that you do not know.
    pub r#type: u32,
    /// CLOSED: the reason. ACCEPT_PAUSED, REFUSED, ERROR: a status code. Else 0.
    pub status: i32,
    /// The connection, or NULL.
    pub conn: *mut echoloop_conn,
    /// The connection's user pointer at the time of the event; for TIMER, the timer's.
    pub user: *mut c_void,
    /// DATA: the bytes, readable until the next call for events on this loop. Else NULL.
    pub data: *const u8,
    /// DATA: how many.
    pub len: usize,
    /// What else the event is about.
    pub source: echoloop_event_source,
}

impl echoloop_event {
    pub(crate) const fn new(r#type: u32) -> Self {
        Self {
            r#type,
            status: 0,
            conn: ptr::null_mut(),
            user: ptr::null_mut(),
            data: ptr::null(),
            len: 0,
            source: echoloop_event_source { unsent: 0 },
        }
    }
}

const _: () = assert!(
    size_of::<echoloop_event>() == 48,
    "the layout is part of the ABI"
);

/// The text of a close reason (the status of CLOSED, the reason of on_close), "peer finished".
/// Never NULL, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_close_reason(reason: c_int) -> *const c_char {
    let text: &CStr = match reason {
        ECHOLOOP_CLOSE_PEER_FINISHED => c"peer finished",
        ECHOLOOP_CLOSE_RESET => c"reset by peer",
        ECHOLOOP_CLOSE_CLOSED_HERE => c"closed here",
        ECHOLOOP_CLOSE_ABORTED_HERE => c"aborted here",
        ECHOLOOP_CLOSE_INPUT_TOO_LARGE => c"input too large",
        ECHOLOOP_CLOSE_SHUT_DOWN => c"shut down",
        ECHOLOOP_CLOSE_TIMED_OUT_CONNECT => c"timed out: connect",
        ECHOLOOP_CLOSE_TIMED_OUT_IDLE => c"timed out: idle",
        ECHOLOOP_CLOSE_TIMED_OUT_WRITE_STALL => c"timed out: write stall",
        ECHOLOOP_CLOSE_TIMED_OUT_CLOSE => c"timed out: close",
        ECHOLOOP_CLOSE_TIMED_OUT_FIRST_BYTE => c"timed out: first byte",
        ECHOLOOP_CLOSE_TIMED_OUT_LIFETIME => c"timed out: lifetime",
        error if error < 0 => return status::echoloop_strerror(error),
        _ => c"unknown reason",
    };
    text.as_ptr()
}

/// The code of a close reason of the core.
pub(crate) fn close_code(reason: CloseReason) -> c_int {
    match reason {
        CloseReason::PeerFinished => ECHOLOOP_CLOSE_PEER_FINISHED,
        CloseReason::Reset => ECHOLOOP_CLOSE_RESET,
        CloseReason::ClosedHere => ECHOLOOP_CLOSE_CLOSED_HERE,
        CloseReason::AbortedHere => ECHOLOOP_CLOSE_ABORTED_HERE,
        CloseReason::InputTooLarge => ECHOLOOP_CLOSE_INPUT_TOO_LARGE,
        CloseReason::ShutDown => ECHOLOOP_CLOSE_SHUT_DOWN,
        CloseReason::TimedOut(Deadline::Connect) => ECHOLOOP_CLOSE_TIMED_OUT_CONNECT,
        CloseReason::TimedOut(Deadline::Idle) => ECHOLOOP_CLOSE_TIMED_OUT_IDLE,
        CloseReason::TimedOut(Deadline::WriteStall) => ECHOLOOP_CLOSE_TIMED_OUT_WRITE_STALL,
        CloseReason::TimedOut(Deadline::Close) => ECHOLOOP_CLOSE_TIMED_OUT_CLOSE,
        CloseReason::TimedOut(Deadline::FirstByte) => ECHOLOOP_CLOSE_TIMED_OUT_FIRST_BYTE,
        CloseReason::TimedOut(Deadline::Lifetime) => ECHOLOOP_CLOSE_TIMED_OUT_LIFETIME,
        CloseReason::ConnectFailed(errno) | CloseReason::Error(errno) => -errno,
        // C can't ask for those yet.
        _ => ECHOLOOP_CLOSE_CLOSED_HERE,
    }
}
