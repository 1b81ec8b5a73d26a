//! Timers of the program: one-shot and repeating.
//!
//! The rule: a timer never fires early, and a repeating one does not drift: each period starts
//! where the last one was due, and periods that were missed are skipped, not made up for.

use std::time::Duration;

use crate::conn::after;
use crate::deadlines::{DeadlineId, Owner};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::System;
use crate::turn::Current;
use crate::{Error, ErrorKind, Event, TimerId};

/// When a timer fires, for [`EventLoop::add_timer`].
///
/// ```
/// # use std::time::Duration;
/// use echoloop_core::TimerSpec;
///
/// let in_a_second = TimerSpec::after(Duration::from_secs(1));
/// let every_second = TimerSpec::every(Duration::from_secs(1)).user_data(7);
/// # let _ = (in_a_second, every_second);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimerSpec {
    delay: Duration,
    period: Option<Duration>,
    user_data: u64,
}

impl TimerSpec {
    /// Once, `delay` from now.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self {
            delay,
            period: None,
            user_data: 0,
        }
    }

    /// Again and again, the first time one `period` from now. A period of 0 counts as 1 ns: once
    /// a turn.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self {
            delay: period,
            period: Some(period),
            user_data: 0,
        }
    }

    /// The same, but the first time `delay` from now.
    #[must_use]
    pub fn first_after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A word of the program's own, kept with the timer.
    #[must_use]
    pub fn user_data(mut self, word: u64) -> Self {
        self.user_data = word;
        self
    }
}

pub(crate) struct Timer {
    pub(crate) deadline: DeadlineId,
    /// When it was last meant to fire.
    at: u64,
    /// In nanoseconds; 0 for one-shot.
    pub(crate) period: u64,
    pub(crate) user_data: u64,
    /// In the list of those due, and not re-armed since.
    pub(crate) due: bool,
}

impl<S: System> EventLoop<S> {
    /// Adds a timer. Its delay counts from this call, not from the start of the turn.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooMany`] with 16,777,216 timers alive.
    pub fn add_timer(&mut self, spec: TimerSpec) -> Result<TimerId, Error> {
        let at = after(self.sys.now(), spec.delay);
        let key = self.timers.insert(Timer {
            deadline: DeadlineId::NONE,
            at,
            period: spec.period.map_or(0, |p| after(0, p).max(1)),
            user_data: spec.user_data,
            due: false,
        })?;
        let deadline = self.deadlines.add(Owner::Timer(slot_of(key)));
        self.deadlines.arm(deadline, at);
        if let Some(timer) = self.timers.get_mut(slot_of(key)) {
            timer.deadline = deadline;
        }
        Ok(TimerId(key))
    }

    /// Moves a timer to fire `delay` from now; a repeating one goes on from there. If it was due
    /// in this turn and not handed out yet, it does not fire before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; a one-shot timer can be re-armed until the handler of its event
    /// ends.
    pub fn rearm_timer(&mut self, id: TimerId, delay: Duration) -> Result<(), Error> {
        let at = after(self.sys.now(), delay);
        let timer = self.find_timer(id, "re-arm timer")?;
        timer.at = at;
        timer.due = false;
        let deadline = timer.deadline;
        self.deadlines.arm(deadline, at);
        Ok(())
    }

    /// Removes a timer; it does not fire any more, also when it was due already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn cancel_timer(&mut self, id: TimerId) -> Result<(), Error> {
        let deadline = self.find_timer(id, "cancel timer")?.deadline;
        self.deadlines.remove(deadline);
        self.timers.remove(slot_of(id.0));
        Ok(())
    }

    /// The word that was given with the timer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn timer_user_data(&mut self, id: TimerId) -> Result<u64, Error> {
        Ok(self.find_timer(id, "timer user data")?.user_data)
    }

    fn find_timer(&mut self, id: TimerId, operation: &'static str) -> Result<&mut Timer, Error> {
        let found = self
            .timers
            .find(id.0)
            .and_then(|slot| self.timers.get_mut(slot));
        found.ok_or(Error::new(operation, ErrorKind::BadHandle))
    }

    /// Takes all deadlines that are due off the heap.
    fn collect_due(&mut self) {
        while let Some(owner) = self.deadlines.pop_due(self.now) {
            match owner {
                Owner::Timer(slot) => {
                    let key = self.timers.key(slot);
                    if let Some(timer) = self.timers.get_mut(slot) {
                        timer.due = true;
                        self.due.push_back(key);
                    }
                }
                Owner::Conn(slot) => self.conn_due(slot),
                Owner::Listener(slot) => self.try_accepting(slot),
            }
        }
    }

    pub(crate) fn next_timer(&mut self) -> Option<Event> {
        self.collect_due();
        while let Some(key) = self.due.pop_front() {
            let Some(slot) = self.timers.find(key) else {
                continue;
            };
            let Some(timer) = self.timers.get_mut(slot) else {
                continue;
            };
            if !std::mem::take(&mut timer.due) {
                continue;
            }
            let lag = self.now.saturating_sub(timer.at);
            self.counters.timers_fired += 1;
            self.timing.metrics.timer_lag.record(lag);
            if let Some(missed) = lag.checked_div(timer.period) {
                timer.at = timer
                    .at
                    .saturating_add((missed + 1).saturating_mul(timer.period));
                let (deadline, at) = (timer.deadline, timer.at);
                self.deadlines.arm(deadline, at);
            }
            self.current = Current::Timer(slot);
            return Some(Event::Timer {
                timer: TimerId(key),
            });
        }
        None
    }

    /// After the handler of a timer: a one-shot one that was not re-armed is gone.
    pub(crate) fn timer_handled(&mut self, slot: u32) {
        let Some(timer) = self.timers.get(slot) else {
            return;
        };
        if self.deadlines.at(timer.deadline).is_none() {
            self.deadlines.remove(timer.deadline);
            self.timers.remove(slot);
        }
    }
}
