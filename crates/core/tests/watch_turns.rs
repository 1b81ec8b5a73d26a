//! Watches in the turns of a loop: fairness, what handlers may do, handles, adopted descriptors.
//!
//! When a descriptor is told as what is in `watch`.

mod util;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echoloop_core::{
    ConnOptions, ErrorKind, Event, EventLoop, Interest, LoopOptions, Readiness, WatchId, WatchMode,
};
use rustix::event::{EventfdFlags, eventfd};
use util::real::{PATIENCE, Real};
use util::watching::{quiet, raise_limit, told, turn};

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

#[test]
fn a_watch_that_is_always_ready_starves_nobody() {
    let mut real = Real::new(ConnOptions::default());
    let (reader, mut writer) = pipe().unwrap();
    let (late, mut late_writer) = pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    writer.write_all(b"never read").unwrap();
    let [_, _, late_watch] = [reader.as_fd(), null.as_fd(), late.as_fd()].map(|fd| {
        real.el
            .watch(&fd, Interest::READABLE, WatchMode::Level)
            .unwrap()
    });
    let (mut client, conn) = real.pair();
    client.write_all(b"x").unwrap();
    real.until(|_, e| (e == Event::Data { conn }).then_some(()));
    late_writer.write_all(b"x").unwrap();
    let watch = late_watch;
    real.until(|_, e| matches!(e, Event::Watch { watch: w, .. } if w == watch).then_some(()));
    let timer = real
        .el
        .add_timer(echoloop_core::TimerSpec::after(Duration::from_millis(5)))
        .unwrap();
    real.until(|_, e| (e == Event::Timer { timer }).then_some(()));
}

#[test]
fn each_ready_watch_is_told_once_a_turn_however_small_the_batches_are() {
    let mut el = EventLoop::new(LoopOptions {
        events_per_turn: 3,
        ..LoopOptions::default()
    })
    .unwrap();
    let pipes: Vec<_> = (0..20).map(|_| pipe().unwrap()).collect();
    for (reader, writer) in &pipes {
        el.watch(reader, Interest::READABLE, WatchMode::Level)
            .unwrap();
        (&*writer).write_all(b"x").unwrap();
    }
    let mut counts = std::collections::HashMap::new();
    for _ in 0..200 {
        for event in turn(&mut el) {
            let Event::Watch { watch, .. } = event else {
                panic!("{event:?}");
            };
            *counts.entry(watch).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), pipes.len());
    assert!(counts.values().all(|n| (25..=35).contains(n)), "{counts:?}");
}

#[test]
fn a_handler_may_unwatch_itself_and_others() {
    let pipes: Vec<_> = (0..10).map(|_| pipe().unwrap()).collect();
    let mut el = new_loop();
    let mut watches = Vec::new();
    for (reader, writer) in &pipes {
        watches.push(
            el.watch(reader, Interest::READABLE, WatchMode::Level)
                .unwrap(),
        );
        (&*writer).write_all(b"x").unwrap();
    }
    el.poll(Some(PATIENCE)).unwrap();
    let first = el.next_event();
    assert!(matches!(first, Some(Event::Watch { watch, .. }) if watches.contains(&watch)));
    for watch in watches {
        el.unwatch(watch).unwrap();
        assert_eq!(el.unwatch(watch).unwrap_err().kind(), ErrorKind::BadHandle);
    }
    assert_eq!(
        el.next_event(),
        None,
        "what was reported before is not told"
    );
    quiet(&mut el);
    assert_eq!(el.live_handles(), 0);
    // All may be watched again.
    for (reader, _) in &pipes {
        el.watch(reader, Interest::READABLE, WatchMode::Level)
            .unwrap();
    }
    assert_eq!(turn(&mut el).len(), pipes.len());
}

#[test]
fn a_handler_may_watch_what_it_has_just_unwatched() {
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let mut el = new_loop();
    for mode in [WatchMode::Level, WatchMode::Edge, WatchMode::OneShot] {
        let old = el.watch(&reader, Interest::READABLE, mode).unwrap();
        assert_eq!(told(&mut el, old), Readiness::READABLE);
        el.unwatch(old).unwrap();
        let new = el.watch(&reader, Interest::READABLE, mode).unwrap();
        assert_ne!(old, new);
        assert_eq!(told(&mut el, new), Readiness::READABLE);
        el.unwatch(new).unwrap();
    }
}

#[test]
fn a_handler_may_change_what_it_asks_for() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"x").unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&ours, Interest::READABLE, WatchMode::Level)
        .unwrap();
    for _ in 0..3 {
        assert_eq!(told(&mut el, watch), Readiness::READABLE);
        el.modify_watch(watch, Interest::WRITABLE).unwrap();
        assert_eq!(told(&mut el, watch), Readiness::WRITABLE);
        el.modify_watch(watch, Interest::READABLE).unwrap();
    }
    // A report that nobody asks for any more is not told.
    el.poll(Some(PATIENCE)).unwrap();
    el.modify_watch(watch, Interest::NONE).unwrap();
    assert_eq!(el.next_event(), None);
    quiet(&mut el);
}

#[test]
fn an_adopted_descriptor_is_closed_with_its_watch_or_given_back() {
    let mut el = new_loop();
    let adopt = |el: &mut EventLoop| {
        let (ours, peer) = UnixStream::pair().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let watch = el
            .watch_owned(ours.into(), Interest::READABLE, WatchMode::Level)
            .unwrap();
        (watch, peer)
    };
    let (watch, mut peer) = adopt(&mut el);
    rustix::io::write(el.watched(watch).unwrap(), b"x").unwrap();
    peer.read_exact(&mut [0]).unwrap();
    el.unwatch(watch).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed");

    let (watch, mut peer) = adopt(&mut el);
    let back: OwnedFd = el.unwatch_owned(watch).unwrap();
    rustix::io::write(&back, b"x").unwrap();
    peer.read_exact(&mut [0]).unwrap();
    assert_eq!(
        el.unwatch_owned(watch).unwrap_err().kind(),
        ErrorKind::BadHandle
    );
    let borrowed = el
        .watch(&back, Interest::READABLE, WatchMode::Level)
        .unwrap();
    assert_eq!(el.watched_fd(borrowed).unwrap(), back.as_raw_fd());
    let refused = [
        el.unwatch_owned(borrowed).map(drop),
        el.watched(borrowed).map(drop),
    ];
    for e in refused {
        assert!(matches!(e.unwrap_err().kind(), ErrorKind::InvalidInput(_)));
    }

    let (_, mut peer) = adopt(&mut el);
    drop(el);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed with the loop");
}

#[test]
fn a_loop_is_watched_by_another_and_tells_what_it_watches_itself() {
    let (mut reader, mut writer) = pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let (mut outer, mut inner) = (new_loop(), new_loop());
    let inside = inner
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    let nested = outer
        .watch(&inner.descriptor(), Interest::READABLE, WatchMode::Level)
        .unwrap();
    quiet(&mut outer);
    let both = |outer: &mut EventLoop, inner: &mut EventLoop| {
        assert!(told(outer, nested).is_readable());
        inner.poll(Some(Duration::ZERO)).unwrap();
        std::iter::from_fn(|| inner.next_event()).collect::<Vec<Event>>()
    };
    writer.write_all(b"x").unwrap();
    let readiness = Readiness::READABLE;
    let watch = inside;
    for _ in 0..3 {
        let events = both(&mut outer, &mut inner);
        assert_eq!(events, [Event::Watch { watch, readiness }], "still ready");
    }
    reader.read_exact(&mut [0]).unwrap();
    quiet(&mut outer);
    // From outside of any turn of the inner loop.
    let watch = inner
        .watch(&null, Interest::READABLE, WatchMode::OneShot)
        .unwrap();
    for _ in 0..2 {
        let events = both(&mut outer, &mut inner);
        assert_eq!(events, [Event::Watch { watch, readiness }]);
        quiet(&mut outer);
        inner.modify_watch(watch, Interest::READABLE).unwrap();
    }
}

#[test]
fn any_wrong_handle_of_a_watch_is_bad_handle() {
    let (reader, _writer) = pipe().unwrap();
    let mut el = new_loop();
    let watch = el
        .watch(&reader, Interest::READABLE, WatchMode::Level)
        .unwrap();
    el.set_watch_user_data(watch, 9).unwrap();
    assert_eq!(el.watch_user_data(watch).unwrap(), 9);
    let mut other = new_loop();
    let timer = other
        .add_timer(echoloop_core::TimerSpec::after(PATIENCE))
        .unwrap();
    el.unwatch(watch).unwrap();
    for id in [
        watch,
        WatchId::from_raw(0),
        WatchId::from_raw(timer.to_raw()),
        WatchId::from_raw(u64::MAX),
    ] {
        for el in [&mut el, &mut other] {
            let answers = [
                el.modify_watch(id, Interest::READABLE),
                el.unwatch(id),
                el.unwatch_owned(id).map(drop),
                el.watched(id).map(drop),
                el.watched_fd(id).map(drop),
                el.watch_user_data(id).map(drop),
                el.set_watch_user_data(id, 1),
            ];
            for answer in answers {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::BadHandle);
            }
        }
    }
}

#[test]
fn thousands_of_descriptors_are_watched_and_each_is_told() {
    raise_limit();
    let mut el = new_loop();
    let fds: Vec<OwnedFd> = (0..3000)
        .map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap())
        .collect();
    assert!(fds.iter().any(|fd| fd.as_raw_fd() > 2048));
    let mut missing = std::collections::HashSet::new();
    for fd in &fds {
        missing.insert(
            el.watch(fd, Interest::READABLE, WatchMode::OneShot)
                .unwrap(),
        );
        rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
    }
    while !missing.is_empty() {
        for event in turn(&mut el) {
            let Event::Watch { watch, .. } = event else {
                panic!("{event:?}");
            };
            assert!(missing.remove(&watch), "told once");
        }
    }
}
