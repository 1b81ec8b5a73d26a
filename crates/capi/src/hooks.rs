//! The callbacks of `echoloop_run` and `echoloop_server_run`.
//!
//! The rule: all are typed `extern "C-unwind"`, so that a C++ exception that leaves one ends the
//! process with a message, in place of running over Rust frames unseen. `run` calls them.

use std::ffi::{c_char, c_int, c_void};

use crate::{
    echoloop_conn, echoloop_datagram, echoloop_event, echoloop_listener, echoloop_lookup,
    echoloop_signal, echoloop_timer, echoloop_udp, echoloop_watch,
};

/// What to call when something happens. Start with ECHOLOOP_HOOKS_INIT; any member may stay NULL.
/// The struct is copied when the run begins; user is what was given to the run.
///
/// A callback may call everything but the functions that run or poll the same loop; it may close
/// or abort the very connection it is called for, and free its loop. It must return in the
/// ordinary way: no longjmp, no pthread_exit, and a C++ exception that leaves it ends the process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_hooks {
    /// sizeof(echoloop_hooks); ECHOLOOP_HOOKS_INIT sets it.
    pub size: usize,
    /// A connection is open: accepted by listener, or, where that is NULL, connected, adopted, or
    /// accepted by another worker.
    pub on_open: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            conn: *mut echoloop_conn,
            listener: *mut echoloop_listener,
        ),
    >,
    /// Bytes arrived. data is readable until the callback returns. Returns how many bytes it used;
    /// the rest is offered again, together with what arrives next, and also without that after
    /// on_drained and after echoloop_conn_resume(): so bytes whose answer was refused with
    /// ECHOLOOP_EQUEUEFULL are simply not used yet. More than len counts as len, and is told to
    /// on_error. NULL: all bytes are dropped.
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
    /// After on_congested: no more than the low mark waits. What is unread is offered again next.
    pub on_drained:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn)>,
    /// The peer has finished sending: the last chance to send it something before the connection
    /// closes by itself (unless half_open).
    pub on_end_of_stream:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn)>,
    /// The connection has ended; called exactly once for each that was opened or asked for. reason
    /// is ECHOLOOP_CLOSE_... or a status code (of a failed connect, for example), unsent the bytes
    /// that were sent and never left. The handle is stale when the callback returns: free what its user
    /// pointer names here. It is not called for those that end with the free of their loop.
    pub on_close: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            conn: *mut echoloop_conn,
            reason: c_int,
            unsent: u64,
        ),
    >,
    /// A timer is due that has no callback of its own. One that fires once is gone when the callback
    /// returns, unless re-armed.
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
    /// Something went wrong that is no single connection's: accepting is paused, or a connect, for
    /// want of descriptors or memory (-errno), a UDP socket learned of an error (-errno), on_data
    /// returned more than len (ECHOLOOP_EINVAL). text is readable until the callback returns. The
    /// loop goes on.
    pub on_error:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, status: c_int, text: *const c_char)>,
    /// A server has refused (reset) this connection: why is ECHOLOOP_REFUSED_... It has no other
    /// callbacks; until this one returns its handle answers for the peer's address.
    pub on_refused: Option<
        unsafe extern "C-unwind" fn(user: *mut c_void, conn: *mut echoloop_conn, why: c_int),
    >,
    /// Datagrams arrived, in this order; all are readable until the callback returns.
    pub on_datagrams: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            udp: *mut echoloop_udp,
            datagrams: *const echoloop_datagram,
            n: usize,
        ),
    >,
    /// A watched descriptor is ready (ECHOLOOP_READABLE and so on) whose watch has no callback of its
    /// own.
    pub on_watch: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            watch: *mut echoloop_watch,
            watch_user: *mut c_void,
            readiness: c_int,
        ),
    >,
    /// A signal arrived, once or several times.
    pub on_signal: Option<
        unsafe extern "C-unwind" fn(user: *mut c_void, signal: *mut echoloop_signal, number: c_int),
    >,
    /// A lookup has its answer: status is 0 or why there is none; until the callback returns
    /// echoloop_lookup_addr() has the n addresses. Then the lookup is gone.
    pub on_resolved: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            lookup: *mut echoloop_lookup,
            lookup_user: *mut c_void,
            status: c_int,
            n: usize,
        ),
    >,
    /// Every other event, as a batch has it: accepting or connecting pauses (after on_error) and
    /// accepting goes on, the memory budget is reached or free again, a watched descriptor was
    /// closed, a UDP socket failed (after on_error) or has room again, and, for echoloop_run_once()
    /// alone, a stop. Types that you do not know may be added.
    pub on_event:
        Option<unsafe extern "C-unwind" fn(user: *mut c_void, event: *const echoloop_event)>,
}
