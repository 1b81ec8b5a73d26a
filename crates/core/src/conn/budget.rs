//! The memory budget of a loop: what pauses above it, and how that ends (promise 5).
//!
//! The rule: a loop over its budget takes on nothing new, and loses nothing. Nobody is accepted;
//! those who knock wait in the backlog, and accepting goes on by itself. Reading and sending have
//! the exact budget for their bound; what is told, and accepting, go back only when an eighth of it
//! is free, or each byte could turn them.

use crate::Event;
use crate::conn::Flags;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    /// More is queued and unread than the budget allows.
    #[inline]
    pub(crate) fn over_budget(&self) -> bool {
        self.buffered > self.options.memory_budget
    }

    /// `OverBudget` or `UnderBudget` is to be told.
    pub(crate) fn budget_turned(&self) -> bool {
        let budget = self.options.memory_budget;
        if self.told_over_budget {
            self.buffered <= budget - budget / 8
        } else {
            self.over_budget()
        }
    }

    /// Tells what became of the budget since it was last told.
    pub(crate) fn next_budget_event(&mut self) -> Option<Event> {
        if !self.budget_turned() {
            return None;
        }
        self.told_over_budget = !self.told_over_budget;
        if !self.told_over_budget {
            return Some(Event::UnderBudget);
        }
        self.counters.over_budget += 1;
        Some(Event::OverBudget)
    }

    /// Over the budget, a connection with a queue is not read from until the loop is below it.
    pub(crate) fn starve(&mut self, slot: u32) {
        if !self.over_budget() {
            return;
        }
        // The queue of a piped connection grows by what the other one reads.
        let piped = self
            .conns
            .get(slot)
            .is_some_and(|c| c.flags.any(Flags::PIPED));
        let Some(slot) = (if piped {
            self.piped_with(slot)
        } else {
            Some(slot)
        }) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        // Who can't be noted is not held back: its own marks bound it too.
        let room = self.starved.try_reserve(1).is_ok();
        if room && !conn.flags.any(Flags::STARVED | Flags::BROKEN) {
            conn.flags.set(Flags::STARVED);
            self.counters.budget_pauses += 1;
            self.starved.push(slot);
        }
    }

    /// Somebody is starved, without need by now.
    pub(crate) fn may_feed(&self) -> bool {
        !self.starved.is_empty() && !self.over_budget()
    }

    /// Within the budget again, they are read from.
    pub(crate) fn feed_starved(&mut self) {
        if !self.may_feed() {
            return;
        }
        for slot in std::mem::take(&mut self.starved) {
            // The slot may have a new tenant by now; a visit too many does no harm.
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.clear(Flags::STARVED);
                if conn.queue.len() <= conn.options.low_mark {
                    conn.relieve();
                }
                self.requeue(slot);
            }
        }
    }
}
