//! What a server tells about itself in numbers.

use std::ops::AddAssign;

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Connections that closed with all their bytes sent, of those that had come in: what the
    /// server had [connected](crate::Context::connect) itself is not counted here.
    pub closed_clean: u64,
    /// Connections that were cut, or died, with bytes unsent.
    pub aborted: u64,
    /// Bytes that were sent to those and never left.
    pub bytes_lost: u64,
}

/// The sum over several servers, such as workers.
impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.closed_clean += other.closed_clean;
        self.aborted += other.aborted;
        self.bytes_lost += other.bytes_lost;
    }
}

/// What a server counts beside [`Counters`](echoloop_core::Counters) of its loop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections refused, for whatever reason: the sum of the three below.
    pub refused: u64,
    /// Connections refused because the maximum was reached.
    pub refused_full: u64,
    /// Connections refused because their peer's address had its maximum.
    pub refused_peer: u64,
    /// Connections refused because they came too fast.
    pub refused_rate: u64,
    /// Connections that a deadline ended.
    pub timed_out: u64,
    /// Bytes that were sent and never left, of all connections that ended.
    pub bytes_lost: u64,
    /// The most connections that were open at one time.
    pub most_open: u64,
}

/// The sum over several servers; of `most_open` it is an upper bound, since they need not have had
/// their most at the same time. ([`Workers::counters`](crate::Workers::counters) has it exactly.)
impl AddAssign for ServerCounters {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.refused_full += other.refused_full;
        self.refused_peer += other.refused_peer;
        self.refused_rate += other.refused_rate;
        self.timed_out += other.timed_out;
        self.bytes_lost += other.bytes_lost;
        self.most_open += other.most_open;
    }
}
