//! Signals as events, on the real system and on the simulated one. Each test has signals of its
//! own, since all tests share the process.

mod util;

use std::time::{Duration, Instant};

use echoloop_core::sys::{Sim, SimOptions, System};
use echoloop_core::{ErrorKind, Event, EventLoop, LoopOptions, SignalId};
use nix::sys::signal::{Signal, raise};
use util::real::PATIENCE;

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

/// The next event, whatever it is.
fn next<S: System>(el: &mut EventLoop<S>) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = el.next_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(100))).unwrap();
    }
}

/// What is there now.
fn told<S: System>(el: &mut EventLoop<S>) -> Vec<Event> {
    el.poll(Some(Duration::ZERO)).unwrap();
    std::iter::from_fn(|| el.next_event()).collect()
}

fn event(signal: SignalId, number: Signal) -> Event {
    let number = number as i32;
    Event::Signal { signal, number }
}

/// Whether the process has a handler for a signal: SigCgt of proc_pid_status(5).
fn is_caught(number: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (number as i32 - 1) & 1 == 1
}

#[test]
fn a_signal_is_an_event_whichever_thread_it_reaches() {
    let mut el = new_loop();
    let signal = el.watch_signal(Signal::SIGUSR1 as i32).unwrap();
    raise(Signal::SIGUSR1).unwrap(); // Before the first poll.
    assert_eq!(next(&mut el), event(signal, Signal::SIGUSR1));
    let other = std::thread::spawn(|| raise(Signal::SIGUSR1).unwrap());
    assert_eq!(next(&mut el), event(signal, Signal::SIGUSR1));
    other.join().unwrap();
    assert_eq!(told(&mut el), []);
}

#[test]
fn a_burst_is_told_once_and_never_lost() {
    let mut el = new_loop();
    let signal = el.watch_signal(Signal::SIGWINCH as i32).unwrap();
    for _ in 0..20_000 {
        raise(Signal::SIGWINCH).unwrap(); // More than the socket pair holds.
    }
    assert_eq!(told(&mut el), [event(signal, Signal::SIGWINCH)]);
    raise(Signal::SIGWINCH).unwrap();
    assert_eq!(told(&mut el), [event(signal, Signal::SIGWINCH)]);
    assert_eq!(told(&mut el), []);
}

#[test]
fn each_loop_and_each_watch_of_a_signal_is_told() {
    let (mut one, mut two) = (new_loop(), new_loop());
    let number = Signal::SIGURG as i32;
    let signals = [
        one.watch_signal(number).unwrap(),
        one.watch_signal(number).unwrap(),
    ];
    let third = two.watch_signal(number).unwrap();
    assert_eq!(one.live_handles(), 2);
    raise(Signal::SIGURG).unwrap();
    assert_eq!(told(&mut one), signals.map(|s| event(s, Signal::SIGURG)));
    assert_eq!(told(&mut two), [event(third, Signal::SIGURG)]);

    one.unwatch_signal(signals[0]).unwrap();
    raise(Signal::SIGURG).unwrap();
    assert_eq!(told(&mut one), [event(signals[1], Signal::SIGURG)]);
    drop(one);
    assert_eq!(told(&mut two), [event(third, Signal::SIGURG)]);
    raise(Signal::SIGURG).unwrap();
    assert_eq!(told(&mut two), [event(third, Signal::SIGURG)]);
}

#[test]
fn after_the_last_unwatch_a_signal_does_nothing() {
    let mut el = new_loop();
    let signal = el.watch_signal(Signal::SIGPROF as i32).unwrap();
    raise(Signal::SIGPROF).unwrap();
    el.poll(Some(PATIENCE)).unwrap();
    el.unwatch_signal(signal).unwrap();
    assert_eq!(
        el.next_event(),
        None,
        "what was not told is not told any more"
    );
    raise(Signal::SIGPROF).unwrap(); // Its default action would end the process.
    assert_eq!(told(&mut el), []);
    let kind = el.unwatch_signal(signal).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::BadHandle);
    let again = el.watch_signal(Signal::SIGPROF as i32).unwrap();
    raise(Signal::SIGPROF).unwrap();
    assert_eq!(told(&mut el), [event(again, Signal::SIGPROF)]);
}

#[test]
fn no_disposition_is_touched_that_nobody_asked_for() {
    let mut el = new_loop();
    assert!(!is_caught(Signal::SIGUSR2) && !is_caught(Signal::SIGHUP));
    el.watch_signal(Signal::SIGHUP as i32).unwrap();
    assert!(is_caught(Signal::SIGHUP));
    el.poll(Some(Duration::ZERO)).unwrap();
    drop(el);
    assert!(!is_caught(Signal::SIGUSR2));
    for untouched in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        assert!(!is_caught(untouched));
    }
}

#[test]
fn what_is_no_signal_or_cant_be_watched_is_a_clear_error() {
    let mut el = new_loop();
    let forbidden = [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGSEGV,
    ];
    let numbers = forbidden.map(|s| s as i32);
    for number in numbers
        .into_iter()
        .chain([0, -1, 65, 1_000, i32::MIN, i32::MAX])
    {
        let e = el.watch_signal(number).unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::InvalidInput(_)), "{e}");
        assert_eq!(e.operation(), "watch signal");
    }
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn a_nested_loop_asks_for_a_turn_when_a_signal_came() {
    let sim = Sim::new(SimOptions::kind(1));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let signal = el.watch_signal(10).unwrap();
    el.nest();
    sim.raise(12);
    assert!(!sim.readable());
    sim.raise(10);
    sim.raise(10);
    assert!(sim.readable());
    let number = 10;
    assert_eq!(told(&mut el), [Event::Signal { signal, number }]);
    assert!(!sim.readable());
}
