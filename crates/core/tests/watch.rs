//! Watching raw descriptors (promise 11), on the real system: what is told, and when.
//!
//! What handlers may do is in `watch_turns`, those that die in `watch_dead`; the same table under a
//! selector is in `selector`.

mod util;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use echoloop_core::{Event, EventLoop, Interest, LoopOptions, Readiness, WatchMode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use util::real::PATIENCE;
use util::watching::{quiet, told, turn};

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

fn read_byte(reader: &mut PipeReader) {
    reader.read_exact(&mut [0]).unwrap();
}

#[test]
fn promise_11_a_level_triggered_watch_is_told_every_turn_while_it_is_ready() {
    let (mut reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    quiet(&mut el);
    writer.write_all(b"ab").unwrap();
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
    read_byte(&mut reader);
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
    read_byte(&mut reader);
    quiet(&mut el);
    writer.write_all(b"c").unwrap();
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
}

#[test]
fn an_edge_triggered_watch_is_told_when_something_new_comes() {
    let (reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Edge)
        .unwrap();
    for _ in 0..3 {
        writer.write_all(b"a").unwrap();
        assert_eq!(told(&mut el, watch), Readiness::READABLE);
        quiet(&mut el);
    }
    el.modify_watch(watch, Interest::READABLE).unwrap();
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
    quiet(&mut el);
}

#[test]
fn a_one_shot_watch_is_told_once_until_it_is_set_anew() {
    let (reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::OneShot)
        .unwrap();
    for _ in 0..3 {
        writer.write_all(b"a").unwrap();
        assert_eq!(told(&mut el, watch), Readiness::READABLE);
        for _ in 0..3 {
            writer.write_all(b"b").unwrap();
            quiet(&mut el);
        }
        el.modify_watch(watch, Interest::READABLE).unwrap();
        assert_eq!(told(&mut el, watch), Readiness::READABLE);
        el.modify_watch(watch, Interest::READABLE).unwrap();
    }
}

#[test]
fn every_kind_of_descriptor_that_poll_takes_can_be_watched() {
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let tty = nix::pty::openpty(None, None).unwrap();
    let (unix, mut unix_peer) = UnixStream::pair().unwrap();
    let (reader, mut writer) = pipe().unwrap();

    let mut el = new_loop();
    let fds: [&dyn AsFd; 5] = [&event, &timer, &tty.slave, &unix, &reader];
    let watches = fds.map(|fd| {
        el.watch(&fd.as_fd(), Interest::READABLE, WatchMode::Level)
            .unwrap()
    });
    quiet(&mut el);

    rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
    let in_a_moment = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: 1_000,
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &in_a_moment).unwrap();
    rustix::io::write(&tty.master, b"line\n").unwrap();
    unix_peer.write_all(b"x").unwrap();
    writer.write_all(b"x").unwrap();
    let mut missing = Vec::from(watches);
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "never told: {missing:?}");
        for event in turn(&mut el) {
            let Event::Watch { watch, readiness } = event else {
                panic!("{event:?}");
            };
            assert!(readiness.is_readable());
            missing.retain(|w| *w != watch);
        }
    }
}

#[test]
fn promise_11_files_and_the_like_are_always_ready() {
    let mut el = new_loop();
    let both = Interest::READABLE | Interest::WRITABLE;
    let always = Readiness::READABLE.and(Readiness::WRITABLE, true);
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    for fd in [
        &file,
        &File::open("/").unwrap(),
        &File::open("/dev/null").unwrap(),
    ] {
        let watch = el.watch(fd, both, WatchMode::Level).unwrap();
        for _ in 0..3 {
            el.poll(None).unwrap(); // Would not return if it slept.
            let event = el.next_event();
            let readiness = always;
            assert_eq!(event, Some(Event::Watch { watch, readiness }));
            assert_eq!(el.next_event(), None, "once a turn");
        }
        el.modify_watch(watch, Interest::PRIORITY).unwrap();
        quiet(&mut el);
        el.modify_watch(watch, Interest::NONE).unwrap();
        quiet(&mut el);
        el.modify_watch(watch, Interest::WRITABLE).unwrap();
        assert_eq!(told(&mut el, watch), Readiness::WRITABLE);
        el.unwatch(watch).unwrap();
        quiet(&mut el);

        for mode in [WatchMode::Edge, WatchMode::OneShot] {
            let watch = el.watch(fd, both, mode).unwrap();
            assert_eq!(told(&mut el, watch), always);
            quiet(&mut el);
            el.modify_watch(watch, Interest::READABLE).unwrap();
            assert_eq!(told(&mut el, watch), Readiness::READABLE);
            quiet(&mut el);
            el.unwatch(watch).unwrap();
        }
    }
}

fn fill(writer: &mut PipeWriter) {
    rustix::io::ioctl_fionbio(&*writer, true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
}

#[test]
fn room_to_write_is_told_while_there_is_some() {
    let (mut reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&writer, Interest::WRITABLE, WatchMode::Level)
        .unwrap();
    assert_eq!(told(&mut el, watch), Readiness::WRITABLE);
    assert_eq!(told(&mut el, watch), Readiness::WRITABLE);
    fill(&mut writer);
    quiet(&mut el);
    reader.read_exact(&mut [0; 8192]).unwrap();
    assert_eq!(told(&mut el, watch), Readiness::WRITABLE);
}

#[test]
fn a_hang_up_is_told_and_counts_as_readable() {
    let (reader, writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    drop(writer);
    for _ in 0..3 {
        let readiness = told(&mut el, watch);
        assert!(
            readiness.is_hang_up() && readiness.is_readable(),
            "{readiness}"
        );
        assert!(
            !readiness.is_writable() && !readiness.is_error(),
            "{readiness}"
        );
    }
}

#[test]
fn an_error_is_told_and_counts_as_writable() {
    let (reader, mut writer) = pipe().unwrap();
    fill(&mut writer);
    let mut el = new_loop();
    let watch = el
        .watch(&writer, Interest::WRITABLE, WatchMode::Level)
        .unwrap();
    quiet(&mut el);
    drop(reader);
    for _ in 0..3 {
        let readiness = told(&mut el, watch);
        assert!(
            readiness.is_error() && readiness.is_writable(),
            "{readiness}"
        );
        assert!(
            !readiness.is_readable() && !readiness.is_hang_up(),
            "{readiness}"
        );
    }
}

#[test]
fn who_asks_for_nothing_is_told_of_the_end_once() {
    let (reader, mut writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    writer.write_all(b"a").unwrap();
    assert_eq!(told(&mut el, watch), Readiness::READABLE);
    el.modify_watch(watch, Interest::NONE).unwrap();
    quiet(&mut el);
    drop(writer);
    let readiness = told(&mut el, watch);
    assert!(
        readiness.is_hang_up() && !readiness.is_readable(),
        "{readiness}"
    );
    quiet(&mut el);
    el.modify_watch(watch, Interest::READABLE).unwrap();
    assert!(told(&mut el, watch).is_hang_up());
    assert!(told(&mut el, watch).is_readable());
}

#[test]
fn urgent_data_is_priority_and_not_readable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let client = socket2::Socket::from(client);
    let mut el = new_loop();
    let watch = el
        .watch(&server, Interest::PRIORITY, WatchMode::Level)
        .unwrap();
    client.send_out_of_band(b"!").unwrap();
    assert_eq!(told(&mut el, watch), Readiness::PRIORITY);
    assert_eq!(told(&mut el, watch), Readiness::PRIORITY);
    let all = Interest::READABLE | Interest::PRIORITY;
    el.modify_watch(watch, all).unwrap();
    assert_eq!(told(&mut el, watch), Readiness::PRIORITY, "nothing to read");
    el.modify_watch(watch, Interest::READABLE).unwrap();
    quiet(&mut el);
    el.modify_watch(watch, Interest::NONE).unwrap();
    quiet(&mut el);
    client.send(b"plain").unwrap();
    el.modify_watch(watch, all).unwrap();
    let both = Readiness::READABLE.and(Readiness::PRIORITY, true);
    // The bytes may be on their way for a moment.
    let deadline = Instant::now() + PATIENCE;
    while told(&mut el, watch) != both {
        assert!(Instant::now() < deadline);
    }
    // Reading stops at the mark and then goes past it, after which nothing is urgent any more.
    server.read_exact(&mut [0; 5]).unwrap();
    quiet(&mut el);
}
