//! What a server tells about itself in numbers.

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Connections that closed with all their bytes sent.
    pub closed_clean: u64,
    /// Connections that were cut, or died, with bytes unsent.
    pub aborted: u64,
    /// Bytes that were sent to those and never left.
    pub bytes_lost: u64,
}

/// What a server counts beside [`Counters`](echoloop_core::Counters) of its loop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections refused because the maximum was reached.
    pub refused: u64,
    /// Connections that a deadline ended.
    pub timed_out: u64,
    /// Bytes that were sent and never left, of all connections that ended.
    pub bytes_lost: u64,
    /// The most connections that were open at one time.
    pub most_open: u64,
}
