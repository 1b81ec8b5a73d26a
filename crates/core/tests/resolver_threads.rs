//! The threads behind lookups: few, deaf to signals, gone when idle and when the loop is.
//!
//! They are counted by name in the whole process, so these tests take turns.

mod util;

use std::fs;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use echoloop_core::{ConnectOptions, Event, EventLoop, LoopOptions, Resolver};
use util::real::PATIENCE;

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver threads of this process, each with the text of its status file.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    statuses
        .filter(|status| status.starts_with("Name:\techoloop-dns\n"))
        .collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Counts those who wait at it, until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let wait = self
            .changed
            .wait_timeout_while(state, PATIENCE * 2, |state| !state.1);
        wait.unwrap().0.0 -= 1;
    }

    fn wait_for(&self, waiting: usize) {
        let state = self.state.lock().unwrap();
        let wait = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.0 < waiting);
        assert!(!wait.unwrap().1.timed_out());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

fn held_by(gate: &Arc<Gate>) -> EventLoop {
    let gate = Arc::clone(gate);
    let resolver = Resolver::new(move |_| {
        gate.pass();
        Ok(vec!["127.0.0.1".parse().unwrap()])
    });
    let options = LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    };
    EventLoop::new(options).unwrap()
}

#[test]
fn a_loop_has_no_thread_until_it_looks_up_then_at_most_four_and_none_when_idle() {
    let _turn = my_turn();
    let gate = Arc::new(Gate::default());
    let mut el = held_by(&gate);
    el.resolve("127.0.0.1", None).unwrap();
    assert_eq!(threads().len(), 0, "an address needs none");
    for n in 1..=10 {
        el.resolve("slow", None).unwrap();
        gate.wait_for(n.min(4));
        assert_eq!(threads().len(), n.min(4));
    }
    for status in threads() {
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:\t"));
        let blocked = u64::from_str_radix(blocked.unwrap(), 16).unwrap();
        // All but KILL and STOP, which cannot be, and those the C library keeps for itself.
        let may_not = [9, 19, 32, 33]
            .map(|n: u64| 1 << (n - 1))
            .iter()
            .sum::<u64>();
        assert_eq!(blocked | may_not, u64::MAX, "{blocked:x}");
    }
    gate.open();
    let mut told = 0;
    let deadline = Instant::now() + PATIENCE;
    while told < 11 {
        assert!(Instant::now() < deadline);
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            assert!(matches!(event, Event::Resolved { .. }));
            told += 1;
        }
    }
    // Those who were told of no more work end by themselves, and come back when there is some.
    until("no thread when idle", || threads().is_empty());
    let lookup = el.resolve("again", None).unwrap();
    let mut event = None;
    // The last thread of before may have rung once more than there was to tell, which ends a wait.
    while event.is_none() {
        assert!(Instant::now() < deadline + PATIENCE);
        el.poll(Some(PATIENCE)).unwrap();
        event = el.next_event();
    }
    assert_eq!(event, Some(Event::Resolved { lookup }));
}

#[test]
fn signals_of_the_thread_that_looks_up_stay_as_they_were() {
    let _turn = my_turn();
    let before = nix::sys::signal::SigSet::thread_get_mask().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    el.resolve("localhost", None).unwrap();
    assert_eq!(nix::sys::signal::SigSet::thread_get_mask().unwrap(), before);
    drop(el);
    until("the thread ends", || threads().is_empty());
}

#[test]
fn a_loop_that_is_dropped_waits_for_no_lookup_and_leaves_no_thread_and_no_memory() {
    let _turn = my_turn();
    let gate = Arc::new(Gate::default());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut el = held_by(&gate);
    for _ in 0..100 {
        el.resolve("slow", None).unwrap();
        el.connect("slow:1", &ConnectOptions::default()).unwrap();
    }
    gate.wait_for(4);
    let start = Instant::now();
    drop(el);
    assert!(
        start.elapsed() < PATIENCE / 2,
        "it waited for the stuck threads"
    );
    assert_eq!(descriptors(), before, "a stuck thread keeps no descriptor");
    assert_eq!(threads().len(), 4, "they are stuck still");
    gate.open();
    until("the threads end", || threads().is_empty());
    until("the resolver is dropped", || Arc::strong_count(&gate) == 1);
}
