//! What a run has done: counts, latencies, and the connections that failed.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Cause;

/// What a run has done.
#[derive(Debug, Clone)]
pub struct Report {
    /// Messages that were sent and have come back whole.
    pub messages: u64,
    /// From the first send to the last byte.
    pub elapsed: Duration,
    /// Nanoseconds from the send of a message (or its connect) to its last byte, three digits.
    pub latency: Histogram<u64>,
    /// How many connections failed, by what befell them.
    pub failures: BTreeMap<Cause, u64>,
    /// Messages that were in flight on connections that failed.
    pub unanswered: u64,
    /// Datagrams that were not back within a second.
    pub lost: u64,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Messages that have come back so far.
    pub messages: u64,
    /// Since the run began.
    pub elapsed: Duration,
}

impl Default for Report {
    /// Nothing has been done.
    fn default() -> Report {
        // The bounds are constants that the constructor accepts: 1 <= low, 2 * low <= high, 3 <= 5.
        let latency = Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("constant bounds");
        Report {
            messages: 0,
            elapsed: Duration::ZERO,
            latency,
            failures: BTreeMap::new(),
            unanswered: 0,
            lost: 0,
        }
    }
}

impl Report {
    /// How many connections failed in all.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Counts a message that took so many nanoseconds.
    pub(crate) fn record(&mut self, latency: u64) {
        self.messages += 1;
        self.latency.saturating_record(latency);
    }
}
