//! Watched descriptors that are closed behind the loop's back (promise 11): each is told on its own
//! watch, by number, the loop goes on, and whoever has the number next is left alone.

mod util;

use std::io::{PipeReader, Write, pipe};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use echoloop_core::sys::{Os, System};
use echoloop_core::{ErrorKind, Event, EventLoop, Interest, LoopOptions, WatchMode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use util::real::PATIENCE;
use util::watching::{cpu_time, high, high_pipe, quiet, turn};

const MODES: [WatchMode; 3] = [WatchMode::Level, WatchMode::Edge, WatchMode::OneShot];

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

#[test]
fn promise_11_a_descriptor_closed_while_idle_is_told_by_its_number() {
    for mode in MODES {
        let (reader, _writer) = high_pipe(10_000);
        let mut el = new_loop();
        let watch = el.watch(&reader, Interest::READABLE, mode).unwrap();
        quiet(&mut el);
        let fd = reader.as_raw_fd();
        drop(reader);
        assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
        assert_eq!(el.unwatch(watch).unwrap_err().kind(), ErrorKind::BadHandle);
        assert_eq!(el.live_handles(), 0);
        quiet(&mut el);
    }
}

#[test]
fn a_descriptor_closed_by_its_own_handler_is_told() {
    for mode in MODES {
        let (reader, mut writer) = high_pipe(10_100);
        writer.write_all(b"x").unwrap();
        let mut el = new_loop();
        let watch = el.watch(&reader, Interest::READABLE, mode).unwrap();
        let fd = reader.as_raw_fd();
        el.poll(Some(PATIENCE)).unwrap();
        assert!(matches!(el.next_event(), Some(Event::Watch { .. })));
        drop(reader);
        assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
    }
}

#[test]
fn a_file_that_is_closed_is_told_too() {
    for mode in MODES {
        let file = std::fs::File::open("/dev/null").unwrap();
        let file = high(file.into(), 10_200);
        let mut el = new_loop();
        let watch = el.watch(&file, Interest::READABLE, mode).unwrap();
        assert!(matches!(turn(&mut el)[..], [Event::Watch { .. }]));
        let fd = file.as_raw_fd();
        drop(file);
        let deadline = Instant::now() + PATIENCE;
        while turn(&mut el) != [Event::WatchDead { watch, fd }] {
            assert!(Instant::now() < deadline);
        }
        quiet(&mut el);
    }
}

#[test]
fn the_others_go_on_and_one_may_be_unwatched_after_it_was_closed() {
    let (reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let alive = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let dead: Vec<_> = (0..10)
        .map(|_| {
            let (reader, writer) = high_pipe(10_300);
            let watch = el
                .watch(&reader, Interest::READABLE, WatchMode::Level)
                .unwrap();
            (watch, reader, writer)
        })
        .map(|(watch, reader, writer)| (watch, reader.into_raw_fd(), writer))
        .collect();
    // Closed only here, that no two have the same number.
    for (_, fd, _) in &dead {
        nix::unistd::close(*fd).unwrap();
    }
    el.unwatch(dead[0].0).unwrap();
    let mut told = turn(&mut el);
    told.sort_by_key(|e| format!("{e:?}"));
    let expected = dead[1..].iter().map(|(watch, fd, _)| Event::WatchDead {
        watch: *watch,
        fd: *fd,
    });
    let mut expected: Vec<_> = expected.collect();
    expected.sort_by_key(|e| format!("{e:?}"));
    assert_eq!(told, expected);
    writer.write_all(b"x").unwrap();
    assert!(matches!(turn(&mut el)[..], [Event::Watch { watch, .. }] if watch == alive));
}

/// Makes the number of `of` name what `by` names, in one step.
fn replace(of: &mut OwnedFd, by: &PipeReader) {
    rustix::io::dup2(by, of).unwrap();
}

#[test]
fn a_number_that_names_another_file_is_dead_and_the_other_file_is_not_told() {
    for mode in MODES {
        let (mut reader, _writer) = high_pipe(10_400);
        let (other, mut other_writer) = pipe().unwrap();
        let mut el = new_loop();
        let watch = el.watch(&reader, Interest::READABLE, mode).unwrap();
        replace(&mut reader, &other);
        other_writer.write_all(b"x").unwrap();
        let fd = reader.as_raw_fd();
        assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
        quiet(&mut el);
    }
}

#[test]
fn watching_a_number_anew_tells_the_old_watch_that_it_is_dead() {
    let (mut reader, _writer) = high_pipe(10_500);
    let (other, mut other_writer) = pipe().unwrap();
    let mut el = new_loop();
    let old = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let twice = el
        .watch(&reader, Interest::WRITABLE, WatchMode::Level)
        .unwrap_err();
    assert_eq!(twice.errno(), Some(Errno::EXIST.raw_os_error()));
    replace(&mut reader, &other);
    let new = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let fd = reader.as_raw_fd();
    assert_eq!(turn(&mut el), [Event::WatchDead { watch: old, fd }]);
    other_writer.write_all(b"x").unwrap();
    for _ in 0..3 {
        assert!(matches!(turn(&mut el)[..], [Event::Watch { watch, .. }] if watch == new));
    }
}

#[test]
fn unwatching_the_dead_leaves_the_next_tenant_of_its_number_alone() {
    let (mut reader, _writer) = high_pipe(10_600);
    let (other, mut other_writer) = pipe().unwrap();
    let mut el = new_loop();
    let old = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    replace(&mut reader, &other);
    let new = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    el.unwatch(old).unwrap();
    other_writer.write_all(b"x").unwrap();
    assert!(matches!(turn(&mut el)[..], [Event::Watch { watch, .. }] if watch == new));
}

#[test]
fn setting_the_interest_of_the_dead_is_an_error_with_its_number() {
    let (reader, _writer) = high_pipe(10_700);
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let fd = reader.as_raw_fd();
    drop(reader);
    for _ in 0..2 {
        let e = el.modify_watch(watch, Interest::READABLE).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadDescriptor(fd));
        assert_eq!(e.errno(), Some(Errno::BADF.raw_os_error()));
    }
    assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
}

#[test]
fn one_that_was_duplicated_and_closed_is_dead_and_its_reports_are_counted() {
    let (reader, mut writer) = high_pipe(10_800);
    let duplicate = reader.try_clone().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let fd = reader.as_raw_fd();
    drop(reader);
    assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
    // The kernel goes on reporting the open file to its old token, once for each arrival.
    for _ in 0..3 {
        writer.write_all(b"x").unwrap();
        quiet(&mut el);
    }
    assert_eq!(el.counters().stale_events, 3);
    drop(duplicate);
}

#[test]
fn one_that_comes_back_under_its_old_number_can_be_watched_again() {
    for unwatch_first in [true, false] {
        let (reader, mut writer) = high_pipe(11_200);
        let elsewhere = reader.try_clone().unwrap();
        let mut el = new_loop();
        let watch = el
            .watch(&reader, Interest::READABLE, WatchMode::Level)
            .unwrap();
        let fd = reader.as_raw_fd();
        drop(reader);
        if unwatch_first {
            el.unwatch(watch).unwrap();
        } else {
            assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
        }
        let back = high(elsewhere, fd);
        assert_eq!(back.as_raw_fd(), fd);
        let watch = el
            .watch(&back, Interest::READABLE, WatchMode::Level)
            .unwrap();
        writer.write_all(b"x").unwrap();
        assert!(matches!(turn(&mut el)[..], [Event::Watch { watch: w, .. }] if w == watch));
        el.unwatch(watch).unwrap();
    }
}

#[test]
fn an_adopted_descriptor_that_somebody_closed_is_not_closed_again() {
    let (reader, mut writer) = high_pipe(10_900);
    writer.write_all(b"x").unwrap();
    let fd = reader.as_raw_fd();
    let mut el = new_loop();
    let watch = el
        .watch_owned(reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    assert!(matches!(turn(&mut el)[..], [Event::Watch { .. }]));
    nix::unistd::close(fd).unwrap();
    // The next tenant of the number.
    let (tenant, mut tenant_writer) = high_pipe(fd);
    assert_eq!(tenant.as_raw_fd(), fd);
    let e = el.modify_watch(watch, Interest::READABLE).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BadDescriptor(fd));
    assert_eq!(turn(&mut el), [Event::WatchDead { watch, fd }]);
    drop(el);
    tenant_writer.write_all(b"x").unwrap();
    assert_eq!(rustix::io::read(&tenant, &mut [0]), Ok(1), "still open");
}

#[test]
fn a_socket_of_the_loop_that_gets_a_watched_number_is_left_alone() {
    // The number can't be had for sure through a loop, so this asks the system beneath.
    let mut os = Os::new(16).unwrap();
    let (mut reader, _writer) = high_pipe(11_000);
    let fd = reader.as_raw_fd();
    os.watch(fd, 1001, Interest::READABLE).unwrap();
    let (socket, mut peer) = UnixStream::pair().unwrap();
    rustix::io::dup2(&socket, &mut reader).unwrap();
    os.register(&reader, 2001).unwrap();
    assert_eq!(os.probe(fd), Err(Errno::NOENT));
    assert_eq!(os.rewatch(fd, 1001, Interest::READABLE), Err(Errno::NOENT));
    os.unwatch(fd);
    peer.write_all(b"x").unwrap();
    let mut ready = Vec::new();
    os.wait(Some(Duration::ZERO), &mut ready).unwrap();
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0].token, 2001);
    assert!(ready[0].readiness.is_readable());
}

/// Many descriptors that are borrowed.
fn many(n: usize, lowest: i32) -> (EventLoop, Vec<OwnedFd>) {
    let mut el = new_loop();
    let fds = (0..n).map(|_| {
        let fd = high(eventfd(0, EventfdFlags::CLOEXEC).unwrap(), lowest);
        el.watch(&fd, Interest::READABLE, WatchMode::Level).unwrap();
        fd
    });
    let fds = fds.collect();
    (el, fds)
}

#[test]
fn thousands_that_die_at_once_are_all_told() {
    let (mut el, fds) = many(3000, 12_000);
    quiet(&mut el);
    drop(fds);
    let mut told = 0;
    while told < 3000 {
        let events = turn(&mut el);
        assert!(events.iter().all(|e| matches!(e, Event::WatchDead { .. })));
        told += events.len();
    }
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn looking_for_the_dead_ends_and_then_the_loop_sleeps() {
    let (mut el, fds) = many(2000, 15_000);
    let a_while = Duration::from_millis(300);
    let (start, mut polls) = (Instant::now(), 0);
    loop {
        let slept = Instant::now();
        el.poll(Some(a_while)).unwrap();
        assert_eq!(el.next_event(), None);
        if slept.elapsed() >= a_while {
            break;
        }
        polls += 1;
        assert!(start.elapsed() < PATIENCE, "never sleeps");
    }
    // 2,000 questions, at most 256 at a time.
    assert!(polls <= 12, "{polls} polls");
    drop(fds);
}

#[test]
fn a_busy_loop_spends_little_time_on_looking_for_the_dead() {
    let turns = |watches: usize, lowest: i32| {
        let (mut el, fds) = many(watches, lowest);
        for _ in 0..2000 {
            el.poll(Some(Duration::ZERO)).unwrap();
        }
        let start = cpu_time();
        for _ in 0..20_000 {
            el.poll(Some(Duration::ZERO)).unwrap();
        }
        drop(fds);
        cpu_time() - start
    };
    let without = turns(0, 18_000).max(Duration::from_millis(1));
    let with = turns(1000, 18_000);
    // It is about 1%; this only sees that not all are asked about in each turn.
    assert!(with < without * 2, "{with:?} against {without:?}");
}
