//! The reasons for which connections end, as numbers.
//!
//! The rule: positive is a reason of echoloop's, whose number never changes; negative is a status
//! code, of the system or of the resolver. What befalls a connection is not an error of any call.

use std::ffi::{CStr, c_char, c_int};

use echoloop_core::{CloseReason, Deadline};

use crate::status;

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
/// The socket was given away (echoloop_give_away()), or handed to another loop.
pub const ECHOLOOP_CLOSE_GIVEN_AWAY: c_int = 13;

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
        ECHOLOOP_CLOSE_GIVEN_AWAY => c"given away",
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
        CloseReason::ResolveFailed(e) => status::of_resolver(e),
        CloseReason::GivenAway => ECHOLOOP_CLOSE_GIVEN_AWAY,
        // What a later core may add; the header says that a reason may be unknown.
        _ => c_int::MAX,
    }
}
