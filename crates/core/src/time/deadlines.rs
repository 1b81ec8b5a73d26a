//! All that falls due in a loop: the program's timers, and the deadlines of everything else.
//!
//! The rule: the earliest deadline is known exactly at any moment, so the loop wakes when it is due
//! and not before. A wheel of buckets would fire cheaper, but knows its next deadline only to the
//! width of a bucket and would wake the loop for nothing; `schedule` has what we use instead.
//!
//! Timers stand in a schedule of their own, under the numbers of their slots and with their whole
//! handle, so to check a handle and to move its timer touches one line of memory.

use std::num::NonZeroU64;

use crate::handle::slot_of;
use crate::time::schedule::{Due, Schedule};

/// Names one deadline while it is armed or kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeadlineId(u32);

impl DeadlineId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Whom a deadline that is no timer's belongs to: the slot of a connection and so on, or the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Conn(u32),
    Listener(u32),
    Lookup(u32),
    /// A connection whose connect tries several addresses: the next is to be tried.
    Race(u32),
    /// A connection whose rate makes it wait: it may be read again.
    Rate(u32),
    /// All connects that wait for a descriptor or a port.
    Connects,
}

/// A timer that fell due: its handle, when it was to, and by which arming.
pub(crate) type DueTimer = Due<NonZeroU64>;

#[derive(Default)]
pub(crate) struct Deadlines {
    /// By slot, with the handle; a handle is never 0.
    timers: Schedule<NonZeroU64>,
    /// By [`DeadlineId`].
    others: Schedule<Owner>,
    /// Numbers of `others` that were given back, and how many were made.
    free: Vec<u32>,
    made: u32,
}

impl Deadlines {
    /// When the earliest falls due, in nanoseconds of the loop's clock.
    pub(crate) fn earliest(&mut self) -> Option<u64> {
        match (self.timers.earliest(), self.others.earliest()) {
            (Some(timer), Some(other)) => Some(timer.min(other)),
            (timer, other) => timer.or(other),
        }
    }

    /// Disarms the earliest timer that is due at `now`, and returns it.
    pub(crate) fn pop_due_timer(&mut self, now: u64) -> Option<DueTimer> {
        self.timers.pop_due(now)
    }

    /// Disarms the earliest of all else that is due at `now`, and returns whose it was.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Owner> {
        self.others.pop_due(now).map(|due| due.whose)
    }

    /// Makes room for a deadline of `owner`, who is not a timer; not yet armed. `None` when there is
    /// no memory for it.
    pub(crate) fn add(&mut self, owner: Owner) -> Option<DeadlineId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                // All that were made may be given back, at times when nothing can be refused.
                self.free.try_reserve(self.made as usize + 1).ok()?;
                if !self.others.make_room(self.made) {
                    return None;
                }
                self.made += 1;
                self.made - 1
            }
        };
        self.others.give(id, owner);
        Some(DeadlineId(id))
    }

    /// When `id` falls due; `None` while it is not armed.
    pub(crate) fn at(&self, id: DeadlineId) -> Option<u64> {
        self.others.at(id.0)
    }

    /// Arms `id`, or moves it, to fall due at `at`.
    pub(crate) fn arm(&mut self, id: DeadlineId, at: u64) {
        self.others.arm(id.0, at);
    }

    /// Disarms `id`, which stays its owner's.
    pub(crate) fn disarm(&mut self, id: DeadlineId) {
        self.others.disarm(id.0);
    }

    /// Disarms `id` and forgets it.
    pub(crate) fn remove(&mut self, id: DeadlineId) {
        if id == DeadlineId::NONE {
            return;
        }
        self.others.take_back(id.0);
        self.free.push(id.0);
    }

    /// Makes room for the timer of this handle; not yet armed. False when there is no memory for it.
    #[must_use]
    pub(crate) fn add_timer(&mut self, key: u64) -> bool {
        let room = self.timers.make_room(slot_of(key));
        if room && let Some(timer) = NonZeroU64::new(key) {
            self.timers.give(slot_of(key), timer);
        }
        room
    }

    /// The slot of a timer, if `key` is the whole handle of one that was added.
    #[inline]
    pub(crate) fn find_timer(&self, key: u64) -> Option<u32> {
        let (timer, slot) = (NonZeroU64::new(key)?, slot_of(key));
        (self.timers.whose(slot) == Some(timer)).then_some(slot)
    }

    /// The timer in `slot` was not armed again since it fell due.
    pub(crate) fn rests_since(&self, slot: u32, due: &DueTimer) -> bool {
        self.timers.rests_since(slot, due)
    }

    /// When the timer in `slot` falls due; `None` while it is not armed.
    pub(crate) fn timer_at(&self, slot: u32) -> Option<u64> {
        self.timers.at(slot)
    }

    /// Arms the timer in `slot`, or moves it, to fall due at `at`.
    #[inline]
    pub(crate) fn arm_timer(&mut self, slot: u32, at: u64) {
        self.timers.arm(slot, at);
    }

    /// Disarms the timer in `slot` and forgets it.
    #[inline]
    pub(crate) fn remove_timer(&mut self, slot: u32) {
        self.timers.take_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{Kind, pack};
    use crate::sys::Random;

    /// Owners come and go, their numbers are given to others, and all is due in order of time.
    #[test]
    fn a_deadline_is_told_to_who_has_it_now() {
        Random::each_seed(100_000, |_, random| {
            let mut deadlines = Deadlines::default();
            let mut others: Vec<(DeadlineId, u32, Option<u64>)> = Vec::new();
            let mut timers: Vec<(u64, Option<u64>)> = Vec::new();
            for step in 0..20 + random.below(20) as u32 {
                let at = random.below(30);
                let other = random.below(others.len() as u64) as usize;
                let timer = random.below(timers.len() as u64) as usize;
                match random.below(8) {
                    0 | 1 => {
                        let id = deadlines.add(Owner::Conn(step)).unwrap();
                        assert_eq!(deadlines.at(id), None);
                        others.push((id, step, None));
                    }
                    2 if !others.is_empty() => deadlines.remove(others.swap_remove(other).0),
                    3 if !others.is_empty() => {
                        deadlines.arm(others[other].0, at);
                        others[other].2 = Some(at);
                    }
                    4 => {
                        let slot = step % 4;
                        if timers.iter().all(|(key, _)| slot_of(*key) != slot) {
                            let key = pack(Kind::Timer, 3, slot, step + 1);
                            assert!(deadlines.add_timer(key));
                            timers.push((key, None));
                        }
                    }
                    5 if !timers.is_empty() => {
                        let (key, _) = timers.swap_remove(timer);
                        deadlines.remove_timer(slot_of(key));
                        assert_eq!(deadlines.find_timer(key), None);
                    }
                    6 if !timers.is_empty() => {
                        let slot = deadlines.find_timer(timers[timer].0).unwrap();
                        deadlines.arm_timer(slot, at);
                        timers[timer].1 = Some(at);
                    }
                    _ => {
                        while let Some(Owner::Conn(name)) = deadlines.pop_due(at) {
                            let owner = others.iter_mut().find(|o| o.1 == name);
                            let due = owner.expect("it lives").2.take();
                            assert!(due.expect("was armed") <= at, "early");
                        }
                        while let Some(due) = deadlines.pop_due_timer(at) {
                            let timer = timers.iter_mut().find(|t| t.0 == due.whose.get());
                            assert_eq!(timer.expect("it lives").1.take(), Some(due.at));
                            assert!(due.at <= at, "early");
                            let slot = slot_of(due.whose.get());
                            assert!(deadlines.rests_since(slot, &due));
                        }
                        let late = |left: &Option<u64>| left.is_some_and(|due| due <= at);
                        assert!(
                            !others.iter().any(|o| late(&o.2))
                                && !timers.iter().any(|t| late(&t.1))
                        );
                    }
                }
                let armed = others
                    .iter()
                    .filter_map(|o| o.2)
                    .chain(timers.iter().filter_map(|t| t.1));
                assert_eq!(deadlines.earliest(), armed.min());
            }
        });
    }
}
