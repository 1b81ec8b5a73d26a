//! Turns of a loop, for tests of what watches tell.

use std::io::{PipeWriter, pipe};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use echoloop_core::sys::System;
use echoloop_core::{Event, EventLoop, Readiness, WatchId};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

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

/// What a turn told of `watch`; of others nothing may come.
pub(crate) fn told<S: System>(el: &mut EventLoop<S>, watch: WatchId) -> Readiness {
    match turn(el)[..] {
        [
            Event::Watch {
                watch: w,
                readiness,
            },
        ] if w == watch => readiness,
        ref other => panic!("not one event of the watch: {other:?}"),
    }
}

/// A descriptor of the same open file, whose number no other test gets before `lowest` others are
/// open.
pub(crate) fn high(fd: OwnedFd, lowest: i32) -> OwnedFd {
    raise_limit();
    rustix::io::fcntl_dupfd_cloexec(fd, lowest).unwrap()
}

/// A pipe whose reading end has a high number.
pub(crate) fn high_pipe(lowest: i32) -> (OwnedFd, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (high(reader.into(), lowest), writer)
}

/// The processor time of this thread.
pub(crate) fn cpu_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32)
}

/// Allows as many descriptors as can be had; the tests need 20,000.
pub(crate) fn raise_limit() {
    let what = Resource::RLIMIT_NOFILE;
    let (_, hard) = getrlimit(what).unwrap();
    setrlimit(what, hard, hard).unwrap();
    assert!(
        hard >= 20_000,
        "no more than {hard} descriptors are allowed"
    );
}
