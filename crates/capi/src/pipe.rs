//! Pipes: two connections that the loop itself joins.

use std::ffi::c_int;

use echoloop_core::{ConnId, Kind};

use crate::detail::returned;
use crate::echoloop_conn;
use crate::guard::lend;
use crate::handle::raw;
use crate::registry::find;

/// Pipes two connections of one loop: what each receives is sent to the other, until both have
/// ended. What is unread goes first, also what the on_data in which this is called leaves. Either may
/// still be connecting; what comes for it waits.
///
/// A side is read from only while less than the other's high_mark waits there. An end of stream is
/// carried on as a half-close, whatever half_open says; when both sides have ended and all is flushed,
/// both close, as ECHOLOOP_CLOSE_PEER_FINISHED. An abort of one side resets the other; a missed
/// deadline, a close or a failed connect closes the other in order (ECHOLOOP_CLOSE_CLOSED_HERE, or
/// _SHUT_DOWN). A reset or an error of one side resets the other, after what that side had sent
/// before.
///
/// Of the two only OPENED, CONNECTED and CLOSED are told. Sends, shutdown_write, unread, give_away and
/// hand_over are refused with ECHOLOOP_EINVAL until echoloop_unpipe(). Errors: ECHOLOOP_EBADHANDLE,
/// also for two of different loops (echoloop_hand_over() brings them together); ECHOLOOP_ECLOSING when
/// one is closing or has finished sending; ECHOLOOP_EINVAL for a connection and itself, or one that is
/// piped already; ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_pipe(a: *mut echoloop_conn, b: *mut echoloop_conn) -> c_int {
    returned(lend("pipe", raw(a), Kind::Conn, |el| {
        // Another thread's is told as such; another loop's is a bad handle to this one.
        find("pipe", raw(b), Kind::Conn)?;
        el.pipe(ConnId::from_raw(raw(a)), ConnId::from_raw(raw(b)))?;
        Ok(0)
    }))
}

/// Ends the piping of a connection and the one it is piped with; both live on, and their events are
/// told again. What was received and not sent on is offered as data; an end of stream that came
/// meanwhile is told, although it was carried to the other side. Errors: ECHOLOOP_EINVAL for one that
/// is not piped, or no longer, because one of the two is closing.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_unpipe(conn: *mut echoloop_conn) -> c_int {
    returned(lend("unpipe", raw(conn), Kind::Conn, |el| {
        el.unpipe(ConnId::from_raw(raw(conn)))?;
        Ok(0)
    }))
}
