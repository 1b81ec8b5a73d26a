//! Turns of a loop, for tests of what watches tell.

use std::time::{Duration, Instant};

use echoloop_core::sys::System;
use echoloop_core::{Event, EventLoop};

use super::real::PATIENCE;

/// All events of the next turn that has any.
pub(crate) fn turn<S: System>(el: &mut EventLoop<S>) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(PATIENCE)).unwrap();
        let events: Vec<Event> = std::iter::from_fn(|| el.next_event()).collect();
        if !events.is_empty() {
            return events;
        }
    }
}

/// Nothing is told: the kernel has nothing, which it says at once.
pub(crate) fn quiet<S: System>(el: &mut EventLoop<S>) {
    for _ in 0..4 {
        el.poll(Some(Duration::ZERO)).unwrap();
        assert_eq!(el.next_event(), None);
    }
}
