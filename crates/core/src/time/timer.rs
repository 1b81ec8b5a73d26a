//! Timers of the program: one-shot and repeating.
//!
//! The rule: a timer never fires early, and a repeating one does not drift: each period starts
//! where the last one was due, and periods that were missed are skipped, not made up for.

use std::time::Duration;

use crate::conn::after;
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::System;
use crate::time::deadlines::Owner;
use crate::turn::{Current, pop};
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
    first: First,
    period: Option<Duration>,
    user_data: u64,
}

/// When a timer fires first.
#[derive(Clone, Copy, Debug)]
enum First {
    /// So long after it is added.
    After(Duration),
    /// When [`EventLoop::now`] is at least this.
    At(Duration),
}

impl TimerSpec {
    /// Once, `delay` from now.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self {
            first: First::After(delay),
            period: None,
            user_data: 0,
        }
    }

    /// Once, when [`EventLoop::now`] is at least `time`; in the next turn if it is already.
    ///
    /// Arming by a time reads no clock. A program that moves thousands of timers in one handler
    /// saves most of their cost by it.
    #[must_use]
    pub fn at(time: Duration) -> Self {
        Self {
            first: First::At(time),
            period: None,
            user_data: 0,
        }
    }

    /// Again and again, the first time one `period` from now. A period of 0 counts as 1 ns: once
    /// a turn.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self {
            first: First::After(period),
            period: Some(period),
            user_data: 0,
        }
    }

    /// The same, but the first time `delay` from now.
    #[must_use]
    pub fn first_after(mut self, delay: Duration) -> Self {
        self.first = First::After(delay);
        self
    }

    /// A word of the program's own, kept with the timer.
    #[must_use]
    pub fn user_data(mut self, word: u64) -> Self {
        self.user_data = word;
        self
    }
}

/// What a timer is beside its time, which the schedule has under the timer's slot.
pub(crate) struct Timer {
    /// In nanoseconds; 0 for one-shot.
    pub(crate) period: u64,
    pub(crate) user_data: u64,
}

/// Timers whose arming may be put off: few enough to be in the cache still when it is done.
pub(crate) const DELAYED_MAX: usize = 64;

impl<S: System> EventLoop<S> {
    /// Adds a timer: [`Event::Timer`](crate::Event::Timer) tells when it is due, never before.
    ///
    /// A delay counts from this call. In a handler, where the clock is read once for many such
    /// calls, it may count from as late as the end of the turn.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooMany`] with 16,777,216 timers alive, [`ErrorKind::OutOfMemory`],
    /// [`ErrorKind::Forked`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use echoloop_core::{Event, EventLoop, LoopOptions, TimerSpec};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let timer = el.add_timer(TimerSpec::after(Duration::from_millis(5)))?;
    /// while el.next_event() != Some(Event::Timer { timer }) {
    ///     el.poll(None)?;
    /// }
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn add_timer(&mut self, spec: TimerSpec) -> Result<TimerId, Error> {
        self.check_new("create timer")?;
        let key = self.timers.insert(Timer {
            period: spec.period.map_or(0, |p| after(0, p).max(1)),
            user_data: spec.user_data,
        })?;
        if !self.deadlines.add_timer(key) {
            self.timers.remove(slot_of(key));
            return Err(Error::new("create timer", ErrorKind::OutOfMemory));
        }
        match spec.first {
            First::After(delay) => self.arm_after(key, delay),
            First::At(time) => {
                self.arm_delayed(); // Those of one moment fire in the order of the calls.
                self.arm_timer(slot_of(key), after(self.start, time));
            }
        }
        Ok(TimerId(key))
    }

    /// Moves a timer to fire `delay` from now, counted as [`add_timer`](Self::add_timer) does; a
    /// repeating one goes on from there. If it was due in this turn and not handed out yet, it does
    /// not fire before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; a one-shot timer can be re-armed until the handler of its event
    /// ends.
    pub fn rearm_timer(&mut self, id: TimerId, delay: Duration) -> Result<(), Error> {
        self.find_timer(id, "re-arm timer")?;
        self.arm_after(id.0, delay);
        Ok(())
    }

    /// Moves a timer to fire when [`now`](Self::now) is at least `time`, as
    /// [`rearm_timer`](Self::rearm_timer) does for a delay. Reads no clock.
    ///
    /// # Errors
    ///
    /// As [`rearm_timer`](Self::rearm_timer).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use echoloop_core::{EventLoop, LoopOptions, TimerSpec};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let timer = el.add_timer(TimerSpec::at(Duration::from_secs(5)))?;
    /// let in_a_minute = el.now() + Duration::from_secs(60);
    /// el.rearm_timer_at(timer, in_a_minute)?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn rearm_timer_at(&mut self, id: TimerId, time: Duration) -> Result<(), Error> {
        let slot = self.find_timer(id, "re-arm timer")?;
        self.arm_delayed(); // The last arming counts.
        self.arm_timer(slot, after(self.start, time));
        Ok(())
    }

    /// Arms a timer to fire `delay` from now. In a turn that is put off, for one reading of the
    /// clock costs as much as all the rest, and holds up the processor besides.
    #[inline]
    fn arm_after(&mut self, key: u64, delay: Duration) {
        self.delayed.push((key, after(0, delay)));
        if !self.handing_out || self.delayed.len() >= DELAYED_MAX {
            self.arm_delayed();
        }
    }

    /// Arms what was put off, by one reading of the clock: it is later than all the calls.
    pub(crate) fn arm_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = self.sys.now();
        let mut delayed = std::mem::take(&mut self.delayed);
        for (key, delay) in delayed.drain(..) {
            if let Some(slot) = self.deadlines.find_timer(key) {
                let at = now.saturating_add(delay);
                self.deadlines.arm_timer(slot, at.max(self.now + 1));
            }
        }
        self.delayed = delayed;
        self.changed();
    }

    /// What is armed in one turn is due in a later one, so a handler that arms its own timer for now
    /// does not keep the loop from its connections.
    fn arm_timer(&mut self, slot: u32, at: u64) {
        self.deadlines.arm_timer(slot, at.max(self.now + 1));
        self.changed();
    }

    /// Removes a timer; it does not fire any more, also when it was due already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn cancel_timer(&mut self, id: TimerId) -> Result<(), Error> {
        let slot = self.find_timer(id, "cancel timer")?;
        self.deadlines.remove_timer(slot);
        self.changed();
        self.timers.remove(slot);
        Ok(())
    }

    /// The word that was given with the timer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn timer_user_data(&self, id: TimerId) -> Result<u64, Error> {
        let slot = self.find_timer(id, "timer user data")?;
        Ok(self.timers.get(slot).map_or(0, |timer| timer.user_data))
    }

    fn find_timer(&self, id: TimerId, operation: &'static str) -> Result<u32, Error> {
        let found = self.deadlines.find_timer(id.0);
        found.ok_or(Error::new(operation, ErrorKind::BadHandle))
    }

    /// Takes what is due off the heap, until as many connections have ended by it as may in a turn: to
    /// close a thousand that came together takes its time.
    fn collect_due(&mut self) {
        // Those for which there is no room stay where they are; there is always room for some.
        while (self.due.len() < self.due.capacity() || self.due.try_reserve(1).is_ok())
            && let Some(due) = self.deadlines.pop_due_timer(self.now)
        {
            self.due.push_back(due);
        }
        while self.left.overdue > 0
            && let Some(owner) = self.deadlines.pop_due(self.now)
        {
            match owner {
                Owner::Conn(slot) => self.left.overdue -= u16::from(self.conn_due(slot)),
                Owner::Listener(slot) => self.try_accepting(slot),
                Owner::Lookup(slot) => self.lookup_due(slot),
                Owner::Race(slot) => self.try_next_address(slot),
                Owner::Rate(slot) => self.tokens_came(slot),
                Owner::Connects => self.retry_connects(usize::MAX),
            }
        }
    }

    pub(crate) fn next_timer(&mut self) -> Option<Event> {
        self.arm_delayed();
        self.collect_due();
        while let Some(due) = pop(&mut self.due, &mut self.left.timers) {
            let (key, at) = (due.whose.get(), due.at);
            let Some((slot, timer)) = self.timers.find_mut(key) else {
                continue;
            };
            if !self.deadlines.rests_since(slot, &due) {
                continue; // Re-armed since, and perhaps due again: that stands further back.
            }
            let lag = self.now.saturating_sub(at);
            self.counters.timers_fired += 1;
            self.timing.metrics.timer_lag.record(lag);
            if let Some(missed) = lag.checked_div(timer.period) {
                let periods = (missed + 1).saturating_mul(timer.period);
                self.deadlines.arm_timer(slot, at.saturating_add(periods));
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
        self.arm_delayed();
        if self.deadlines.timer_at(slot).is_none() {
            self.deadlines.remove_timer(slot);
            self.timers.remove(slot);
        }
    }
}
