//! How a server ends: the drain, its grace, its deadline, and what stops make of it.
//!
//! The rule: a server drains once, and only goes on from there: it serves on without listening, for
//! the grace; it closes all, within the deadline; it cuts. Each stop is one step. What ends the drain
//! is that nobody is left, and among workers that nobody is on the way. `workers::team` keeps the steps
//! of several workers together.

use std::time::Duration;

use echoloop_core::sys::System;
use echoloop_core::{TimerId, TimerSpec};

use crate::workers::seat::Seat;
use crate::workers::team::Phase;
use crate::{Report, Server};

/// A drain that has begun.
pub(crate) struct Drain {
    pub(crate) report: Report,
    /// Ends the grace, in which connections are served on; `None` once they are being closed.
    pub(crate) grace: Option<TimerId>,
}

impl<S: System> Server<S> {
    /// Begins to drain: no more is accepted, connections are served on for the drain grace, then
    /// every one is flushed and closed, within the drain deadline. Poll on until
    /// [`report`](Self::report) has the result.
    pub fn drain(&mut self) {
        self.drain_with_grace(self.policy.drain_grace);
    }

    /// The same with another grace than the builder's. For a restart: what replaces this server is
    /// ready, who was accepted here is served on.
    pub fn drain_with_grace(&mut self, grace: Duration) {
        if self.drain.is_some() {
            return;
        }
        log::debug!("draining {} connections", self.el.connection_count());
        for listener in std::mem::take(&mut self.listeners) {
            // One that the program closed itself is gone already.
            let _ = self.el.close_listener(listener);
        }
        for udp in std::mem::take(&mut self.udps) {
            let _ = self.el.close_udp(udp);
        }
        if let Some(tick) = self.tick.take() {
            let _ = self.el.cancel_timer(tick);
        }
        let agreed = self.seat.as_ref().map(|seat| seat.drains(grace));
        let grace = match agreed.unwrap_or(grace) {
            Duration::ZERO => None,
            // Without room for a timer there is no grace.
            grace => self.el.add_timer(TimerSpec::after(grace)).ok(),
        };
        if grace.is_none() {
            self.el.shut_down(self.policy.drain_deadline);
        }
        self.drain = Some(Drain {
            report: Report::default(),
            grace,
        });
    }

    /// Whether a drain has begun. A server drains once: from then on it listens no more, and
    /// [`run`](Server::run) returns the report of that drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Cuts every connection that is left.
    pub fn abort_all(&mut self) {
        self.el.abort_all();
    }

    /// How the drain went, once it has ended.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let drain = self.drain.as_ref()?;
        let nobody_comes = self.seat.as_ref().is_none_or(Seat::is_over);
        (nobody_comes && self.el.connection_count() == 0).then_some(drain.report)
    }

    /// Whether the drain is past its grace: who is there is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(|drain| drain.grace.is_none())
    }

    pub(crate) fn is_grace(&self, timer: TimerId) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(|drain| drain.grace == Some(timer))
    }

    /// What [`run`](Server::run) does on [`Event::Stop`](crate::Event::Stop): the first stop begins a
    /// drain, the next ends its grace if there is one, the last cuts what is left. Of workers, all.
    pub fn stop(&mut self) {
        if let Some(seat) = &mut self.seat {
            return seat.stop();
        }
        if self.drain.is_none() {
            self.drain();
        } else if !self.end_grace() {
            self.abort_all();
        }
    }

    /// Ends the grace of a drain, if one is under way: all that is left is closed.
    pub(crate) fn end_grace(&mut self) -> bool {
        let grace = self.drain.as_mut().and_then(|drain| drain.grace.take());
        let Some(timer) = grace else { return false };
        let _ = self.el.cancel_timer(timer);
        self.el.shut_down(self.policy.drain_deadline);
        if let Some(seat) = &self.seat {
            seat.closes();
        }
        true
    }

    /// At the end of a turn: does what the workers together have been asked for.
    pub(crate) fn heed(&mut self) {
        let Some(seat) = &mut self.seat else { return };
        self.limits.lose(seat.lost(self.el.counters()));
        seat.tell(self.counters, self.el.counters());
        let phase = seat.phase();
        if phase == Phase::Serving {
            return;
        }
        let grace = seat.grace();
        self.drain_with_grace(grace);
        if phase == Phase::Cutting {
            self.abort_all(); // Before they could be closed.
        }
        if phase >= Phase::Closing {
            self.end_grace();
        }
    }
}
