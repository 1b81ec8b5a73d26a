//! Looking for watched descriptors that were closed without a word (promise 11).
//!
//! The rule: the kernel forgets a closed descriptor in silence, so whoever has lent one is asked
//! about, one `epoll_ctl` each, when the program may have closed it: between two waits. It may cost
//! at most a small share of the time: one question for each [`PACE`] that has passed. Before a wait
//! that may be long all are asked, over several short waits if need be; then nobody is, until the
//! program has run again.

use std::time::Duration;

use crate::sys::System;
use crate::watch::watches::{State, Watches};

/// A question takes about a quarter of a microsecond, so this is about 1%.
const PACE: u64 = 20_000;
/// No more than these at once.
const MOST: u64 = 256;

#[derive(Default)]
pub(crate) struct Sweep {
    /// Watches of descriptors that were only lent.
    pub(crate) borrowed: usize,
    /// The next slot to ask about, while a sweep is under way.
    next: Option<u32>,
    /// The program has run since the sweep began, so another must follow.
    stirred: bool,
    /// The last wait was shortened for the sweep.
    cut: bool,
    /// When questions were last earned.
    paid: u64,
}

impl Watches {
    /// Before a wait: asks about those that may have died, and answers how long the wait may be.
    pub(crate) fn sweep(
        &mut self,
        sys: &mut impl System,
        now: u64,
        timeout: Option<Duration>,
    ) -> Option<Duration> {
        if self.sweep.borrowed == 0 {
            return timeout;
        }
        if !std::mem::take(&mut self.sweep.cut) {
            self.sweep.stirred = true;
        }
        let mut earned = (now.saturating_sub(self.sweep.paid) / PACE).min(MOST);
        if earned > 0 {
            self.sweep.paid = now;
        }
        loop {
            if self.sweep.next.is_none() && std::mem::take(&mut self.sweep.stirred) {
                self.sweep.next = Some(0);
            }
            let Some(slot) = self.sweep.next else {
                break;
            };
            if slot >= self.slots.end() {
                self.sweep.next = None;
                continue;
            }
            if earned == 0 {
                break;
            }
            earned -= 1;
            self.sweep.next = Some(slot + 1);
            self.ask_about(sys, slot);
        }
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let Some(slot) = self.sweep.next else {
            return timeout;
        };
        if timeout == Some(Duration::ZERO) {
            return timeout;
        }
        let left = u64::from(self.slots.end() - slot).min(MOST);
        let pause = Duration::from_nanos(left * PACE);
        self.sweep.cut = timeout.is_none_or(|t| t > pause);
        Some(timeout.map_or(pause, |t| t.min(pause)))
    }

    /// The program is about to run, or has: whatever it lent may be closed after that.
    #[inline]
    pub(crate) fn program_runs(&mut self) {
        self.sweep.cut = false;
    }

    fn ask_about(&mut self, sys: &mut impl System, slot: u32) {
        let Some(watch) = self.slots.get(slot) else {
            return;
        };
        if watch.owned.is_some() || watch.state == State::Dead {
            return;
        }
        let answer = sys.probe(watch.fd);
        let lives = if watch.always {
            answer == Err(rustix::io::Errno::PERM)
        } else {
            answer.is_ok()
        };
        if !lives {
            self.died(slot);
        }
    }
}
