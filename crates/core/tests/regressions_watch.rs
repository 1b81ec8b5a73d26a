//! What once broke in watching descriptors, on the real system. Each test says what broke.

mod util;

use std::fs::{File, read_link};
use std::io::pipe;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use echoloop_core::{Event, EventLoop, Interest, LoopOptions, WatchMode};
use nix::sys::signal::{Signal, raise};
use util::real::PATIENCE;

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

/// The loop's own socket for signals got the number of a closed descriptor; ending the watch of
/// that one then took the socket out of the selector, and no signal was told any more.
#[test]
fn the_socket_for_signals_is_left_alone_when_it_gets_a_watched_number() {
    let deadline = Instant::now() + PATIENCE;
    let mut hits = 0;
    while hits < 4 {
        assert!(Instant::now() < deadline, "the number was never reused");
        let mut el = new_loop();
        let (reader, _writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let watch = el
            .watch(&reader, Interest::READABLE, WatchMode::Level)
            .unwrap();
        drop(reader);
        let number = Signal::SIGUSR1 as i32;
        let signal = el.watch_signal(number).unwrap();
        // Other tests may have been quicker to take the number.
        let link = read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        hits += usize::from(link.to_string_lossy().starts_with("socket:"));
        el.unwatch(watch).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        el.poll(Some(PATIENCE)).unwrap();
        assert_eq!(el.next_event(), Some(Event::Signal { signal, number }));
    }
}

/// A handler that armed the watch of a file again was told of it in the same turn, over and over:
/// the turn did not end.
#[test]
fn a_file_that_is_armed_again_in_its_handler_is_told_in_the_next_turn() {
    let file = File::open("/dev/null").unwrap();
    for mode in [WatchMode::Level, WatchMode::Edge, WatchMode::OneShot] {
        let mut el = new_loop();
        let watch = el.watch(&file, Interest::READABLE, mode).unwrap();
        for _ in 0..3 {
            el.poll(Some(PATIENCE)).unwrap();
            assert!(matches!(el.next_event(), Some(Event::Watch { .. })));
            el.modify_watch(watch, Interest::READABLE).unwrap();
            assert_eq!(el.next_event(), None);
        }
        // The same for one that is watched anew.
        el.poll(ZERO).unwrap();
        assert!(matches!(el.next_event(), Some(Event::Watch { .. })));
        el.unwatch(watch).unwrap();
        el.watch(&file, Interest::READABLE, mode).unwrap();
        assert_eq!(el.next_event(), None);
        el.poll(None).unwrap();
        assert!(matches!(el.next_event(), Some(Event::Watch { .. })));
    }
}
