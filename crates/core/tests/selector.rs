//! The swap test: a program that uses only a selector, in the manner of CPython's
//! `test_selectors.py`, finds what level-triggered selectors promise.
//!
//! What is told in each state is compared with poll(2) in `selector_model`.

mod util;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{Error, ErrorKind, Interest, Readiness, Selected, Selector, WatchMode};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use util::real::PATIENCE;
use util::watching::{high, high_pipe, raise_limit};

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const NO_TIME: Option<Duration> = Some(Duration::ZERO);

/// What one wait tells.
fn wait(selector: &mut Selector, timeout: Option<Duration>) -> Vec<Selected> {
    let mut selected = vec![
        Selected {
            key: 0,
            fd: -1,
            readiness: Readiness::READABLE
        };
        3
    ]; // Which is to be thrown away.
    selector.wait(timeout, &mut selected).unwrap();
    selected
}

/// The keys of those that are ready now, in order.
fn ready_now(selector: &mut Selector) -> Vec<u64> {
    let mut keys: Vec<u64> = wait(selector, NO_TIME).iter().map(|s| s.key).collect();
    keys.sort_unstable();
    keys
}

fn is_errno(answer: Result<(), Error>, errno: Errno) {
    assert_eq!(answer.unwrap_err().errno(), Some(errno.raw_os_error()));
}

#[test]
fn what_is_registered_can_be_looked_up() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    assert!(selector.is_empty());
    selector.register(&a, READ | WRITE, 7).unwrap();
    assert_eq!(selector.registered(a.as_raw_fd()), Some((READ | WRITE, 7)));
    selector.modify(a.as_raw_fd(), READ).unwrap();
    assert_eq!(selector.registered(a.as_raw_fd()), Some((READ, 7)));
    assert_eq!(selector.len(), 1);
    selector.unregister(a.as_raw_fd()).unwrap();
    assert_eq!(selector.registered(a.as_raw_fd()), None);
    assert!(selector.is_empty());
}

#[test]
fn registering_twice_is_an_error_and_changes_nothing() {
    let (a, _b) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&a, WRITE, 1).unwrap();
    selector.register(&null, READ, 2).unwrap();
    is_errno(selector.register(&a, READ, 3), Errno::EXIST);
    is_errno(selector.register(&null, READ, 3), Errno::EXIST);
    assert_eq!(ready_now(&mut selector), [1, 2]);
    assert_eq!(selector.len(), 2);
}

#[test]
fn what_is_not_registered_is_unknown() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    for fd in [a.as_raw_fd(), -1, RawFd::MAX] {
        is_errno(selector.unregister(fd), Errno::NOENT);
        is_errno(selector.modify(fd, READ), Errno::NOENT);
        assert_eq!(selector.registered(fd), None);
    }
    selector.register(&a, READ, 1).unwrap();
    selector.unregister(a.as_raw_fd()).unwrap();
    is_errno(selector.unregister(a.as_raw_fd()), Errno::NOENT);
}

#[test]
fn a_closed_descriptor_can_be_unregistered() {
    let (reader, _writer) = high_pipe(5_000);
    let fd = reader.as_raw_fd();
    let mut selector = Selector::new().unwrap();
    selector.register(&reader, READ, 1).unwrap();
    drop(reader);
    selector.unregister(fd).unwrap();
    assert_eq!(ready_now(&mut selector), []);
    assert!(selector.is_empty());
}

#[test]
fn a_number_that_was_closed_and_used_again_can_be_unregistered_and_registered() {
    let (mut reader, _writer) = high_pipe(5_100);
    let (other, mut other_writer) = pipe().unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&reader, READ, 1).unwrap();
    rustix::io::dup2(&other, &mut reader).unwrap();
    selector.unregister(reader.as_raw_fd()).unwrap();
    selector.register(&reader, READ, 2).unwrap();
    other_writer.write_all(b"x").unwrap();
    assert_eq!(ready_now(&mut selector), [2]);

    // Without unregistering the old one first.
    rustix::io::dup2(&_writer, &mut reader).unwrap();
    selector.register(&reader, READ | WRITE, 3).unwrap();
    let told = wait(&mut selector, NO_TIME);
    let dead: Vec<u64> = told
        .iter()
        .filter(|s| s.readiness.is_invalid())
        .map(|s| s.key)
        .collect();
    assert_eq!(dead, [2]);
    assert_eq!(selector.len(), 1);
}

#[test]
fn a_closed_descriptor_is_told_once_by_its_number_and_the_others_go_on() {
    let (reader, _writer) = high_pipe(5_200);
    let (alive, mut alive_writer) = pipe().unwrap();
    let fd = reader.as_raw_fd();
    let mut selector = Selector::new().unwrap();
    selector.register(&alive, READ, 1).unwrap();
    selector.register(&reader, READ, 2).unwrap();
    drop(reader);
    let told = wait(&mut selector, Some(PATIENCE));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].key, told[0].fd), (2, fd));
    assert!(told[0].readiness.is_invalid());
    is_errno(selector.unregister(fd), Errno::NOENT);
    alive_writer.write_all(b"x").unwrap();
    assert_eq!(ready_now(&mut selector), [1]);
    assert_eq!(selector.len(), 1);
}

#[test]
fn changing_a_closed_descriptor_names_it() {
    let (reader, _writer) = high_pipe(5_300);
    let fd = reader.as_raw_fd();
    let mut selector = Selector::new().unwrap();
    selector.register(&reader, READ, 1).unwrap();
    drop(reader);
    let e = selector.modify(fd, READ).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BadDescriptor(fd));
}

#[test]
fn what_asks_for_nothing_is_not_ready() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&a, READ, 1).unwrap();
    b.write_all(b"x").unwrap();
    assert_eq!(ready_now(&mut selector), [1]);
    selector.modify(a.as_raw_fd(), Interest::NONE).unwrap();
    assert_eq!(ready_now(&mut selector), []);
    selector.modify(a.as_raw_fd(), READ).unwrap();
    assert_eq!(ready_now(&mut selector), [1]);
}

#[test]
fn readers_and_writers_of_socket_pairs_are_told_apart() {
    let pairs: Vec<_> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
    let mut selector = Selector::new().unwrap();
    for (n, (a, b)) in (0..).zip(&pairs) {
        selector.register(a, READ, 2 * n).unwrap();
        selector.register(b, WRITE, 2 * n + 1).unwrap();
    }
    let writers: Vec<u64> = (0..20).map(|n| 2 * n + 1).collect();
    assert_eq!(ready_now(&mut selector), writers);
    for (_, b) in &pairs {
        (&*b).write_all(b"message").unwrap();
    }
    let all: Vec<u64> = (0..40).collect();
    for _ in 0..3 {
        assert_eq!(ready_now(&mut selector), all, "again, since nobody reads");
    }
    for (a, _) in &pairs {
        (&*a).read_exact(&mut [0; 7]).unwrap();
    }
    assert_eq!(ready_now(&mut selector), writers);
}

#[test]
fn a_file_is_always_ready() {
    let file = File::open("/").unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&file, READ, 1).unwrap();
    for _ in 0..3 {
        assert_eq!(wait(&mut selector, None)[0].key, 1); // Would not return if it slept.
    }
    selector.unregister(file.as_raw_fd()).unwrap();
    assert_eq!(ready_now(&mut selector), []);
}

#[test]
fn other_modes_tell_less_often() {
    let (reader, mut writer) = pipe().unwrap();
    let mut selector = Selector::new().unwrap();
    for mode in [WatchMode::Edge, WatchMode::OneShot] {
        writer.write_all(b"x").unwrap();
        selector.register_as(&reader, READ, mode, 1).unwrap();
        assert_eq!(ready_now(&mut selector), [1]);
        assert_eq!(ready_now(&mut selector), []);
        writer.write_all(b"x").unwrap();
        let again = mode == WatchMode::Edge;
        assert_eq!(ready_now(&mut selector).len(), usize::from(again));
        selector.modify(reader.as_raw_fd(), READ).unwrap();
        assert_eq!(ready_now(&mut selector), [1]);
        selector.unregister(reader.as_raw_fd()).unwrap();
    }
}

#[test]
fn a_wait_takes_its_time_and_no_less() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    for registered in [false, true] {
        if registered {
            selector.register(&a, READ, 1).unwrap();
        }
        let start = Instant::now();
        assert_eq!(wait(&mut selector, NO_TIME), []);
        assert!(start.elapsed() < Duration::from_millis(50));
        let a_while = Duration::from_millis(60);
        let start = Instant::now();
        assert_eq!(wait(&mut selector, Some(a_while)), []);
        assert!((a_while..PATIENCE).contains(&start.elapsed()));
    }
    let mut b = _b;
    b.write_all(b"x").unwrap();
    // More milliseconds than the system can count.
    assert_eq!(wait(&mut selector, Some(Duration::MAX)).len(), 1);
}

#[test]
fn thousands_that_are_ready_at_once_are_told_by_one_wait() {
    raise_limit();
    let fds: Vec<OwnedFd> = (0..3000)
        .map(|_| high(eventfd(1, EventfdFlags::CLOEXEC).unwrap(), 1024))
        .collect();
    let mut selector = Selector::new().unwrap();
    for (n, fd) in (0..).zip(&fds) {
        selector.register(fd, READ | WRITE, n).unwrap();
    }
    let all: Vec<u64> = (0..3000).collect();
    assert_eq!(ready_now(&mut selector), all);
    assert_eq!(ready_now(&mut selector), all);
    for fd in &fds {
        rustix::io::read(fd, &mut [0; 8]).unwrap();
    }
    let told = wait(&mut selector, NO_TIME);
    assert_eq!(told.len(), 3000);
    assert!(told.iter().all(|s| s.readiness == Readiness::WRITABLE));
}

#[test]
fn a_signal_ends_a_wait_early_with_nothing() {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&flag)).unwrap();
    let (a, _b) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register(&a, READ, 1).unwrap();
    let waiting = pthread_self() as u64;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    // Sent again and again, since nobody can tell when the wait has begun.
    let sender = thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            pthread_kill(waiting as _, Signal::SIGUSR1).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let start = Instant::now();
    assert_eq!(wait(&mut selector, Some(PATIENCE)), []);
    over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(flag.load(Ordering::Relaxed));
}

#[test]
fn another_thread_may_end_a_wait() {
    let mut selector = Selector::new().unwrap();
    let waker = selector.waker();
    let again = waker.clone();
    let thread = thread::spawn(waker);
    let start = Instant::now();
    assert_eq!(wait(&mut selector, Some(PATIENCE)), []);
    thread.join().unwrap();
    again(); // Before the wait.
    assert_eq!(wait(&mut selector, Some(PATIENCE)), []);
    assert!(start.elapsed() < PATIENCE / 2);
}
