//! How the loop's time is measured, and handlers that hold it for too long.
//!
//! The rule: the short way to an event (`next_data`) has no part in it. A connection whose next
//! handler is to be timed is flagged when the turn begins, so its event comes the long way. Before
//! that is handed out a stand-in, the slot of nobody, goes among those to be flushed, so the end of
//! the handler takes the long way too, and the time is taken there.

use std::fmt;
use std::time::Duration;

use crate::conn::Flags;
use crate::event_loop::EventLoop;
use crate::metrics::Metrics;
use crate::sys::System;
use crate::turn::NOBODY;
use crate::{Event, LoopOptions};

/// What a handler's event and all reports before it must weigh together for it to be timed: a
/// report weighs 1, an event that comes the long way, or a whole turn, [`HEAVY`].
const TIMED_EVERY: usize = 1024;
const HEAVY: usize = 64;

/// What [`EventLoop::on_slow_handler`] calls. It gets no loop, and is called between two events.
type Hook = Box<dyn FnMut(&SlowHandler) + Send>;

/// A handler that held the loop for longer than it should; to
/// [`EventLoop::on_slow_handler`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SlowHandler {
    /// The event that was handled, with its handle.
    pub event: Event,
    /// How long that took, with the sends that it led to.
    pub took: Duration,
}

impl fmt::Display for SlowHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler of {:?} took {:.1?}", self.event, self.took)
    }
}

pub(crate) struct Timing {
    pub(crate) metrics: Metrics,
    /// The turn has brought something and has not ended.
    in_turn: bool,
    /// When the last turn ended that had brought something.
    rested_at: u64,
    /// The weight of what was not timed since the last handler that was.
    weight: usize,
    /// The event whose handler is being timed, and since when.
    timed: Option<(Event, u64)>,
    /// From how many nanoseconds on a handler is slow, and whom to tell.
    slow: Option<(u64, Hook)>,
}

impl Timing {
    pub(crate) fn new(options: &LoopOptions, now: u64) -> Self {
        let warn: Hook = Box::new(|slow| log::warn!("{slow}"));
        Self {
            metrics: Metrics::new(),
            in_turn: false,
            rested_at: now,
            weight: 0,
            timed: None,
            slow: options.slow_handler.map(|least| (nanos(least), warn)),
        }
    }

    /// After a fork: the handler is the parent's to time.
    pub(crate) fn forget_handler(&mut self) {
        self.timed = None;
    }
}

impl<S: System> EventLoop<S> {
    /// Where this loop's time goes: in handlers, waiting, in turns; and how late timers are.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.timing.metrics
    }

    /// Calls `hook` after each handler that took `threshold` or longer, with the event it served:
    /// what held the loop, by handle. Replaces the hook before, and the warning of
    /// [`LoopOptions::slow_handler`](crate::LoopOptions::slow_handler).
    ///
    /// Every handler is timed for it, which costs two readings of the clock each, some 50 ns. The
    /// hook is called between two events; of a [`Closed`](Event::Closed) event the handle is stale
    /// by then. A handler that never returns is never reported.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{EventLoop, LoopOptions};
    /// # use std::time::Duration;
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// el.on_slow_handler(Duration::from_millis(50), |slow| {
    ///     eprintln!("{:?} held the loop for {:?}", slow.event, slow.took);
    /// });
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn on_slow_handler(
        &mut self,
        threshold: Duration,
        hook: impl FnMut(&SlowHandler) + Send + 'static,
    ) {
        self.timing.slow = Some((nanos(threshold), Box::new(hook)));
    }

    /// Ends what [`on_slow_handler`](Self::on_slow_handler) or
    /// [`LoopOptions::slow_handler`](crate::LoopOptions::slow_handler) began.
    pub fn ignore_slow_handlers(&mut self) {
        self.timing.slow = None;
    }

    /// A turn begins, at `now`: picks those whose handlers are to be timed.
    #[inline]
    pub(crate) fn turn_begins(&mut self) {
        if self.ready.is_empty()
            && !self.has_work()
            && self.deadlines.earliest().is_none_or(|at| at > self.now)
        {
            return;
        }
        self.timing.in_turn = true;
        self.watches.program_runs();
        let samples = if self.timing.slow.is_some() {
            self.ready.len()
        } else {
            self.timing.weight += self.ready.len().max(HEAVY);
            // Some may come to no event: no more than these are owed for the next turn.
            self.timing.weight = self.timing.weight.min(8 * TIMED_EVERY);
            self.timing.weight / TIMED_EVERY
        };
        // Any report is as good as another, but it should not always be the same.
        let first = self.timing.rested_at as usize % self.ready.len().max(1);
        for place in first..first + samples.min(self.ready.len()) {
            let report = self.ready[place % self.ready.len()];
            if let Some((_, conn)) = self.conns.find_mut(report.token) {
                conn.flags.set(Flags::TIMED);
            }
        }
    }

    /// An event is about to be handed out the long way: starts to time its handler, if it is due.
    #[inline]
    pub(crate) fn handler_begins(&mut self, event: Event) {
        self.timing.weight += HEAVY;
        if self.timing.weight < TIMED_EVERY && self.timing.slow.is_none() {
            return;
        }
        self.timing.weight = self.timing.weight.saturating_sub(TIMED_EVERY);
        self.timing.timed = Some((event, self.sys.now()));
        self.dirty.push(NOBODY);
    }

    /// The handler of the last event, and what it led to, is over.
    #[inline]
    pub(crate) fn handler_ends(&mut self) {
        let Some((event, since)) = self.timing.timed.take() else {
            return;
        };
        let took = self.sys.now().saturating_sub(since);
        self.timing.metrics.handler.record(took);
        if let Some((threshold, hook)) = &mut self.timing.slow
            && took >= *threshold
        {
            self.counters.slow_handlers += 1;
            hook(&SlowHandler {
                event,
                took: Duration::from_nanos(took),
            });
        }
    }

    /// There are no more events in this turn, or the program polls before it has seen them all.
    #[inline]
    pub(crate) fn turn_ends(&mut self) {
        if !std::mem::take(&mut self.timing.in_turn) {
            return;
        }
        let ended = self.sys.now();
        let before = self.now.saturating_sub(self.timing.rested_at);
        self.timing.metrics.waiting.record(before);
        let length = ended.saturating_sub(self.now);
        self.timing.metrics.turn.record(length);
        self.timing.rested_at = ended;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Kind;
    use crate::sys::{Readiness, Ready, Sim, SimOptions};

    #[test]
    fn a_report_for_what_has_ended_is_dropped_and_counted() {
        let sim = Sim::new(SimOptions::kind(1));
        let mut el = EventLoop::with_system(sim, LoopOptions::default()).unwrap();
        let (readiness, id) = (Readiness::READABLE, el.id());
        let kinds = [
            Kind::Conn,
            Kind::Listener,
            Kind::Attempt,
            Kind::Watch,
            Kind::Udp,
        ];
        let tokens = kinds.map(|kind| id.handle(kind));
        el.ready
            .extend(tokens.map(|token| Ready { token, readiness }));
        assert_eq!(el.next_event(), None);
        assert_eq!(el.counters().stale_events, 5);
    }
}
