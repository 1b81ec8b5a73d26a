//! The only place where a test lets time pass.
//!
//! [`until`] and [`within`] poll with a deadline, [`throughout`] watches that something stays true, [`keep_up`] repeats an action at
//! a pace. No other file of this crate sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// The deadline of any wait whose length is not itself under test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `probe` until it yields a value, and returns that value.
///
/// # Panics
/// When `limit` has passed, with `what` in the message.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match within(limit, probe) {
        Some(found) => found,
        None => panic!("waited {limit:?} in vain for this: {what}"),
    }
}

/// Polls `probe` until it yields a value or `limit` has passed.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() >= limit {
            return None;
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

/// Watches for `span` that `holds` is true at every look.
#[track_caller]
pub fn throughout(what: &str, span: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        let after = start.elapsed();
        assert!(holds(), "after {after:?} this no longer holds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Does `action` every `interval` for `span`: a client that talks slowly but steadily.
#[track_caller]
pub fn keep_up(interval: Duration, span: Duration, mut action: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < span {
        action();
        thread::sleep(interval);
    }
}
