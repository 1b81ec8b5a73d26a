//! Events as C sees them: their numbers and their layout.
//!
//! The rule: an event is a plain struct of 48 bytes whose layout never changes; a new kind of event
//! is a new number, which old programs skip. `run` hands the same things to callbacks.

use std::ffi::{c_int, c_void};
use std::ptr;

use echoloop_core::ConnId;
use echoloop_server::Refusal;

use crate::convert::pointer;
use crate::handle::handle;
use crate::{
    echoloop_conn, echoloop_listener, echoloop_lookup, echoloop_signal, echoloop_timer,
    echoloop_udp, echoloop_watch,
};

/// A listener accepted conn; source.listener.
pub const ECHOLOOP_EVENT_OPENED: u32 = 1;
/// A connection that echoloop_connect() asked for is made. Of a connect by name it is the last event of
/// its batch, so that echoloop_conn_attempt() can be asked.
pub const ECHOLOOP_EVENT_CONNECTED: u32 = 2;
/// Bytes arrived: data, len.
pub const ECHOLOOP_EVENT_DATA: u32 = 3;
/// More than the high mark waits to be sent; reading from conn is paused, unless no_auto_pause.
pub const ECHOLOOP_EVENT_CONGESTED: u32 = 4;
/// After CONGESTED: no more than the low mark waits. What is unread is offered again next.
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
/// A server has refused conn (reset it) for want of a place: status is why, ECHOLOOP_REFUSED_...
/// It has no other events; its handle only answers for the peer's address, until the next call for
/// events. Always the last event of its batch.
pub const ECHOLOOP_EVENT_REFUSED: u32 = 14;
/// Kept for what goes wrong that is no single connection's: status. No version makes it yet.
pub const ECHOLOOP_EVENT_ERROR: u32 = 15;
/// conn was made elsewhere and is this loop's now: it was adopted, or handed over by another loop.
pub const ECHOLOOP_EVENT_ADOPTED: u32 = 16;
/// conn waits for a descriptor or a port to connect with: status is -errno. It goes on by itself,
/// within its deadline. Told once for each connection.
pub const ECHOLOOP_EVENT_CONNECT_PAUSED: u32 = 17;
/// source.watch is ready for what status says, ECHOLOOP_READABLE and so on; user is what was given
/// with it. It is told again in the next turn as long as it stays ready, unless the watch's mode is
/// another one.
pub const ECHOLOOP_EVENT_WATCH: u32 = 18;
/// The descriptor of source.watch was closed without echoloop_watch_close(); status is its number,
/// which may name another one by now: do not close it. Its handle is stale after the next call for
/// events. Always the last event of its batch.
pub const ECHOLOOP_EVENT_WATCH_DEAD: u32 = 19;
/// len datagrams came to source.udp; echoloop_udp_received() has them until the next call for
/// events. Always the last event of its batch.
pub const ECHOLOOP_EVENT_DATAGRAMS: u32 = 20;
/// source.udp learned of an error, such as -ECONNREFUSED of a peer that is not there: status. The
/// socket goes on.
pub const ECHOLOOP_EVENT_UDP_ERROR: u32 = 21;
/// After a datagram was refused with ECHOLOOP_EQUEUEFULL: the queue of source.udp is empty again.
pub const ECHOLOOP_EVENT_UDP_DRAINED: u32 = 22;
/// source.lookup has its answer: status is 0 or why there is none, len how many addresses
/// echoloop_lookup_addr() has until the next call for events; user is what was given with it. Always
/// the last event of its batch.
pub const ECHOLOOP_EVENT_RESOLVED: u32 = 23;
/// Signal number status arrived, once or several times: source.signal.
pub const ECHOLOOP_EVENT_SIGNAL: u32 = 24;
/// The loop holds more than its memory budget: it neither accepts nor reads from connections with a
/// queue until UNDER_BUDGET.
pub const ECHOLOOP_EVENT_OVER_BUDGET: u32 = 25;
/// After OVER_BUDGET: an eighth of the budget is free, and the loop goes on.
pub const ECHOLOOP_EVENT_UNDER_BUDGET: u32 = 26;

/// The server has its max_connections.
pub const ECHOLOOP_REFUSED_MAX_CONNECTIONS: c_int = 1;
/// The peer's address has its max_per_peer.
pub const ECHOLOOP_REFUSED_MAX_PER_PEER: c_int = 2;
/// Connections come faster than accept_rate.
pub const ECHOLOOP_REFUSED_ACCEPT_RATE: c_int = 3;

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
    /// WATCH, WATCH_DEAD.
    pub watch: *mut echoloop_watch,
    /// DATAGRAMS, UDP_ERROR, UDP_DRAINED.
    pub udp: *mut echoloop_udp,
    /// RESOLVED.
    pub lookup: *mut echoloop_lookup,
    /// SIGNAL.
    pub signal: *mut echoloop_signal,
}

/// One event, of a batch (echoloop_poll_batch()) or for on_event.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_event {
    /// ECHOLOOP_EVENT_...; skip types that you do not know.
    pub r#type: u32,
    /// CLOSED, REFUSED: why. WATCH: what it is ready for. WATCH_DEAD: the number of the descriptor.
    /// SIGNAL: the number of the signal. Else a status code; 0 where nothing is said of one.
    pub status: i32,
    /// The connection, or NULL.
    pub conn: *mut echoloop_conn,
    /// The user pointer, at the time of the event, of what the event is about: the connection, timer,
    /// watch, UDP socket or lookup.
    pub user: *mut c_void,
    /// DATA: the bytes, readable until the next call for events on this loop. Else NULL.
    pub data: *const u8,
    /// DATA: how many bytes. DATAGRAMS: how many datagrams. RESOLVED: how many addresses. Else 0.
    pub len: usize,
    /// What else the event is about.
    pub source: echoloop_event_source,
}

impl echoloop_event {
    /// An event of a connection.
    #[inline]
    pub(crate) fn of_conn(r#type: u32, conn: ConnId, user: u64) -> Self {
        Self {
            conn: handle(conn.to_raw()),
            user: pointer(user),
            ..Self::new(r#type)
        }
    }

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

/// The number of a refusal.
pub(crate) fn refusal_code(why: Refusal) -> c_int {
    match why {
        Refusal::MaxConnections => ECHOLOOP_REFUSED_MAX_CONNECTIONS,
        Refusal::MaxPerPeer => ECHOLOOP_REFUSED_MAX_PER_PEER,
        Refusal::AcceptRate => ECHOLOOP_REFUSED_ACCEPT_RATE,
        // What a later server may add; the header says that a reason may be unknown.
        _ => c_int::MAX,
    }
}
