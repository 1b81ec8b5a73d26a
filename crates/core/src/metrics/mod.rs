//! Where a loop's time goes, always measured.
//!
//! The rule: nothing is measured per message. A turn reads the clock once more, when it ends; of
//! the handlers a few are timed (see `timing`). Together the four histograms take 11 KB a loop.

pub(crate) mod counters;
pub(crate) mod dump;
pub(crate) mod histogram;
pub(crate) mod timing;

use std::fmt;

use crate::Histogram;

/// Where a loop's time goes; [`EventLoop::metrics`](crate::EventLoop::metrics).
///
/// `waiting` and `turn` together are all the time since the loop was made, up to the end of the
/// last turn, so `turn.sum()` beside `waiting.sum()` says how busy the loop is.
///
/// # Examples
///
/// ```
/// # use echoloop_core::{EventLoop, LoopOptions};
/// let el = EventLoop::new(LoopOptions::default())?;
/// let (busy, idle) = (el.metrics().turn.sum(), el.metrics().waiting.sum());
/// println!("busy for {busy:?}, idle for {idle:?}");
/// println!("timers are late by {:?} at most", el.metrics().timer_lag.max());
/// println!("{}", el.metrics()); // All of it, a line each.
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// How long handlers held the loop: from an event to the call after it, with the sends that
    /// this led to. A sample: of plain reads one in 1,024, or in 16 while little goes on; of
    /// other events one in 16. All of them while [`on_slow_handler`](crate::EventLoop::on_slow_handler)
    /// is in use.
    pub handler: Histogram,
    /// From the end of a turn to the beginning of the next that brought something: waiting, what
    /// the program did in between, and polls that brought nothing.
    pub waiting: Histogram,
    /// From the return of `poll` to the last event handled. Turns that brought nothing do not
    /// count.
    pub turn: Histogram,
    /// From when a timer was due to the beginning of the turn that handed it out.
    pub timer_lag: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            handler: Histogram::new(),
            waiting: Histogram::new(),
            turn: Histogram::new(),
            timer_lag: Histogram::new(),
        }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "handlers (a sample): {}", self.handler)?;
        writeln!(f, "waiting: {}", self.waiting)?;
        writeln!(f, "turns: {}", self.turn)?;
        write!(f, "timers late: {}", self.timer_lag)
    }
}
