//! Telling what a peer can provoke at any rate, at a bounded rate.
//!
//! The rule: a line of log that peers can provoke must not be written for each of them, or they
//! fill the disk, or block the loop where nobody reads the log.

use std::time::Duration;

/// Lets one line a second through and counts the others.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seldom {
    last: Option<Duration>,
    untold: u64,
}

impl Seldom {
    /// Whether to tell now, at time `now` of the loop: with how many were not told since the last
    /// time, or `None`.
    pub fn tell(&mut self, now: Duration) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now < last + Duration::from_secs(1))
        {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_told_and_the_others_are_counted() {
        let mut seldom = Seldom::default();
        let told = [0, 300, 999, 1000, 1500, 2100].map(|ms| seldom.tell(Duration::from_millis(ms)));
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
