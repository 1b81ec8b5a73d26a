//! What loops and servers count, as C sees it.
//!
//! The rule: a struct here has all that its Rust sibling counts (a test compares the names), and only
//! grows at its end.

use echoloop_core::Counters;
use echoloop_server::{Report, ServerCounters};

/// What a loop, or all loops of workers, have done so far, and how much there is now. Start with
/// ECHOLOOP_COUNTERS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_counters {
    /// sizeof(echoloop_counters); ECHOLOOP_COUNTERS_INIT sets it.
    pub size: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by echoloop_connect().
    pub connected: u64,
    /// Connections whose CLOSED was handed out.
    pub closed: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes the kernel took to send.
    pub bytes_sent: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Times a connection got above its high mark.
    pub congested: u64,
    /// Times a listener had to pause for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Times the loop waited for events.
    pub turns: u64,
    /// Connections that exist now, those that are closing included.
    pub connections: u64,
    /// Bytes queued and unread in all connections now.
    pub buffered: u64,
    /// Connections that were adopted, or handed over by another loop.
    pub adopted: u64,
    /// Connections that were given away, or handed to another loop.
    pub given_away: u64,
    /// Calls by which the kernel took bytes to send. All small sends of one callback to one
    /// connection are one.
    pub sends: u64,
    /// Sends that were refused with ECHOLOOP_EQUEUEFULL.
    pub sends_refused: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams the kernel took to send.
    pub datagrams_sent: u64,
    /// Datagrams sent here and dropped: no room in the queue, or the kernel did not take them.
    pub datagrams_dropped: u64,
    /// Times reading from a connection paused because the loop was over its memory budget.
    pub budget_pauses: u64,
    /// Times reading from a connection waited for its receive_rate.
    pub throttled: u64,
    /// Times the loop got over its memory budget; each is one OVER_BUDGET.
    pub over_budget: u64,
    /// Timers handed out.
    pub timers_fired: u64,
    /// Words handed out that were posted.
    pub posts: u64,
    /// Reports of the system for what had ended by then; they are dropped.
    pub stale_events: u64,
    /// Callbacks that took as long as echoloop_set_slow_handler() or slow_handler_us says, or longer.
    pub slow_handlers: u64,
    /// Connects that had to wait for a descriptor or a port.
    pub connect_pauses: u64,
    /// Connections that another loop handed over and that were closed, for want of a handle or of
    /// memory.
    pub arrivals_lost: u64,
}

/// What a server, or all workers together, count beside echoloop_counters. Start with
/// ECHOLOOP_SERVER_COUNTERS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_server_counters {
    /// sizeof(echoloop_server_counters); ECHOLOOP_SERVER_COUNTERS_INIT sets it.
    pub size: usize,
    /// Connections refused, for whatever reason: the sum of the three at the end.
    pub refused: u64,
    /// Connections that a deadline ended.
    pub timed_out: u64,
    /// Bytes that were sent and never left, of all connections that ended.
    pub bytes_lost: u64,
    /// The most connections that were open at one time.
    pub most_open: u64,
    /// Connections refused because max_connections was reached.
    pub refused_full: u64,
    /// Connections refused because their peer's address had its max_per_peer.
    pub refused_peer: u64,
    /// Connections refused because they came faster than accept_rate.
    pub refused_rate: u64,
}

/// How a drain ended, of a server or of all workers together. Start with ECHOLOOP_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_report {
    /// sizeof(echoloop_report); ECHOLOOP_REPORT_INIT sets it.
    pub size: usize,
    /// Connections that closed with all their bytes sent, of those that had come in.
    pub closed_clean: u64,
    /// Connections that were cut, or died, with bytes unsent.
    pub aborted: u64,
    /// Bytes that were sent to those and never left.
    pub bytes_lost: u64,
}

impl echoloop_counters {
    /// `connections` and `buffered` are what there is now.
    pub(crate) fn of(c: &Counters, connections: u64, buffered: u64) -> Self {
        Self {
            size: size_of::<Self>(),
            accepted: c.accepted,
            connected: c.connected,
            closed: c.closed,
            bytes_received: c.bytes_received,
            bytes_sent: c.bytes_sent,
            reads: c.reads,
            congested: c.congested,
            accept_pauses: c.accept_pauses,
            turns: c.turns,
            connections,
            buffered,
            adopted: c.adopted,
            given_away: c.given_away,
            sends: c.sends,
            sends_refused: c.sends_refused,
            datagrams_received: c.datagrams_received,
            datagrams_sent: c.datagrams_sent,
            datagrams_dropped: c.datagrams_dropped,
            budget_pauses: c.budget_pauses,
            throttled: c.throttled,
            over_budget: c.over_budget,
            timers_fired: c.timers_fired,
            posts: c.posts,
            stale_events: c.stale_events,
            slow_handlers: c.slow_handlers,
            connect_pauses: c.connect_pauses,
            arrivals_lost: c.arrivals_lost,
        }
    }
}

impl echoloop_server_counters {
    pub(crate) fn of(c: ServerCounters) -> Self {
        Self {
            size: size_of::<Self>(),
            refused: c.refused,
            timed_out: c.timed_out,
            bytes_lost: c.bytes_lost,
            most_open: c.most_open,
            refused_full: c.refused_full,
            refused_peer: c.refused_peer,
            refused_rate: c.refused_rate,
        }
    }
}

impl echoloop_report {
    pub(crate) fn of(report: Report) -> Self {
        Self {
            size: size_of::<Self>(),
            closed_clean: report.closed_clean,
            aborted: report.aborted,
            bytes_lost: report.bytes_lost,
        }
    }
}
