//! The callbacks of `echoloop_run` and `echoloop_server_run`.
//!
//! The rule: all are typed `extern "C-unwind"`, so that a C++ exception that leaves one ends the
//! process with a message, in place of running over Rust frames unseen. `run` calls them.

use std::ffi::{c_char, c_int, c_void};

use crate::{echoloop_conn, echoloop_listener, echoloop_timer};

/// What to call when something happens. Start with ECHOLOOP_HOOKS_INIT; any member may stay NULL.
/// The struct is copied when the run begins; user is what was given to the run.
///
/// A callback may call everything but the functions that run or poll the same loop; it may close
/// or abort the very connection it is called for, and free its loop. It must return in the
/// ordinary way: no longjmp, no pthread_exit, and a C++ exception that leaves it ends the process.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct echoloop_hooks {
    /// sizeof(echoloop_hooks); ECHOLOOP_HOOKS_INIT sets it.
    pub size: usize,
    /// A connection is open: accepted by listener, or, where that is NULL, connected.
    pub on_open: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            conn: *mut echoloop_conn,
            listener: *mut echoloop_listener,
        ),
    >,
    /// Bytes arrived. data is readable until the callback returns. Returns how many bytes it used;
    /// the rest is offered again, together with what arrives next. More than len counts as len, and
    /// is told to on_error. NULL: all bytes are dropped.
    pub on_data: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            conn: *mut echoloop_conn,
            data: *const u8,
            len: usize,
        ) -> usize,
    >,
    /// More than the high mark waits to be sent to a slow peer; reading from it is paused, unless
    /// no_auto_pause. Who sends unasked should stop until on_drained.
    pub on_congested:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn)>,
    /// After on_congested: no more than the low mark waits.
    pub on_drained:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn)>,
    /// The peer has finished sending: the last chance to send it something before the connection
    /// closes by itself (unless half_open).
    pub on_end_of_stream:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn)>,
    /// The connection has ended; called exactly once for each that was opened or asked for. reason
    /// is ECHOLOOP_CLOSE_... or -errno (of a failed connect, for example), unsent the bytes that
    /// were sent and never left. The handle is stale when the callback returns: free what its user
    /// pointer names here. It is not called for those that end with the free of their loop.
    pub on_close: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            conn: *mut echoloop_conn,
            reason: c_int,
            unsent: u64,
        ),
    >,
    /// A timer is due. One that fires once is gone when the callback returns, unless re-armed.
    pub on_timer: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            timer: *mut echoloop_timer,
            timer_user: *mut c_void,
        ),
    >,
    /// Another thread posted a word.
    pub on_post: Option<unsafe extern "C-unwind" fn(user: *mut c_void, word: *mut c_void)>,
    /// A server's tick interval has passed: do some other work here.
    pub on_tick: Option<unsafe extern "C-unwind" fn(user: *mut c_void)>,
    /// Something is told that is no single connection's: accepting is paused (-errno) or goes on
    /// (0), a peer was refused (ECHOLOOP_ETOOMANY), on_data returned more than len
    /// (ECHOLOOP_EINVAL). text is readable until the callback returns. The loop goes on.
    pub on_error:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, status: c_int, text: *const c_char)>,
}
